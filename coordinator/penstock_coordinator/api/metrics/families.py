"""One answer to a scrape: the families of metrics, to be filled."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import accumulate
from typing import TYPE_CHECKING, TypeAlias

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.utils import floatToGoString

if TYPE_CHECKING:
    from penstock_coordinator.api.metrics.declared import Metric
    from penstock_coordinator.core.counts.histogram import Histogram

Family: TypeAlias = CounterMetricFamily | GaugeMetricFamily | HistogramMetricFamily


class Families:
    """Each is there from the beginning, so that who reads the page sees what there could be."""

    def __init__(self, declared: Sequence[Metric]) -> None:
        self._families = {metric.name: _family(metric) for metric in declared}

    def put(self, name: str, value: float, *labels: str) -> None:
        """`name` is without the prefix. Labels are in the order of the declaration."""
        family = self._families[f"penstock_{name}"]
        assert not isinstance(family, HistogramMetricFamily)
        family.add_metric(labels, value)

    def put_histogram(self, name: str, histogram: Histogram, *labels: str) -> None:
        family = self._families[f"penstock_{name}"]
        assert isinstance(family, HistogramMetricFamily)
        bounds = (*map(floatToGoString, histogram.bounds), "+Inf")
        family.add_metric(labels, list(zip(bounds, accumulate(histogram.counts), strict=True)), histogram.sum)

    def collect(self) -> Iterable[Family]:
        return self._families.values()


def _family(metric: Metric) -> Family:
    match metric.kind:
        case "counter":
            return CounterMetricFamily(metric.name, metric.meaning, labels=metric.labels)
        case "gauge":
            return GaugeMetricFamily(metric.name, metric.meaning, labels=metric.labels)
        case "histogram":
            return HistogramMetricFamily(metric.name, metric.meaning, labels=metric.labels)

"""The page `/metrics` of an agent. What is on it is read when somebody asks for it."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import accumulate
from typing import Literal, NamedTuple, TypeAlias

from prometheus_client import ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from penstock_agent.core.counts import RUN_SECONDS
from penstock_agent.core.leases import Status
from penstock_agent.runtime.observed import AgentState


class Declared(NamedTuple):
    name: str
    kind: Literal["counter", "gauge", "histogram"]
    labels: tuple[str, ...]
    meaning: str


AGENT: tuple[Declared, ...] = (
    Declared("penstock_agent_build_info", "gauge", ("version",), "1; the release is the label"),
    Declared("penstock_agent_connected", "gauge", (), "1 while it has a session with a coordinator"),
    Declared("penstock_agent_relayed", "gauge", (), "1 while a coordinator that follows passes its session on"),
    Declared("penstock_agent_links", "gauge", (), "members of its head that it has a session with"),
    Declared("penstock_agent_draining", "gauge", (), "1 once it takes no new leases, because it is to end"),
    Declared("penstock_agent_slots", "gauge", (), "attempts that it runs at once"),
    Declared("penstock_agent_slots_used", "gauge", (), "attempts that run"),
    Declared("penstock_agent_leases", "gauge", (), "leases that it holds, with results that are not acknowledged"),
    Declared(
        "penstock_agent_attempts_total",
        "counter",
        ("result",),
        "leases that are over: ok, failed, cancelled, timed_out, lease_expired, returned",
    ),
    Declared(
        "penstock_agent_leases_adopted_total",
        "counter",
        (),
        "leases that another coordinator has taken over, as theirs was gone or had given the run away",
    ),
    Declared("penstock_agent_attempt_duration_seconds", "histogram", (), "how long attempts ran"),
    Declared("penstock_agent_spooled_results", "gauge", (), "results in the spool: not acknowledged yet"),
    Declared("penstock_agent_spool_bytes", "gauge", (), "bytes of the spool's file"),
    Declared("penstock_agent_disk_free_bytes", "gauge", (), "bytes left on the disk of the data folder"),
    Declared("penstock_agent_disk_size_bytes", "gauge", (), "bytes that there are in all"),
    Declared(
        "penstock_agent_disk_floor_bytes", "gauge", (), "PENSTOCK_AGENT_DISK_FLOOR_BYTES: with less it takes no work"
    ),
    Declared("penstock_agent_step_processes", "gauge", (), "step processes, with idle ones"),
    Declared("penstock_agent_reconnects_total", "counter", (), "streams home that were opened after the first one"),
    Declared(
        "penstock_agent_environment_builds_total", "counter", ("result",), "Python environments built: ok, failed"
    ),
    Declared("penstock_agent_artifact_cache_bytes", "gauge", (), "bytes of artifacts that are kept for later attempts"),
    Declared("penstock_agent_log_lines_waiting", "gauge", (), "log lines that wait to be sent"),
    Declared(
        "penstock_agent_event_loop_lag_seconds",
        "gauge",
        (),
        "how late the event loop came to what was due: the most of about the last 15 s",
    ),
)
"""At `/metrics` of an agent; those of prometheus-client about the process besides."""

Family: TypeAlias = CounterMetricFamily | GaugeMetricFamily | HistogramMetricFamily
_FAMILIES: dict[str, type[CounterMetricFamily] | type[GaugeMetricFamily] | type[HistogramMetricFamily]] = {
    "counter": CounterMetricFamily,
    "gauge": GaugeMetricFamily,
    "histogram": HistogramMetricFamily,
}
_process = ProcessCollector(registry=None)


def page(state: AgentState, accept: str) -> tuple[bytes, str]:
    """The page and its content type. `accept`: what the caller takes."""
    encode, content_type = choose_encoder(accept)
    return encode(_Scrape([*_families(state), *_process.collect()])), content_type


def _families(state: AgentState) -> Iterable[Metric]:
    values: dict[str, float | None] = {
        "connected": state.connected,
        "relayed": state.relayed,
        "links": state.links,
        "leases_adopted_total": state.attempts.adopted,
        "draining": state.draining,
        "slots": state.slots,
        "slots_used": state.slots_used,
        "leases": state.leases,
        "spooled_results": state.spooled_results,
        "spool_bytes": state.spool_bytes,
        "disk_free_bytes": state.disk_free_bytes,
        "disk_size_bytes": state.disk_size_bytes,
        "disk_floor_bytes": state.disk_floor_bytes,
        "step_processes": state.step_processes,
        "reconnects_total": state.reconnects,
        "artifact_cache_bytes": state.artifact_cache_bytes,
        "log_lines_waiting": state.log_lines_waiting,
        "event_loop_lag_seconds": state.event_loop_lag,
    }
    for declared in AGENT:
        family: Family = _FAMILIES[declared.kind](declared.name, declared.meaning, labels=declared.labels)
        name = declared.name.removeprefix("penstock_agent_")
        if isinstance(family, HistogramMetricFamily):
            bounds = (*map(floatToGoString, RUN_SECONDS), "+Inf")
            counts = state.attempts.durations
            family.add_metric((), list(zip(bounds, accumulate(counts), strict=True)), state.attempts.seconds)
        elif name in values:
            if (value := values[name]) is None:
                continue
            family.add_metric((), float(value))
        else:
            for label, value in _labelled(name, state):
                family.add_metric((label,), value)
        yield family


def _labelled(name: str, state: AgentState) -> Iterable[tuple[str, float]]:
    match name:
        case "build_info":
            yield state.version, 1
        case "attempts_total":
            yield from ((status.name.lower(), state.attempts.results[status]) for status in Status)
            yield "returned", state.attempts.returned
        case _:
            assert name == "environment_builds_total", name
            yield from state.builds.items()


class _Scrape(Collector):
    def __init__(self, found: list[Metric]) -> None:
        self._found = found

    def collect(self) -> Iterable[Metric]:
        return self._found

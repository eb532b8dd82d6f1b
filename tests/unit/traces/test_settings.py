"""OpenTelemetry's variables, as Penstock reads them."""

from __future__ import annotations

import pytest

from penstock_coordinator.core.traces.sampling import ratio
from penstock_coordinator.identity import CannotStart
from penstock_coordinator.trace_settings import BadTraceSettings, trace_settings
from penstock_coordinator.tracing import open_tracing

ENDPOINT = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4317"}


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"OTEL_SERVICE_NAME": "x", "OTEL_EXPORTER_OTLP_ENDPOINT": ""},
        {**ENDPOINT, "OTEL_TRACES_EXPORTER": "none"},
        {**ENDPOINT, "OTEL_SDK_DISABLED": "True"},
    ],
)
def test_without_a_receiver_there_are_no_traces(environment: dict[str, str]) -> None:
    assert trace_settings(environment) is None


@pytest.mark.parametrize(
    "environment",
    [ENDPOINT, {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://h:4317"}, {"OTEL_TRACES_EXPORTER": "otlp"}],
)
def test_with_one_all_is_sampled_unless_the_caller_says_no(environment: dict[str, str]) -> None:
    found = trace_settings(environment)
    assert found is not None
    assert (found.sampler, found.seconds, found.batch) == (ratio(1.0, by_parent=True), 5.0, 512)


@pytest.mark.parametrize(
    ("name", "argument", "sampler"),
    [
        ("always_off", "", ratio(0.0, by_parent=False)),
        ("parentbased_always_off", "", ratio(0.0, by_parent=True)),
        ("traceidratio", "0.1", ratio(0.1, by_parent=False)),
        ("parentbased_traceidratio", "0.25", ratio(0.25, by_parent=True)),
        ("parentbased_traceidratio", "", ratio(1.0, by_parent=True)),
    ],
)
def test_samplers(name: str, argument: str, sampler: object) -> None:
    found = trace_settings({**ENDPOINT, "OTEL_TRACES_SAMPLER": name, "OTEL_TRACES_SAMPLER_ARG": argument})
    assert found is not None
    assert found.sampler == sampler


@pytest.mark.parametrize(
    ("environment", "told"),
    [
        ({"OTEL_TRACES_EXPORTER": "zipkin"}, "OTEL_TRACES_EXPORTER='zipkin'.*otlp"),
        ({"OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"}, "OTEL_EXPORTER_OTLP_PROTOCOL.*grpc"),
        ({"OTEL_TRACES_SAMPLER": "jaeger_remote"}, "OTEL_TRACES_SAMPLER.*traceidratio"),
        (
            {"OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": "10%"},
            "OTEL_TRACES_SAMPLER_ARG='10%'.*from 0 to 1",
        ),
        ({"OTEL_BSP_SCHEDULE_DELAY": "0"}, "OTEL_BSP_SCHEDULE_DELAY='0'.*from 1"),
    ],
)
def test_what_cannot_be_done_is_said(environment: dict[str, str], told: str) -> None:
    with pytest.raises(BadTraceSettings, match=told):
        trace_settings({**ENDPOINT, **environment})


@pytest.mark.parametrize(
    ("variable", "value", "name"),
    [
        ("OTEL_EXPORTER_OTLP_HEADERS", "tenant=t,authorization=pass%C3%A9", "authorization"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "a%20b=pass", "a b"),
        ("OTEL_EXPORTER_OTLP_TRACES_HEADERS", "key-bin=pass", "key-bin"),
    ],
)
def test_a_header_that_no_call_could_have_is_refused_at_the_start_without_its_value(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, name: str
) -> None:
    for each, given in {**ENDPOINT, variable: value}.items():
        monkeypatch.setenv(each, given)
    with pytest.raises(CannotStart, match=f"^{variable}: the header '{name}'") as refused:
        open_tracing()
    assert "pass" not in str(refused.value)

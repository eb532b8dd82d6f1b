"""Ids of traces and spans, and which traces are sampled."""

import pytest
from opentelemetry.sdk.trace.sampling import Decision, TraceIdRatioBased

from penstock_coordinator.core.traces.ids import Kind, passed_on, span_id, trace_of, traceparent
from penstock_coordinator.core.traces.sampling import ratio

RUN = bytes(range(16))
CALLER = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def test_the_callers_trace_is_the_runs() -> None:
    trace = trace_of(RUN, (("TraceParent", CALLER), ("tracestate", "a=1")))
    assert trace.trace_id.hex() == "0af7651916cd43dd8448eb211c80319c"
    assert trace.parent.hex() == "b7ad6b7169203331"
    assert trace.sampled is True
    assert trace_of(RUN, (("traceparent", CALLER[:-1] + "0"),)).sampled is False


@pytest.mark.parametrize(
    "context",
    [
        (),
        (("baggage", CALLER),),
        (("traceparent", "00-1-2-01"),),
        (("traceparent", f"ff{CALLER[2:]}"),),
        (("traceparent", f"{CALLER}-more"),),
        (("traceparent", f"00-{'0' * 32}-b7ad6b7169203331-01"),),
        (("traceparent", f"00-0af7651916cd43dd8448eb211c80319c-{'0' * 16}-01"),),
    ],
)
def test_without_a_caller_the_trace_follows_from_the_run(context: tuple[tuple[str, str], ...]) -> None:
    trace = trace_of(RUN, context)
    assert trace == trace_of(RUN, ())
    assert trace.sampled is None
    assert (len(trace.trace_id), trace.parent) == (16, b"")
    assert trace.trace_id != trace_of(bytes(16), ()).trace_id


def test_ids_stay_as_they_are() -> None:
    """Those of a run that began before an upgrade go on after it."""
    assert trace_of(RUN, ()).trace_id.hex() == "71d841006e41e1db8956f5227cab5294"
    assert span_id(RUN, Kind.EXECUTION, 3, -1, 17).hex() == "a034258b5109e5c7"


def test_each_span_has_an_id_of_its_own() -> None:
    ids = {span_id(RUN, kind, first, item, 7) for kind in Kind for first in (0, 1) for item in (-1, 0, 1)}
    assert len(ids) == len(Kind) * 2 * 3


def test_a_later_caller_hands_its_span_on() -> None:
    parent = traceparent(bytes(15) + b"\x01", bytes(7) + b"\x02", sampled=False)
    assert parent == f"00-{'0' * 31}1-{'0' * 15}2-00"
    assert passed_on((("Traceparent", CALLER), ("tracestate", "a=1")), parent) == (
        ("traceparent", parent),
        ("tracestate", "a=1"),
    )


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 1.0])
def test_a_ratio_samples_what_opentelemetry_samples(share: float) -> None:
    ours, theirs = ratio(share, by_parent=False), TraceIdRatioBased(share)
    traces = [trace_of(number.to_bytes(16, "big"), ()) for number in range(2_000)]
    sampled = [ours.samples(trace) for trace in traces]
    assert sampled == [
        theirs.should_sample(None, int.from_bytes(trace.trace_id, "big"), "run").decision is Decision.RECORD_AND_SAMPLE
        for trace in traces
    ]
    assert abs(sum(sampled) / len(traces) - share) < 0.05


def test_a_caller_decides_for_its_trace() -> None:
    sampled, unsampled = (trace_of(RUN, (("traceparent", CALLER[:-1] + flag),)) for flag in "10")
    nothing, everything = ratio(0.0, by_parent=True), ratio(1.0, by_parent=True)
    assert nothing.samples(sampled)
    assert not everything.samples(unsampled)
    assert not ratio(0.0, by_parent=False).samples(sampled)

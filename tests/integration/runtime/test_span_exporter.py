"""What is sent of sampled runs, to a real receiver: once if nothing happens, and the same again after a crash."""

from __future__ import annotations

from typing import TYPE_CHECKING

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2  # type: ignore[import-untyped]  # the package has no stubs
from tests.integration.runtime.test_runs import spec
from tests.receiver import Refusal, receiving, told
from tests.waiting import until

from penstock_coordinator.adapters.otlp import OtlpSink
from penstock_coordinator.core.counts.spans import SpanCounts
from penstock_coordinator.core.traces.ids import trace_of
from penstock_coordinator.core.traces.sampling import ratio
from penstock_coordinator.core.traces.spans import Link, Moment, Span
from penstock_coordinator.ports import SpansRefused, Unavailable
from penstock_coordinator.runtime.span_exporter import ExportPace, SpanExporter
from penstock_coordinator.runtime.traces import Traces

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.integration.runtime.conftest import Coordinator, World
    from tests.receiver import Receiver

ONE = spec({"name": "a"})
TWO = spec({"name": "a"}, {"name": "b", "depends_on": ["a"]})
UNSAMPLED = (("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"),)


@pytest.fixture
def receiver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    with receiving() as made:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://{made.address}")
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "1")
        yield made


def traced(coordinator: Coordinator) -> SpanExporter:
    traces = coordinator.supervisor.traces = Traces(ratio(1.0, by_parent=True))
    return SpanExporter(coordinator.supervisor, traces, OtlpSink(), ExportPace(batch=3))


async def test_what_a_step_is_told_is_the_parent_of_what_it_does(world: World, receiver: Receiver) -> None:
    coordinator = await world.coordinator()
    exporter = traced(coordinator)
    agent = coordinator.agent()
    await agent.connect(credits=10)
    run_id = await coordinator.start(ONE)
    grant = await agent.grant()
    _, trace_id, parent, flags = grant.trace_context["traceparent"].split("-")
    await agent.succeed(grant)
    await coordinator.ended(run_id)
    assert await exporter.run_once() == len(receiver.spans) == receiver.received
    assert trace_id == trace_of(run_id, ()).trace_id.hex()
    assert flags == "01"
    assert {span.name for span in receiver.of_trace(trace_id)} == {"run p", "step a", "queued", "attempt", "leased"}
    assert bytes.fromhex(parent) not in receiver.spans, "this agent does not tell when it began"
    (attempt,) = (span for span in receiver.spans.values() if span.name == "attempt")
    assert told(attempt)["penstock.attempt.outcome"] == "COMPLETED"
    assert await exporter.run_once() == 0
    await exporter.close(5.0)


async def test_of_a_run_that_nobody_samples_an_agent_derives_the_trace_or_is_told(world: World) -> None:
    coordinator = await world.coordinator()
    coordinator.supervisor.traces = Traces(ratio(0.0, by_parent=True))
    told, derives = coordinator.agent(), coordinator.agent("agent-2")
    derives.features = ["derives_trace"]
    for agent in (told, derives):
        await agent.connect(credits=1)
    run_ids = [await coordinator.start(ONE) for _ in range(2)]
    trace_ids = {run_id: trace_of(run_id, ()).trace_id.hex() for run_id in run_ids}
    grant = await told.grant()
    assert not grant.unsampled
    assert grant.trace_context["traceparent"].split("-")[1::2] == [trace_ids[grant.lease.run_id], "00"]
    grant = await derives.grant()
    assert grant.unsampled
    assert not grant.trace_context


async def test_of_what_a_caller_does_not_sample_nothing_is_sent(world: World, receiver: Receiver) -> None:
    coordinator = await world.coordinator()
    exporter = traced(coordinator)
    agent = coordinator.agent()
    await agent.connect(credits=10)
    run_id = await coordinator.start(ONE, trace_context=UNSAMPLED)
    grant = await agent.grant()
    assert grant.trace_context["traceparent"].endswith("-00")
    assert grant.trace_context["traceparent"].startswith(UNSAMPLED[0][1][:36])
    await agent.succeed(grant)
    await coordinator.ended(run_id)
    assert await exporter.run_once() == 0
    await exporter.close(5.0)


async def test_after_a_crash_the_same_is_sent_again_and_the_rest(world: World, receiver: Receiver) -> None:
    first = await world.coordinator()
    exporter = traced(first)
    agent = first.agent()
    await agent.connect(credits=1)
    done = await first.start(ONE)
    await first.start(TWO)
    await agent.succeed(await agent.grant())
    await first.ended(done)
    await exporter.run_once()
    sent = set(receiver.spans)
    await first.kill()
    second = await world.coordinator()
    exporter = traced(second)
    await exporter._remember_ended()
    await exporter.run_once()
    assert sent <= set(receiver.spans)
    assert receiver.received > len(sent), "the run that had ended was sent again"
    assert receiver.changed == []
    await exporter.close(5.0)


async def test_while_the_receiver_is_away_nothing_is_lost(
    world: World, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    coordinator = await world.coordinator()
    with receiving() as short:
        address = short.address
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://{address}")
    exporter = traced(coordinator)
    agent = coordinator.agent()
    await agent.connect(credits=10)
    run_id = await coordinator.start(ONE)
    await agent.succeed(await agent.grant())
    await coordinator.ended(run_id)
    assert await exporter.run_once() == 0
    with receiving(address) as back:

        async def sent() -> bool:
            return await exporter.run_once() == 5

        await until(sent)
        assert len(back.spans) == back.received == 5
    await exporter.close(5.0)


async def with_a_run(world: World) -> tuple[SpanExporter, SpanCounts]:
    """A run of one step has ended, and its five spans are not sent yet."""
    coordinator = await world.coordinator()
    exporter = traced(coordinator)
    agent = coordinator.agent()
    await agent.connect(credits=10)
    run_id = await coordinator.start(ONE)
    await agent.succeed(await agent.grant())
    await coordinator.ended(run_id)
    return exporter, coordinator.supervisor.counts.spans


async def test_what_the_receiver_refuses_for_ever_holds_nothing_up(world: World, receiver: Receiver) -> None:
    exporter, counts = await with_a_run(world)
    receiver.refusals = [Refusal(grpc.StatusCode.INVALID_ARGUMENT)]
    assert await exporter.run_once() == len(receiver.spans) == 2, "the first three of the five were refused"
    assert (counts.sent, counts.refused) == (2, 3)
    assert await exporter.run_once() == 0
    await exporter.close(5.0)


@pytest.mark.parametrize(("counted", "refused"), [(1, 2), (99, 5), (-7, 0)])
async def test_no_more_spans_were_refused_than_were_sent(
    world: World, receiver: Receiver, counted: int, refused: int
) -> None:
    exporter, counts = await with_a_run(world)
    receiver.rejected = counted
    assert await exporter.run_once() == 5 - refused
    assert (counts.sent, counts.refused) == (5 - refused, refused)
    await exporter.close(5.0)


SOON = error_details_pb2.RetryInfo()
SOON.retry_delay.FromMilliseconds(1_500)
DETAILS = status_pb2.Status(code=8)
DETAILS.details.add().Pack(SOON)
SPANS = [(bytes(range(16)), Span(bytes([number] * 8), b"", "s", 1, 2)) for number in (1, 2)]


@pytest.mark.parametrize(
    ("code", "trailers", "again"),
    [
        ("UNAVAILABLE", (), (None,)),
        ("DEADLINE_EXCEEDED", (), (None,)),
        ("CANCELLED", (), (None,)),
        ("UNAVAILABLE", (("google.rpc.retryinfo-bin", SOON.SerializeToString()),), (1_500_000,)),
        ("RESOURCE_EXHAUSTED", (("grpc-status-details-bin", DETAILS.SerializeToString()),), (1_500_000,)),
        ("RESOURCE_EXHAUSTED", (("grpc-status-details-bin", b"no status"),), ()),
        ("RESOURCE_EXHAUSTED", (), ()),
        ("INVALID_ARGUMENT", (("google.rpc.retryinfo-bin", SOON.SerializeToString()),), ()),
        ("UNIMPLEMENTED", (), ()),
        ("UNAUTHENTICATED", (), ()),
        ("INTERNAL", (), ()),
        ("UNKNOWN", (), ()),
    ],
)
async def test_codes_mean_what_the_protocol_says(
    receiver: Receiver, code: str, trailers: tuple[tuple[str, bytes], ...], again: tuple[int | None, ...]
) -> None:
    """`again`: microseconds, if they are sent again."""
    sink = OtlpSink()
    receiver.refusals = [Refusal(grpc.StatusCode[code], trailers)]
    with pytest.raises(Unavailable if again else SpansRefused, match=code) as raised:
        await sink.send(SPANS)
    if isinstance(raised.value, Unavailable):
        assert (raised.value.retry_after,) == again
    if isinstance(raised.value, SpansRefused):
        assert raised.value.count == 2
    await sink.send(SPANS)
    assert receiver.received == 2
    await sink.aclose()


async def test_a_call_is_as_the_variables_say_and_a_span_as_it_was_made(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "Authorization=Bearer%20x,tenant=t")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip")
    sink = OtlpSink()
    attributes = (("text", "t"), ("number", 1), ("yes", True))
    link, moment = Link(b"l" * 8, (("why", "retry"),)), Moment("m", 5, (("at", 2),))
    for number in (1, 2):
        span = Span(bytes([number] * 8), b"p" * 8, "s", 3, 7, attributes, (link,), (moment,), "e" * 2_000)
        await sink.send([(b"t" * 16, span)])
    await sink.aclose()
    assert (receiver.headers["authorization"], receiver.headers["tenant"]) == ("Bearer x", "t")
    assert set(receiver.services.values()) == {"penstock-coordinator"}
    for span_id, sent in receiver.spans.items():
        assert (sent.trace_id, sent.span_id, sent.parent_span_id) == (b"t" * 16, span_id, b"p" * 8)
        assert (sent.name, sent.start_time_unix_nano, sent.end_time_unix_nano) == ("s", 3_000, 7_000)
        assert told(sent) == {"text": "t", "number": 1, "yes": True}
        assert [type(value) for value in told(sent).values()] == [str, int, bool]
        assert [(each.trace_id, each.span_id, told(each)) for each in sent.links] == [
            (b"t" * 16, b"l" * 8, {"why": "retry"})
        ]
        assert [(each.name, each.time_unix_nano, told(each)) for each in sent.events] == [("m", 5_000, {"at": 2})]
        assert (sent.status.code, sent.status.message) == (sent.status.STATUS_CODE_ERROR, "e" * 1_024)


async def test_what_cannot_be_encoded_holds_nothing_up(receiver: Receiver) -> None:
    sink = OtlpSink()
    with pytest.raises(SpansRefused, match="cannot be encoded"):
        await sink.send([(b"t" * 16, Span(b"s" * 8, b"", "\ud800", 1, 2))])
    await sink.aclose()


@pytest.mark.parametrize(
    ("failures", "asked", "seconds"),
    [
        (0, None, 5.0),
        (1, None, 10.0),
        (3, None, 40.0),
        (50, None, 60.0),
        (1, 20_000_000, 20.0),
        (9, 1_000, 5.0),
        (1, 10**15, 3_600.0),
    ],
)
def test_pauses_grow_unless_the_receiver_says_when(failures: int, asked: int | None, seconds: float) -> None:
    assert ExportPace().pause(failures, asked, 0.5) == seconds
    assert ExportPace(100.0).pause(failures, None, 0.5) >= 100.0

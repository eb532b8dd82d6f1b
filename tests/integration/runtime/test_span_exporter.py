"""What is sent of sampled runs, to a real receiver: once if nothing happens, and the same again after a crash."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tests.integration.runtime.test_runs import spec
from tests.receiver import receiving, told
from tests.waiting import until

from penstock_coordinator.adapters.otlp import OtlpSink
from penstock_coordinator.core.traces.ids import trace_of
from penstock_coordinator.core.traces.sampling import ratio
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

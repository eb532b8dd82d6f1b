"""What an agent says, or a step gives, that cannot be right: it costs that step or that stream, and nobody else."""

from __future__ import annotations

import json

import pytest
from tests.integration.runtime.conftest import Coordinator, World
from tests.integration.runtime.scripted_agent import ScriptedAgent
from tests.integration.runtime.test_runs import CHAIN, spec

from penstock.agent.v1 import agent_service_pb2 as wire
from penstock_coordinator.core.plan.limits import RunLimits
from penstock_coordinator.core.run.states import RunState, StepState

ONE = spec({"name": "a"})
MAP_AND_JOIN = spec(
    {"name": "m", "map": {"values": [1, 2]}},
    {"name": "join", "inputs": {"all": {"step": {"step": "m"}}}},
)


async def test_an_output_that_is_nested_without_end_fails_its_step_alone(world: World) -> None:
    coordinator = await world.coordinator()
    agent = coordinator.agent()
    await agent.connect(credits=10)
    run_id = await coordinator.start(ONE)
    result = await agent.succeed(await agent.grant(), b"[" * 100_000 + b"]" * 100_000)
    assert (await agent.acked(result)).status == wire.RESULT_ACK_STATUS_COMMITTED
    assert not agent.ended.is_set(), "the session goes on"
    assert (await coordinator.ended(run_id)).row.state == RunState.FAILED
    view, _ = await coordinator.engine.step_run(run_id, 0, -1)
    assert view.failure is not None
    assert view.failure.reason == "OutputUnserialisable"
    assert "nested too deeply" in view.failure.message


async def test_spans_that_nothing_can_have_taken_are_cut_to_what_can_be_stored(world: World) -> None:
    coordinator = await world.coordinator()
    agent = coordinator.agent()
    await agent.connect(credits=10)
    run_id = await coordinator.start(ONE)
    grant = await agent.grant()
    result = wire.StepResult(lease=grant.lease, result_id=b"r" * 16, status=wire.RESULT_STATUS_OK)
    result.run_duration.seconds = 1 << 62
    result.cpu_duration.seconds = -(1 << 62)
    result.peak_memory_bytes = -(1 << 63)
    await agent.say(results=wire.Results(results=[result]))
    await agent.acked(b"r" * 16)
    assert (await coordinator.ended(run_id)).row.state == RunState.COMPLETED
    _, (attempt,) = await coordinator.engine.step_run(run_id, 0, -1)
    assert 0 < attempt.report.run_duration < 1 << 53
    assert (attempt.report.cpu_duration, attempt.report.peak_memory_bytes) == (0, 0)


@pytest.mark.parametrize("amount", [float("inf"), float("nan"), -1.0])
async def test_resources_that_are_no_amount_are_refused(world: World, amount: float) -> None:
    coordinator = await world.coordinator()
    agent = coordinator.agent()
    hello = wire.Hello(protocol_versions=[1], agent_id="a", boot_id="b", slots=1, resources={"cpu": amount})
    await agent.say(hello=hello)
    assert "hello.resources.cpu" in str(await agent._call.details())


async def test_a_step_that_asks_for_next_to_nothing_stops_nobody(world: World) -> None:
    coordinator = await world.coordinator()
    agent = coordinator.agent()
    agent.resources = {"cpu": 2.0}
    await agent.connect(credits=10)
    tiny = await coordinator.start(spec({"name": "a", "resources": {"cpu": 5e-324}}))
    other = await coordinator.start(ONE)
    for _ in range(2):
        await agent.succeed(await agent.grant())
    for run_id in (tiny, other):
        assert (await coordinator.ended(run_id)).row.state == RunState.COMPLETED


async def map_of(coordinator: Coordinator, agent: ScriptedAgent, size: int) -> bytes:
    """A run whose two items gave so many bytes each."""
    run_id = await coordinator.start(MAP_AND_JOIN)
    for _ in range(2):
        await agent.acked(await agent.succeed(await agent.grant(), json.dumps("x" * (size - 2)).encode()))
    return run_id


@pytest.mark.parametrize("cache", [256 << 20, 1 << 20], ids=["cached", "read again"])
async def test_inputs_past_the_limit_fail_their_step(world: World, cache: int) -> None:
    coordinator = await world.coordinator(output_cache_bytes=cache, run_limits=RunLimits(inputs_bytes=300_000))
    agent = coordinator.agent()
    await agent.connect(credits=10)
    run_id = await map_of(coordinator, agent, 200_000)
    assert (await coordinator.ended(run_id)).row.state == RunState.FAILED
    view, _ = await coordinator.engine.step_run(run_id, 1, -1)
    assert view.state == StepState.FAILED
    assert view.failure is not None
    assert view.failure.reason == "Input"
    assert "write large values to files" in view.failure.message
    assert not agent.ended.is_set(), "the session goes on"


async def test_inputs_that_the_cache_cannot_hold_arrive(world: World) -> None:
    coordinator = await world.coordinator(output_cache_bytes=250_000)
    agent = coordinator.agent()
    await agent.connect(credits=10)
    run_id = await map_of(coordinator, agent, 200_000)
    grant = await agent.grant()
    assert len(grant.inputs["all"]) > 400_000
    await agent.succeed(grant)
    assert (await coordinator.ended(run_id)).row.state == RunState.COMPLETED


async def test_a_stream_that_the_coordinator_ends_leaves_no_fault_in_its_log(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    coordinator = await world.coordinator()
    agent = coordinator.agent()
    await agent.connect()
    await agent.say(hello=wire.Hello())
    await agent.ended.wait()
    run_id = await coordinator.start(CHAIN)
    again = coordinator.agent()
    await again.connect(credits=10)
    for _ in range(3):
        await again.succeed(await again.grant(), b'{"v": 1}')
    await coordinator.ended(run_id)
    assert "session_failed" not in capsys.readouterr().out

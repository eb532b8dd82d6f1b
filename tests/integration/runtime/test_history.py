"""A run as it was after an event."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tests.integration.runtime.test_runs import spec

from penstock_coordinator.core.run.events import WHOLE
from penstock_coordinator.core.run.states import RunState, StepState
from penstock_coordinator.runtime.engine import Engine
from penstock_coordinator.runtime.views import EventNotYet

if TYPE_CHECKING:
    from tests.integration.runtime.conftest import Coordinator, World

    from penstock_coordinator.runtime.views import StepRunView


async def test_every_moment_of_a_run_can_be_looked_at_again(world: World) -> None:
    coordinator = await world.coordinator()
    agent = coordinator.agent("a1", slots=1)
    await agent.connect(credits=8)
    run_id = await coordinator.start(spec({"name": "a"}, {"name": "b", "depends_on": ["a"]}))
    for _ in range(2):
        grant = await agent.grant()
        await agent.succeed(grant, b"7")
    last = (await coordinator.ended(run_id)).row.last_seq
    engine = Engine(coordinator.supervisor)

    seen = []
    for event in range(1, last + 1):
        view = await engine.run(run_id, event)
        steps = await engine.step_runs(run_id, None, frozenset(), None, 10, event)
        seen.append((RunState(view.row.state), *(StepState(each.state) for each in steps)))
        assert view.row.last_seq == event
        assert [each.output for each in steps] == [
            b"7" if each.state == StepState.COMPLETED else None for each in steps
        ]
    assert seen[0] == (RunState.PENDING, StepState.PENDING, StepState.PENDING)
    assert seen[-1] == (RunState.COMPLETED, StepState.COMPLETED, StepState.COMPLETED)
    changes = [now for now, before in zip(seen, [None, *seen], strict=False) if now != before]
    assert (RunState.RUNNING, StepState.RUNNING, StepState.PENDING) in changes
    assert (RunState.RUNNING, StepState.COMPLETED, StepState.RUNNING) in changes

    _, attempts = await engine.step_run(run_id, 0, -1, 1)
    assert attempts == []
    with pytest.raises(EventNotYet) as error:
        await engine.run(run_id, last + 1)
    assert (error.value.last, error.value.field) == (last, "at_event")


CHAIN: tuple[dict[str, object], ...] = ({"name": "a"}, {"name": "b", "depends_on": ["a"]})


async def last_event(coordinator: Coordinator, run_id: bytes) -> int:
    return (await coordinator.ended(run_id)).row.last_seq


async def test_a_former_generation_is_seen_as_it_was(world: World) -> None:
    coordinator = await world.coordinator()
    agent = coordinator.agent()
    await agent.connect(credits=100)
    run_id = await coordinator.start(spec(*CHAIN))
    await agent.acked(await agent.succeed(await agent.grant(), b'"first"'))
    await agent.acked(await agent.fail(await agent.grant()))
    first = await last_event(coordinator, run_id)

    async def seen(step: int, at: int) -> tuple[StepRunView, list[int]]:
        view, attempts = await coordinator.engine.step_run(run_id, step, WHOLE, at)
        listed = await coordinator.engine.step_runs(run_id, None, frozenset(), None, 10, at)
        assert listed[step] == view
        return view, [each.number for each in attempts]

    before = [await seen(step, 0) for step in (0, 1)]
    await coordinator.engine.rerun_step(run_id, 0, WHOLE, "", "", None)
    for output in (b'"second"', b"2"):
        await agent.acked(await agent.succeed(await agent.grant(), output))
    last = await last_event(coordinator, run_id)
    for step in (0, 1):
        then, numbers = await seen(step, first)
        now, all_numbers = await seen(step, last)
        assert (then, numbers) == before[step]
        assert (all_numbers, now.attempts, now.generation) == ([1, 2], 2, 2)
        assert (now.start_time or 0) > (then.end_time or 0) > 0
    then, _ = await seen(1, first)
    assert (then.state, then.output, then.failure is not None) == (StepState.FAILED, None, True)
    then, _ = await seen(0, first)
    assert then.output == b'"first"'


async def test_the_outputs_of_items_are_those_of_their_time(world: World) -> None:
    coordinator = await world.coordinator()
    agent = coordinator.agent()
    await agent.connect(credits=100)
    run_id = await coordinator.start(spec({"name": "m", "map": {"values": [1, 2]}}))
    for output in (b"10", b"20"):
        await agent.acked(await agent.succeed(await agent.grant(), output))
    first = await last_event(coordinator, run_id)
    await coordinator.engine.rerun_step(run_id, 0, 1, "", "", None)
    await agent.acked(await agent.succeed(await agent.grant(), b"30"))
    last = await last_event(coordinator, run_id)
    outputs = [(await coordinator.engine.step_run(run_id, 0, WHOLE, at))[0].output for at in (first, last, 0)]
    assert outputs == [b"[10,20]", b"[10,30]", b"[10,30]"]


@pytest.mark.parametrize("restarted", [False, True])
async def test_what_was_cancelled_before_it_began_again_has_no_times_of_before(world: World, restarted: bool) -> None:
    coordinator = await world.coordinator()
    agent = coordinator.agent()
    await agent.connect(credits=100)
    run_id = await coordinator.start(spec(*CHAIN))
    await agent.acked(await agent.succeed(await agent.grant()))

    async def cancelled() -> int:
        grant = await agent.grant()
        await coordinator.engine.cancel_run(run_id, True, "enough", None)
        await agent.fail(grant)
        return await last_event(coordinator, run_id)

    first = await cancelled()
    begun, _ = await coordinator.engine.step_run(run_id, 1, WHOLE)
    assert (begun.state, begun.start_time is None, begun.end_time is None) == (StepState.CANCELLED, False, False)
    await coordinator.engine.rerun_step(run_id, 0, WHOLE, "", "", None)
    last = await cancelled()
    if restarted:
        await coordinator.kill()
        coordinator = await world.coordinator()
    for at in (0, last):
        view, attempts = await coordinator.engine.step_run(run_id, 1, WHOLE, at)
        assert (view.state, view.ready_time, view.start_time, view.end_time) == (StepState.CANCELLED, None, None, None)
        assert (view.attempts, [each.number for each in attempts]) == (1, [1])
    assert (await coordinator.engine.step_run(run_id, 1, WHOLE, first))[0] == begun

"""A run as it was after an event."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tests.integration.runtime.test_runs import spec

from penstock_coordinator.core.run.states import RunState, StepState
from penstock_coordinator.runtime.engine import Engine
from penstock_coordinator.runtime.views import EventNotYet

if TYPE_CHECKING:
    from tests.integration.runtime.conftest import World


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

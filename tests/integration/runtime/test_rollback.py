"""Rollbacks through the runtime: what undoes a step gets its inputs; restarts, places, and what readers see."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

import pytest
from tests.integration.runtime.test_runs import spec, states

from penstock_coordinator.core.run.events import WHOLE, RunRollingBack, StepsRolledBack
from penstock_coordinator.core.run.resets import NotPossible
from penstock_coordinator.core.run.states import RunState, StepState
from penstock_coordinator.ports import LetterFilter, Repeated, RequestKey
from penstock_coordinator.runtime.reopening import Reopened

if TYPE_CHECKING:
    from tests.integration.runtime.conftest import Coordinator, World
    from tests.integration.runtime.scripted_agent import ScriptedAgent

    from penstock_coordinator.ports import RunId


def of(step: str, *path: str) -> dict[str, Any]:
    return {"step": {"step": step, "path": list(path)}}


SAGA: tuple[dict[str, object], ...] = (
    {"name": "a", "compensate": "undo_a"},
    {
        "name": "b",
        "map": {"values": ["x", "y"]},
        "inputs": {"each": {"item": {}}, "before": of("a", "id")},
        "compensate": "undo_b",
    },
    {"name": "c", "dependsOn": ["b"]},
    {"name": "undo_a", "inputs": {"was": of("a", "id")}},
    {"name": "undo_b", "inputs": {"each": {"item": {}}, "was": of("b"), "before": of("a")}},
)


async def done_but_for_c(coordinator: Coordinator, agent: ScriptedAgent, **fields: Any) -> RunId:
    run_id = await coordinator.start(spec(*SAGA, **fields))
    await agent.succeed(await agent.grant(), b'{"id": 7}')
    for _ in range(2):
        grant = await agent.grant()
        await agent.acked(await agent.succeed(grant, b'"booked ' + grant.inputs["each"].strip(b'"') + b'"'))
    await agent.acked(await agent.fail(await agent.grant()))
    return run_id


async def test_what_undoes_a_step_knows_what_it_did(world: World) -> None:
    coordinator = await world.coordinator()
    agent = coordinator.agent()
    await agent.connect(credits=100)
    run_id = await done_but_for_c(coordinator, agent, on_failure="ON_FAILURE_ROLLBACK")
    assert (await coordinator.engine.run(run_id)).row.state == RunState.ROLLING_BACK
    for each, name in ((b'"x"', "undo_b[0]"), (b'"y"', "undo_b[1]")):
        grant = await agent.grant()
        assert grant.display_name == name
        assert dict(grant.inputs) == {"each": each, "was": b'"booked ' + each[1:], "before": b'{"id": 7}'}
        await agent.acked(await agent.succeed(grant))
    grant = await agent.grant()
    assert (grant.step_name, dict(grant.inputs)) == ("undo_a", {"was": b"7"})
    await agent.acked(await agent.succeed(grant))
    view = await coordinator.ended(run_id)
    assert (view.row.state, view.generation) == (RunState.ROLLED_BACK, 1)
    assert 'step "c" failed' in view.row.reason
    undone = StepState.ROLLED_BACK
    assert (await states(coordinator, run_id))[:3] == [undone, undone, StepState.FAILED]
    found, attempts = await coordinator.engine.step_run(run_id, 1, 1)
    assert (found.state, found.output, found.attempts, len(attempts)) == (undone, b'"booked y"', 1, 1)
    events = [event async for batch in coordinator.engine.watch(run_id, 1) for _, event in batch]
    assert [type(event) for event in events].count(RunRollingBack) == 1
    assert [event.ranges for event in events if isinstance(event, StepsRolledBack)] == [((1, 2),), ((0, 1),)]


async def test_a_killed_coordinator_goes_on_with_a_rollback(world: World) -> None:
    first = await world.coordinator()
    agent = first.agent()
    await agent.connect(credits=100)
    run_id = await done_but_for_c(first, agent, on_failure="ON_FAILURE_ROLLBACK")
    done, running = await agent.grant(), await agent.grant()
    await agent.acked(await agent.succeed(done))
    await first.kill()
    second = await world.coordinator()
    assert (await second.engine.run(run_id)).row.state == RunState.ROLLING_BACK
    agent = second.agent()
    agent.held = [held(running)]
    await agent.connect(credits=100)
    await agent.acked(await agent.succeed(running))
    grant = await agent.grant()
    assert (grant.step_name, dict(grant.inputs), grant.attempt) == ("undo_a", {"was": b"7"}, 1)
    await agent.acked(await agent.succeed(grant))
    assert (await second.ended(run_id)).row.state == RunState.ROLLED_BACK
    assert not agent.grants, "nothing was undone twice"


def held(grant: Any) -> Any:
    from penstock.agent.v1 import agent_service_pb2 as wire

    return wire.HeldLease(lease=grant.lease, attempt=grant.attempt, phase=wire.LEASE_PHASE_RUNNING)


async def test_a_rollback_of_a_run_at_rest_is_a_new_generation(world: World) -> None:
    coordinator = await world.coordinator()
    agent = coordinator.agent()
    await agent.connect(credits=100)
    run_id = await done_but_for_c(coordinator, agent)
    assert (await coordinator.ended(run_id)).row.state == RunState.FAILED
    key = RequestKey("", "RunService.Rollback", "k", b"x")
    rollback = coordinator.engine.rollback_run
    asked = await rollback(run_id, "ann", "a mistake", key)
    assert asked == Reopened(kept=2, reset=2, kept_runs=3)
    assert await rollback(run_id, "ann", "a mistake", key) == asked
    again = await rollback(run_id, "ann", "", RequestKey("", "RunService.Rollback", "k", b"y"))
    assert isinstance(again, Repeated)
    assert not again.same
    refused = "being rolled back already: wait until it is at rest, or cancel the rollback"
    with pytest.raises(NotPossible, match=refused):
        await rollback(run_id, "bob", "", None)
    with pytest.raises(NotPossible, match=refused):
        await coordinator.engine.retry_run(run_id, "bob", "", None)
    with pytest.raises(NotPossible, match=refused):
        await coordinator.engine.rerun_step(run_id, 0, WHOLE, "bob", "", None)
    for _ in range(3):
        await agent.acked(await agent.succeed(await agent.grant()))
    view = await coordinator.ended(run_id)
    assert (view.row.state, view.row.reason, view.generation) == (RunState.ROLLED_BACK, "a mistake", 2)
    past = await coordinator.engine.run(run_id, 1)
    assert past.row.state == RunState.PENDING
    found, attempts = await coordinator.engine.step_run(run_id, 4, 0)
    assert (found.state, found.generation, len(attempts)) == (StepState.COMPLETED, 2, 1)


async def test_a_rollback_waits_for_a_place(world: World) -> None:
    coordinator = await world.coordinator()
    agent = coordinator.agent()
    await agent.connect(credits=100)
    run_id = await done_but_for_c(coordinator, agent, max_active_runs=1)
    assert (await coordinator.ended(run_id)).row.state == RunState.FAILED
    other = await coordinator.start(spec(*SAGA, max_active_runs=1))
    running = await agent.grant()
    await coordinator.engine.rollback_run(run_id, "", "", None)
    view = await coordinator.engine.run(run_id)
    assert (view.row.state, view.held_by_key) == (RunState.PENDING, "pipeline:p")
    await agent.acked(await agent.fail(running))
    assert (await coordinator.ended(other)).row.state == RunState.FAILED
    for _ in range(3):
        await agent.acked(await agent.succeed(await agent.grant()))
    assert (await coordinator.ended(run_id)).row.state == RunState.ROLLED_BACK


async def test_a_failed_compensation_is_tried_again_by_a_retry(world: World) -> None:
    coordinator = await world.coordinator()
    agent = coordinator.agent()
    await agent.connect(credits=100)
    run_id = await done_but_for_c(coordinator, agent, on_failure="ON_FAILURE_ROLLBACK")
    await agent.acked(await agent.fail(await agent.grant()))
    await agent.acked(await agent.succeed(await agent.grant()))
    view = await coordinator.ended(run_id)
    assert view.row.state == RunState.FAILED
    assert view.row.reason.startswith('not all is undone: step "undo_b[0]" failed')
    rest = await states(coordinator, run_id)
    assert rest == [
        StepState.COMPLETED,
        StepState.COMPLETED,
        StepState.FAILED,
        StepState.UPSTREAM_FAILED,
        StepState.FAILED,
    ]
    assert await coordinator.engine.retry_run(run_id, "", "", None) == Reopened(kept=2, reset=2, kept_runs=3)
    for name, attempt in (("undo_b[0]", 2), ("undo_a", 1)):
        grant = await agent.grant()
        assert (grant.display_name, grant.attempt) == (name, attempt)
        await agent.acked(await agent.succeed(grant))
    assert (await coordinator.ended(run_id)).row.state == RunState.ROLLED_BACK
    found, attempts = await coordinator.engine.step_run(run_id, 4, 0)
    assert (found.state, [each.number for each in attempts]) == (StepState.COMPLETED, [1, 2])


async def test_a_rollback_is_cancelled_and_gone_on_with(world: World) -> None:
    coordinator = await world.coordinator()
    agent = coordinator.agent()
    await agent.connect(credits=100)
    run_id = await done_but_for_c(coordinator, agent, on_failure="ON_FAILURE_ROLLBACK")
    first, second = await agent.grant(), await agent.grant()
    await agent.acked(await agent.succeed(first))
    await coordinator.engine.cancel_run(run_id, False, "not now", None)
    await agent.until(lambda: len(agent.cancels) == 1)
    await agent.acked(await agent.fail(second, "Cancelled"))
    assert (await coordinator.ended(run_id)).row.state == RunState.CANCELLED
    await coordinator.engine.rollback_run(run_id, "", "", None)
    for name in ("undo_b[1]", "undo_a"):
        grant = await agent.grant()
        assert grant.display_name == name
        await agent.acked(await agent.succeed(grant))
    assert (await coordinator.ended(run_id)).row.state == RunState.ROLLED_BACK
    view, _ = await coordinator.engine.step_run(run_id, 1, WHOLE)
    assert view.state == StepState.ROLLED_BACK


async def test_a_failed_compensation_is_a_dead_letter(world: World) -> None:
    coordinator = await world.coordinator()
    agent = coordinator.agent()
    await agent.connect(credits=100)
    run_id = await done_but_for_c(coordinator, agent, on_failure="ON_FAILURE_ROLLBACK")
    await agent.acked(await agent.fail(await agent.grant()))
    await agent.acked(await agent.succeed(await agent.grant()))
    assert (await coordinator.ended(run_id)).row.state == RunState.FAILED
    letters = coordinator.engine.dead_letters
    found = {
        (each.letter.step, each.letter.item): each.letter.seq
        for each in await letters.list_letters(LetterFilter(), 10, None)
    }
    assert sorted(found) == [(2, WHOLE), (4, 0)]
    with pytest.raises(NotPossible, match="not all that it did is undone: retry it, which goes on with the rollback"):
        await letters.requeue(run_id, found[2, WHOLE], "ann", "", None)
    assert await advised(coordinator, run_id, found[2, WHOLE], f"retry {uuid.UUID(bytes=run_id)}` goes on with the")
    await letters.requeue(run_id, found[4, 0], "ann", "", None)
    for name in ("undo_b[0]", "undo_a"):
        grant = await agent.grant()
        assert grant.display_name == name
        await agent.acked(await agent.succeed(grant))
    assert (await coordinator.ended(run_id)).row.state == RunState.ROLLED_BACK
    (left,) = await letters.list_letters(LetterFilter(), 10, None)
    assert left.letter.step == 2
    assert await advised(coordinator, run_id, left.letter.seq, f"retry {uuid.UUID(bytes=run_id)}` does its work again")


async def advised(coordinator: Coordinator, run_id: bytes, seq: int, words: str) -> bool:
    """And nothing that would be refused."""
    said = (await coordinator.engine.dead_letters.show(run_id, seq)).remedies
    return any(words in remedy for remedy in said) and not any("requeue" in remedy for remedy in said)


async def test_a_rollback_makes_no_place_for_a_newcomer(world: World) -> None:
    coordinator = await world.coordinator()
    agent = coordinator.agent()
    await agent.connect(credits=100)
    fields = {
        "on_failure": "ON_FAILURE_ROLLBACK",
        "concurrency": {"key": "k", "policy": "CONCURRENCY_POLICY_CANCEL_OLDEST"},
    }
    run_id = await done_but_for_c(coordinator, agent, **fields)
    first, second = await agent.grant(), await agent.grant()
    newcomer = await coordinator.start(spec({"name": "a"}, **fields))
    assert (await coordinator.engine.run(newcomer)).held_by_key == "k"
    for grant in (first, second):
        await agent.acked(await agent.succeed(grant))
    await agent.acked(await agent.succeed(await agent.grant()))
    assert (await coordinator.ended(run_id)).row.state == RunState.ROLLED_BACK
    await agent.acked(await agent.succeed(await agent.grant()))
    assert (await coordinator.ended(newcomer)).row.state == RunState.COMPLETED

"""New generations through the runtime: readers, rows, limits, run keys, and restarts."""

from __future__ import annotations

import asyncio
import struct
from typing import TYPE_CHECKING, Any

import pytest
from tests.integration.runtime.test_runs import spec, states

from penstock_coordinator.core.run.events import WHOLE, RunEnded, RunReopened
from penstock_coordinator.core.run.resets import NotPossible
from penstock_coordinator.core.run.states import RunState, StepState
from penstock_coordinator.ports import KeyClaim, Origin, Repeated, RequestKey, RequestRow
from penstock_coordinator.runtime.reopening import Reopened

if TYPE_CHECKING:
    from tests.integration.runtime.conftest import Coordinator, World
    from tests.integration.runtime.scripted_agent import ScriptedAgent

    from penstock_coordinator.ports import RunId

CHAIN: tuple[dict[str, object], ...] = ({"name": "a"}, {"name": "b", "depends_on": ["a"]})


async def failed_run(coordinator: Coordinator, agent: ScriptedAgent, **settings: Any) -> RunId:
    """`a` is COMPLETED, `b` is not."""
    run_id = await coordinator.start(spec(*CHAIN), **settings)
    await agent.succeed(await agent.grant(), b'"first"')
    await agent.acked(await agent.fail(await agent.grant()))
    assert (await coordinator.ended(run_id)).row.state == RunState.FAILED
    return run_id


def key(name: str, content: bytes = b"x") -> RequestKey:
    return RequestKey("", "RunService.Retry", name, content)


async def test_a_retry_runs_what_failed_and_nothing_else(world: World) -> None:
    coordinator = await world.coordinator()
    agent = coordinator.agent()
    await agent.connect(credits=100)
    run_id = await failed_run(coordinator, agent)
    assert await coordinator.engine.retry_run(run_id, "ann", "again", None) == Reopened(kept=1, reset=1, kept_runs=1)
    view = await coordinator.engine.run(run_id)
    assert (view.generation, view.row.generation, view.row.end_time, view.row.summary) == (2, 2, None, None)
    grant = await agent.grant()
    assert (grant.lease.step, grant.attempt) == (1, 2)
    await agent.acked(await agent.succeed(grant))
    assert (await coordinator.ended(run_id)).row.state == RunState.COMPLETED
    found, attempts = await coordinator.engine.step_run(run_id, 1, WHOLE)
    assert (found.attempts, found.generation, [each.number for each in attempts]) == (2, 2, [1, 2])
    found, attempts = await coordinator.engine.step_run(run_id, 0, WHOLE)
    assert (found.attempts, found.generation, found.output, len(attempts)) == (1, 1, b'"first"', 1)
    events = [event async for batch in coordinator.engine.watch(run_id, 1) for _, event in batch]
    assert [type(event) for event in events].count(RunEnded) == 2
    (reopened,) = [event for event in events if isinstance(event, RunReopened)]
    assert (reopened.requested_by, reopened.reason) == ("ann", "again")


async def test_of_two_retries_at_once_one_wins(world: World) -> None:
    coordinator = await world.coordinator()
    agent = coordinator.agent()
    await agent.connect(credits=100)
    run_id = await failed_run(coordinator, agent)
    asked = [coordinator.engine.retry_run(run_id, "", "", None) for _ in range(3)]
    outcomes = await asyncio.gather(*asked, return_exceptions=True)
    assert [type(each) for each in outcomes] == [Reopened, NotPossible, NotPossible]
    assert (await coordinator.engine.run(run_id)).generation == 2


async def test_the_same_request_is_answered_the_same(world: World) -> None:
    coordinator = await world.coordinator()
    agent = coordinator.agent()
    await agent.connect(credits=100)
    run_id = await failed_run(coordinator, agent)
    retry = coordinator.engine.retry_run
    first, second = await asyncio.gather(*(retry(run_id, "", "", key("k")) for _ in range(2)))
    assert first == second == Reopened(1, 1, 1)
    assert await retry(run_id, "", "", key("k")) == first
    other = await retry(run_id, "", "", key("k", b"other"))
    assert isinstance(other, Repeated)
    assert not other.same
    assert (await coordinator.engine.run(run_id)).generation == 2


async def test_items_that_stay_are_counted_when_it_is_decided(world: World) -> None:
    """A repeated call hears the same numbers, however far the run is meanwhile."""
    coordinator = await world.coordinator()
    agent = coordinator.agent()
    await agent.connect(credits=100)
    mapped: tuple[dict[str, object], ...] = (
        {"name": "a"},
        {"name": "m", "map": {"values": [1, 2, 3]}, "depends_on": ["a"]},
        {"name": "whole", "map": {"values": [1, 2]}, "depends_on": ["a"]},
    )
    run_id = await coordinator.start(spec(*mapped))
    await agent.succeed(await agent.grant())
    for grant in [await agent.grant() for _ in range(5)]:
        fails = (grant.step_name, list(grant.place)) == ("m", [1])
        await agent.acked(await (agent.fail(grant) if fails else agent.succeed(grant)))
    assert (await coordinator.ended(run_id)).row.state == RunState.FAILED
    retry = coordinator.engine.retry_run
    decided = await retry(run_id, "", "", key("k"))
    assert decided == Reopened(kept=2, reset=1, kept_runs=5)
    await agent.acked(await agent.succeed(await agent.grant()))
    assert (await coordinator.ended(run_id)).row.state == RunState.COMPLETED
    assert await retry(run_id, "", "", key("k")) == decided
    again = await coordinator.engine.rerun_step(run_id, 1, 0, "", "", None)
    assert again == Reopened(kept=2, reset=1, kept_runs=5), "of the items that are COMPLETED one runs again"


async def test_an_answer_of_a_former_release_is_still_given(world: World) -> None:
    """It remembered whole steps alone."""
    coordinator = await world.coordinator()
    agent = coordinator.agent()
    await agent.connect(credits=100)
    run_id = await failed_run(coordinator, agent)
    remembered = RequestRow(key("k"), run_id + struct.pack(">II", 3, 2))
    assert await coordinator.stores.runs.remember_request(remembered, 1) is None
    assert await coordinator.engine.retry_run(run_id, "", "", key("k")) == Reopened(kept=3, reset=2, kept_runs=3)
    assert (await coordinator.engine.run(run_id)).generation == 1


async def test_a_killed_coordinator_goes_on_with_the_new_generation(world: World) -> None:
    first = await world.coordinator()
    agent = first.agent()
    await agent.connect(credits=100)
    run_id = await failed_run(first, agent)
    await agent.goodbye()
    await first.engine.retry_run(run_id, "", "", None)
    await first.kill()
    second = await world.coordinator()
    assert await states(second, run_id) == [StepState.COMPLETED, StepState.READY]
    agent = second.agent()
    await agent.connect(credits=100)
    grant = await agent.grant()
    assert (grant.lease.step, grant.attempt) == (1, 2)
    await agent.acked(await agent.succeed(grant))
    assert (await second.ended(run_id)).row.state == RunState.COMPLETED


async def test_a_step_runs_again_with_what_comes_after_it(world: World) -> None:
    coordinator = await world.coordinator()
    agent = coordinator.agent()
    await agent.connect(credits=100)
    run_id = await failed_run(coordinator, agent)
    assert await coordinator.engine.rerun_step(run_id, 0, WHOLE, "bob", "", None) == Reopened(
        kept=0, reset=2, kept_runs=0
    )
    with pytest.raises(NotPossible, match='"a" is RUNNING'):
        await coordinator.engine.rerun_step(run_id, 0, WHOLE, "bob", "", None)
    for number in (0, 1):
        grant = await agent.grant()
        assert (grant.lease.step, grant.attempt) == (number, 2)
        await agent.acked(await agent.succeed(grant, b'"second"'))
    assert (await coordinator.ended(run_id)).row.state == RunState.COMPLETED
    found, attempts = await coordinator.engine.step_run(run_id, 0, WHOLE)
    assert (found.output, [each.number for each in attempts]) == (b'"second"', [1, 2])


async def test_while_the_run_is_under_way_a_quiet_branch_runs_again(world: World) -> None:
    coordinator = await world.coordinator()
    agent = coordinator.agent()
    await agent.connect(credits=100)
    run_id = await coordinator.start(spec({"name": "a"}, {"name": "b"}))
    first, second = await agent.grant(), await agent.grant()
    await agent.acked(await agent.succeed(first))
    await coordinator.engine.rerun_step(run_id, first.lease.step, WHOLE, "bob", "", None)
    again = await agent.grant()
    assert (again.lease.step, again.attempt) == (first.lease.step, 2)
    await agent.succeed(second)
    await agent.acked(await agent.succeed(again))
    view = await coordinator.ended(run_id)
    assert (view.row.state, view.row.generation) == (RunState.COMPLETED, 2)


async def test_a_retried_run_waits_for_a_place(world: World) -> None:
    coordinator = await world.coordinator()
    agent = coordinator.agent()
    await agent.connect(credits=100)
    limited = spec({"name": "a"}, max_active_runs=1)
    first = await coordinator.start(limited)
    await agent.acked(await agent.fail(await agent.grant()))
    await coordinator.ended(first)
    second = await coordinator.start(limited)
    grant = await agent.grant()
    await coordinator.engine.retry_run(first, "", "", None)
    view = await coordinator.engine.run(first)
    assert (view.row.state, view.held_by_key) == (RunState.PENDING, "pipeline:p")
    await agent.beat()
    assert not agent.grants
    await agent.acked(await agent.succeed(grant))
    await coordinator.ended(second)
    await agent.acked(await agent.succeed(await agent.grant()))
    assert (await coordinator.ended(first)).row.state == RunState.COMPLETED


async def test_the_run_key_must_be_free(world: World) -> None:
    coordinator = await world.coordinator()
    agent = coordinator.agent()
    await agent.connect(credits=100)
    keyed: dict[str, Any] = {"origin": Origin(run_key="day"), "claim": KeyClaim("p", "day")}
    first = await failed_run(coordinator, agent, **keyed)
    second = await coordinator.start(spec({"name": "z"}), **keyed)
    with pytest.raises(NotPossible, match="its run key is that of the run"):
        await coordinator.engine.retry_run(first, "", "", None)
    view = await coordinator.engine.run(first)
    assert (view.row.state, view.generation) == (RunState.FAILED, 1)
    await agent.acked(await agent.succeed(await agent.grant()))
    await coordinator.ended(second)
    await coordinator.engine.retry_run(first, "", "", None)
    assert (await coordinator.engine.run(first)).generation == 2


async def test_a_cancelled_run_is_retried_and_what_failed_before_is_seen_as_it_was(world: World) -> None:
    coordinator = await world.coordinator()
    run_id = await coordinator.start(spec(*CHAIN))
    await coordinator.engine.cancel_run(run_id, True, "enough", None)
    ended = await coordinator.ended(run_id)
    await coordinator.engine.retry_run(run_id, "", "", None)
    assert await states(coordinator, run_id) == [StepState.READY, StepState.PENDING]
    past = await coordinator.engine.run(run_id, ended.row.last_seq)
    assert (past.row.state, past.generation, past.row.reason) == (RunState.CANCELLED, 1, "enough")
    await coordinator.engine.cancel_run(run_id, True, "enough again", None)
    again = await coordinator.ended(run_id)
    assert (again.row.state, again.row.reason, again.generation) == (RunState.CANCELLED, "enough again", 2)

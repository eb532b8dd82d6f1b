"""Runs that go on with another version of their pipeline: readers, rows, grants, restarts, and what is refused."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest
from google.protobuf import json_format
from tests.integration.runtime.test_runs import states

from penstock.v1.pipeline_pb2 import PipelineSpec
from penstock_coordinator.core.run.events import WHOLE, RunReopened
from penstock_coordinator.core.run.resets import NotPossible
from penstock_coordinator.core.run.states import RunState, StepState
from penstock_coordinator.ports import Origin, Repeated, RequestKey
from penstock_coordinator.runtime.renewing import NEWEST
from penstock_coordinator.runtime.reopening import Reopened
from penstock_coordinator.runtime.views import UnknownVersion

if TYPE_CHECKING:
    from tests.integration.runtime.conftest import Coordinator, World
    from tests.integration.runtime.scripted_agent import ScriptedAgent

    from penstock_coordinator.ports import RunId

DAY = {"name": "day", "type": "PARAMETER_TYPE_STRING"}
SIZE = {"name": "size", "type": "PARAMETER_TYPE_INT", "default": 3}


def step(name: str, code: str = "1", *after: str, **more: object) -> dict[str, object]:
    action = {"module": "m", "qualname": name, "code_digest": code}
    return {"name": name, "function": action, "depends_on": after, **more}


def spec(*steps: dict[str, object], bundle: str = "b", **fields: object) -> PipelineSpec:
    made = {"name": "p", "bundle_digest": bundle, "steps": steps, **fields}
    return json_format.ParseDict(made, PipelineSpec())


FIRST = spec(step("a"), step("b", "1", "a"), step("c", "1", "b"), step("d", "1", "c"), step("e", "1", "d"))
MENDED = spec(
    step("a"), step("b", "1", "a"), step("c", "2", "b"), step("d", "1", "c"), step("e", "1", "d"), bundle="b2"
)


async def connected(world: World) -> tuple[Coordinator, ScriptedAgent]:
    coordinator = await world.coordinator()
    agent = coordinator.agent()
    await agent.connect(credits=1_000)
    return coordinator, agent


async def done(agent: ScriptedAgent, *outputs: bytes) -> list[tuple[str, int]]:
    """The next steps complete, one after the other. Their names and attempts."""
    found = []
    for output in outputs:
        grant = await agent.grant()
        found.append((grant.step_name, grant.attempt))
        await agent.acked(await agent.succeed(grant, output))
    return found


async def failed(
    coordinator: Coordinator, agent: ScriptedAgent, made: PipelineSpec, *outputs: bytes, **more: Any
) -> RunId:
    """A run of which the first steps give the outputs, and the next one fails."""
    run_id = await coordinator.start(made, **more)
    await done(agent, *outputs)
    await agent.acked(await agent.fail(await agent.grant()))
    assert (await coordinator.ended(run_id)).row.state == RunState.FAILED
    return run_id


async def retry(coordinator: Coordinator, run_id: RunId, version: int = NEWEST) -> Reopened:
    answer = await coordinator.engine.retry_run(run_id, "ann", "mended", None, version)
    assert isinstance(answer, Reopened)
    return answer


async def names(coordinator: Coordinator, run_id: RunId, at_event: int = 0) -> dict[str, StepState]:
    plan = (await coordinator.engine.run(run_id, at_event)).plan
    views = await coordinator.engine.step_runs(run_id, None, frozenset(), None, 100, at_event)
    return {plan.steps[view.step].name: StepState(view.state) for view in views}


async def test_what_did_not_change_stays(world: World) -> None:
    coordinator, agent = await connected(world)
    run_id = await failed(coordinator, agent, FIRST, b"1", b"2")
    first_end = (await coordinator.engine.run(run_id)).row.last_seq
    await coordinator.create(MENDED)
    assert await retry(coordinator, run_id) == Reopened(kept=2, reset=3, kept_runs=2)
    view = await coordinator.engine.run(run_id)
    assert (view.row.version_number, view.row.version_digest, view.generation) == (2, view.plan.digest, 2)
    grant = await agent.grant()
    assert (grant.step_name, grant.attempt, grant.task_spec.function.bundle_digest) == ("c", 2, "b2")
    await agent.succeed(grant)
    assert await done(agent, b"4", b"5") == [("d", 1), ("e", 1)]
    view = await coordinator.ended(run_id)
    assert (view.row.state, view.row.version_number) == (RunState.COMPLETED, 2)
    past = await coordinator.engine.run(run_id, first_end)
    assert (past.row.state, past.row.version_number, past.plan.bundle_digest) == (RunState.FAILED, 1, "b")


async def test_all_that_comes_after_a_change_runs_again(world: World) -> None:
    coordinator, agent = await connected(world)
    run_id = await failed(coordinator, agent, FIRST, b"1", b"2", b"3")
    changed = spec(step("a"), step("b", "2", "a"), step("c", "1", "b"), step("d", "1", "c"), step("e", "1", "d"))
    await coordinator.create(changed)
    assert await retry(coordinator, run_id) == Reopened(kept=1, reset=4, kept_runs=1)
    assert await done(agent, *[b"0"] * 4) == [("b", 2), ("c", 2), ("d", 2), ("e", 1)]
    assert (await coordinator.ended(run_id)).row.state == RunState.COMPLETED


async def test_a_killed_coordinator_goes_on_with_the_new_version(world: World) -> None:
    first, agent = await connected(world)
    run_id = await failed(first, agent, FIRST, b"1", b"2")
    await agent.goodbye()
    renamed = spec(step("a"), step("n", "1"), step("c", "1", "a", "n"), step("m", map={"values": [1, 2]}))
    await first.create(renamed)
    assert await retry(first, run_id) == Reopened(kept=1, reset=3, kept_runs=1)
    await first.kill()
    second = await world.coordinator()
    assert await names(second, run_id) == {
        "a": StepState.COMPLETED, "n": StepState.READY, "c": StepState.PENDING, "m": StepState.RUNNING
    }  # fmt: skip
    agent = second.agent()
    await agent.connect(credits=1_000)
    granted = [await agent.grant() for _ in range(3)]
    assert sorted(grant.step_name for grant in granted) == ["m", "m", "n"]
    for grant in granted:
        await agent.succeed(grant)
    assert await done(agent, b"7") == [("c", 2)]
    assert (await second.ended(run_id)).row.state == RunState.COMPLETED
    await second.kill()
    third, _ = await connected(world)
    assert set((await names(third, run_id)).values()) == {StepState.COMPLETED}


async def test_new_parts_of_outputs_that_stay_are_read(world: World) -> None:
    """Conditions, maps and the run's output of the new version look at what nothing looked at before."""
    coordinator, agent = await connected(world)
    mapped = step("m", map={"values": [1, 2]})
    run_id = await failed(
        coordinator, agent, spec(step("a"), mapped, step("z", "1", "a", "m")), b'{"x": [5, 6]}', b"1", b"2"
    )
    await coordinator.create(
        spec(
            step("a"),
            mapped,
            step("each", map={"step": {"step": "a", "path": ["x"]}}),
            step("along", when="item == 2", map={"step": {"step": "m"}}),
            step("z", "2", "each", when="steps.a.output.x[1] == 6"),
            output={"step": "m"},
        )
    )
    assert await retry(coordinator, run_id) == Reopened(kept=2, reset=3, kept_runs=3)
    found = sorted([await agent.grant() for _ in range(3)], key=lambda grant: (grant.step_name, *grant.place))
    assert [(grant.step_name, list(grant.place)) for grant in found] == [("along", [1]), ("each", [0]), ("each", [1])]
    for grant in found:
        await agent.succeed(grant)
    await done(agent, b"0")
    row = (await coordinator.ended(run_id)).row
    assert (row.state, json.loads(row.output or b"")) == (RunState.COMPLETED, [1, 2])


async def test_a_step_may_become_a_map_and_a_map_a_step(world: World) -> None:
    coordinator, agent = await connected(world)
    run_id = await failed(
        coordinator,
        agent,
        spec(step("a"), step("m", map={"values": [1, 2]}), step("z", "1", "a", "m")),
        b"0",
        b"1",
        b"2",
    )
    await coordinator.create(spec(step("a", map={"values": [1, 2, 3]}), step("m"), step("z", "1", "a", "m")))
    await retry(coordinator, run_id)
    again = await done(agent, *[b'"new"'] * 5)
    assert sorted(again) == [("a", 1), ("a", 1), ("a", 1), ("m", 1), ("z", 2)]
    assert (await coordinator.ended(run_id)).row.state == RunState.COMPLETED
    view, _ = await coordinator.engine.step_run(run_id, 0, WHOLE)
    assert (view.output, view.attempts) == (b'["new","new","new"]', 1), "it had an attempt as a plain step"
    view, tried = await coordinator.engine.step_run(run_id, 1, WHOLE)
    assert (view.output, [each.number for each in tried]) == (b'"new"', [1])


async def test_a_removed_step_is_gone_and_may_come_back(world: World) -> None:
    coordinator, agent = await connected(world)
    run_id = await failed(coordinator, agent, spec(step("a"), step("b", "1", "a")), b"1")
    before = (await coordinator.engine.run(run_id)).row.last_seq
    await coordinator.create(spec(step("a"), description="without b"))
    assert await retry(coordinator, run_id) == Reopened(kept=1, reset=0, kept_runs=1)
    view = await coordinator.ended(run_id)
    assert (view.row.state, view.counts.completed, sum(view.counts)) == (RunState.COMPLETED, 1, 1)
    assert await states(coordinator, run_id) == [StepState.COMPLETED]
    assert view.plan.numbers == {"a": 0}
    assert await names(coordinator, run_id, before) == {"a": StepState.COMPLETED, "b": StepState.FAILED}
    assert await retry(coordinator, run_id, 1) == Reopened(kept=1, reset=1, kept_runs=1)
    assert await done(agent, b"2") == [("b", 2)]
    view = await coordinator.ended(run_id)
    assert (view.row.version_number, view.generation, view.row.state) == (1, 3, RunState.COMPLETED)
    _, tried = await coordinator.engine.step_run(run_id, 1, WHOLE)
    assert [each.number for each in tried] == [1, 2]


async def test_steps_are_numbered_by_their_run_when_runs_share_a_version(world: World) -> None:
    """An agent is told what a task is once: of two runs of one version the same number may be another step."""
    coordinator, agent = await connected(world)
    run_id = await failed(coordinator, agent, spec(step("x"), step("y", "1", "x")), b"1")
    newer = spec(step("n"), step("y", "1", "n"))
    other = await coordinator.start(newer)
    assert await done(agent, b"1", b"1") == [("n", 1), ("y", 1)]
    await coordinator.ended(other)
    await retry(coordinator, run_id)
    for name in ("n", "y"):
        grant = await agent.grant()
        assert (grant.step_name, grant.task_spec.function.qualname) == (name, name)
        await agent.succeed(grant)
    assert (await coordinator.ended(run_id)).row.state == RunState.COMPLETED


async def test_parameters_that_the_version_has_besides_get_their_defaults(world: World) -> None:
    coordinator, agent = await connected(world)
    first = spec(step("a"), step("b", "1", "a"), parameters=[DAY])
    run_id = await failed(coordinator, agent, first, b"1", parameters=b'{"day": "monday"}')
    more = spec(step("a"), step("b", "1", "a", inputs={"n": {"parameter": "size"}}), parameters=[DAY, SIZE])
    await coordinator.create(more)
    assert await retry(coordinator, run_id) == Reopened(kept=1, reset=1, kept_runs=1)
    grant = await agent.grant()
    assert grant.inputs["n"] == b"3"
    await agent.acked(await agent.succeed(grant))
    row = (await coordinator.ended(run_id)).row
    assert json.loads(row.parameters) == {"day": "monday", "size": 3}
    first_row = (await coordinator.engine.run(run_id, 1)).row
    assert json.loads(first_row.parameters) == {"day": "monday"}


@pytest.mark.parametrize(
    ("declared", "what"),
    [
        ([], "no parameter 'day'"),
        ([{**DAY, "type": "PARAMETER_TYPE_INT"}], "parameters.day: the text"),
        ([DAY, {"name": "new", "type": "PARAMETER_TYPE_INT"}], "parameters.new: it is missing"),
    ],
)
async def test_parameters_that_do_not_fit_are_named(world: World, declared: list[Any], what: str) -> None:
    coordinator, agent = await connected(world)
    first = spec(step("a"), step("b", "1", "a"), parameters=[DAY])
    run_id = await failed(coordinator, agent, first, b"1", parameters=b'{"day": "monday"}')
    await coordinator.create(spec(step("a"), step("b", "2", "a"), parameters=declared))
    with pytest.raises(NotPossible, match="do not fit version 2 of 'p'") as error:
        await retry(coordinator, run_id)
    assert what in str(error.value)
    view = await coordinator.engine.run(run_id)
    assert (view.row.state, view.row.version_number, view.generation) == (RunState.FAILED, 1, 1)


async def test_what_cannot_be(world: World) -> None:
    coordinator, agent = await connected(world)
    run_id = await coordinator.start(FIRST)
    await coordinator.create(MENDED)
    with pytest.raises(NotPossible, match="only a run at rest can be retried"):
        await retry(coordinator, run_id)
    await done(agent, *[b"1"] * 5)
    await coordinator.ended(run_id)
    with pytest.raises(NotPossible, match="nothing in it failed"):
        await retry(coordinator, run_id, 1)
    with pytest.raises(UnknownVersion):
        await retry(coordinator, run_id, 3)
    await coordinator.create(spec(*map(step, "abcde"), description="as before, but for what comes after what"))
    with pytest.raises(NotPossible, match="nothing of it would run again"):
        await retry(coordinator, run_id)
    assert await retry(coordinator, run_id, 2) == Reopened(kept=2, reset=3, kept_runs=2)
    await agent.acked(await agent.fail(await agent.grant()))
    await coordinator.ended(run_id)
    await coordinator.stores.pipelines.delete_pipeline("p", 1, None)
    with pytest.raises(UnknownVersion):
        await retry(coordinator, run_id)
    assert await coordinator.engine.retry_run(run_id, "", "", None) == Reopened(kept=2, reset=3, kept_runs=2)


async def test_of_two_at_once_one_wins(world: World) -> None:
    coordinator, agent = await connected(world)
    run_id = await failed(coordinator, agent, FIRST, b"1", b"2")
    await coordinator.create(MENDED)
    asked = [coordinator.engine.retry_run(run_id, "", "", None, version) for version in (NEWEST, None, 2)]
    outcomes = await asyncio.gather(*asked, return_exceptions=True)
    assert [type(each) for each in outcomes] == [Reopened, NotPossible, NotPossible]
    assert (await coordinator.engine.run(run_id)).row.version_number == 2


async def test_a_request_is_answered_as_the_first_time_whatever_its_version(world: World) -> None:
    coordinator, agent = await connected(world)
    run_id = await failed(coordinator, agent, FIRST, b"1", b"2")
    await coordinator.create(MENDED)
    asked = RequestKey("", "RunService.Retry", "k", b"newest")
    other = RequestKey("", "RunService.Retry", "k", b"another version")
    retry_run = coordinator.engine.retry_run
    first = await retry_run(run_id, "", "", asked, NEWEST)
    assert first == Reopened(kept=2, reset=3, kept_runs=2)
    assert await retry_run(run_id, "", "", asked, NEWEST) == first
    repeated = await retry_run(run_id, "", "", other, 77)
    assert isinstance(repeated, Repeated)
    assert not repeated.same


async def test_the_limits_are_those_of_the_new_version(world: World) -> None:
    coordinator, agent = await connected(world)
    run_id = await failed(coordinator, agent, spec(step("a"), step("b", "1", "a")), b"1")
    limited = spec(step("a"), step("b", "1", "a", concurrency={"key": "k"}), max_active_runs=1)
    other = await coordinator.start(limited)
    held = await agent.grant()
    await retry(coordinator, run_id)
    view = await coordinator.engine.run(run_id)
    assert (view.row.state, view.held_by_key) == (RunState.PENDING, "pipeline:p")
    await agent.acked(await agent.succeed(held))
    await done(agent, b"1", b"2")
    await coordinator.ended(other)
    assert (await coordinator.ended(run_id)).row.state == RunState.COMPLETED


async def test_a_key_that_cannot_be_made_of_the_parameters_is_refused(world: World) -> None:
    coordinator, agent = await connected(world)
    first = spec(step("a"), step("b", "1", "a"), parameters=[DAY])
    run_id = await failed(coordinator, agent, first, b"1", parameters=b'{"day": ""}')
    keyed = spec(step("a"), step("b", "1", "a"), parameters=[DAY], concurrency={"key_expression": "params.day"})
    await coordinator.create(keyed)
    with pytest.raises(NotPossible, match=r"concurrency.* of version 2"):
        await retry(coordinator, run_id)


async def test_watchers_see_the_switch(world: World) -> None:
    coordinator, agent = await connected(world)
    run_id = await failed(coordinator, agent, FIRST, b"1", b"2", origin=Origin(priority=3))
    await coordinator.create(MENDED)
    await retry(coordinator, run_id)
    await done(agent, b"1", b"1", b"1")
    view = await coordinator.ended(run_id)
    events = [event async for batch in coordinator.engine.watch(run_id, 1) for _, event in batch]
    (reopened,) = [event for event in events if isinstance(event, RunReopened)]
    assert (reopened.version_digest, reopened.requested_by) == (view.plan.digest, "ann")
    assert view.row.origin.priority == 3

"""A coordinator dies at every moment of a run with sub-pipelines: before each of its commits, one after the other.

Whenever it is, the next coordinator brings it to the same end, with one run for each attempt and none that is left.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
from typing import TYPE_CHECKING, Any

import pytest
from google.protobuf import json_format
from tests.integration.runtime.test_runs import spec
from tests.waiting import until

from penstock.v1.pipeline_pb2 import TRIGGER_RULE_ALL_DONE, PipelineSpec
from penstock_coordinator.core.run.states import RunState

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

    from tests.integration.runtime.conftest import Coordinator, World
    from tests.integration.runtime.scripted_agent import ScriptedAgent

    from penstock.agent.v1 import agent_service_pb2 as wire
    from penstock_coordinator.ports import Record, RunId, RunRow

MANY = 50
HOUR = 3_600_000_000
PATIENCE = 60.0
LEAF = spec({"name": "work"}, name="leaf", output={"step": "work"})


def parent(**options: Any) -> PipelineSpec:
    child = {"name": "child", "pipeline": {"name": "leaf"}, **options}
    fields = {"name": "top", "steps": [child], "output": {"step": "child"}}
    return json_format.ParseDict(fields, PipelineSpec())


class Death:
    """Of a coordinator, when it has made so many commits and begins the next one."""

    def __init__(self, coordinator: Coordinator, after: int) -> None:
        self.came = asyncio.Event()
        self._left = after
        coordinator.stores.faults.on_attempt = self._attempt

    def _attempt(self, records: Sequence[Record]) -> None:
        self._left -= 1
        if self._left < 0:
            self.came.set()
            raise asyncio.CancelledError


class Life:
    """One coordinator, and an agent that does what it is given, once the gate is open."""

    def __init__(self, world: World, coordinator: Coordinator, agent: ScriptedAgent, first: bool) -> None:
        self.world, self.coordinator, self.agent, self.first = world, coordinator, agent, first
        self.engine = coordinator.engine
        self.gate = asyncio.Event()
        self.gate.set()
        self.granted = asyncio.Event()
        self.fails = 0

    async def work(self) -> None:
        await self.agent.connect(credits=1_000)
        while True:
            grant = await self._next()
            self.granted.set()
            if not self.gate.is_set():
                stopped = asyncio.create_task(self.agent.until(lambda grant=grant: self._stopped(grant)))  # type: ignore[misc]  # the default binds it
                opened = asyncio.create_task(self.gate.wait())
                await asyncio.wait({stopped, opened}, return_when=asyncio.FIRST_COMPLETED)
                for task in (stopped, opened):
                    task.cancel()
            if self._stopped(grant) or self.fails:
                self.fails -= bool(self.fails)
                await self.agent.fail(grant)
            else:
                await self.agent.succeed(grant, b"7")

    async def _next(self) -> wire.LeaseGrant:
        while True:
            with contextlib.suppress(TimeoutError):
                return await self.agent.grant()

    def _stopped(self, grant: wire.LeaseGrant) -> bool:
        return any(each.lease == grant.lease for each in self.agent.cancels)

    async def started(self, top: PipelineSpec) -> RunId:
        """What a person does who does not know whether it was started before the death."""
        for made in (LEAF, top):
            await self.coordinator.create(made)
        there = tops(self.world)
        return there[0].run_id if there else await self.coordinator.start(top)

    async def child(self) -> RunId:
        """The run below, once there is one."""

        async def found() -> list[RunRow]:
            return below(self.world)

        return (await until(found, PATIENCE))[0].run_id

    async def waited_long_enough(self) -> None:
        """The time that the run above gives the one below is over, now that there is one."""
        await self.child()
        self.world.clock.set_later(HOUR)
        self.coordinator.supervisor._deadlines._due()

    async def paused(self, run_id: RunId) -> None:
        async def condition() -> bool:
            return (await self.engine.run(run_id)).paused is not None

        await until(condition, PATIENCE)


def tops(world: World) -> list[RunRow]:
    return [row for row in world.database.runs.values() if row.origin.parent is None]


@contextlib.asynccontextmanager
async def living(world: World, number: int) -> AsyncIterator[Life]:
    coordinator = await world.coordinator()
    agent = coordinator.agent("a1", slots=8, boot_id=f"boot-{number}")
    life = Life(world, coordinator, agent, not number)
    task = asyncio.create_task(life.work())
    try:
        yield life
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def dies_after(world: World, commits: int, story: Callable[[Life], Awaitable[None]]) -> bool:
    """Plays the story with one death in it. False if it came to its end before."""
    async with asyncio.timeout(PATIENCE):
        async with living(world, 0) as life:
            death = Death(life.coordinator, commits)
            told = asyncio.ensure_future(story(life))
            came = asyncio.create_task(death.came.wait())
            await asyncio.wait({told, came}, return_when=asyncio.FIRST_COMPLETED)
            died = death.came.is_set()
            told.cancel()
            came.cancel()
            results = await asyncio.gather(told, came, return_exceptions=True)
        await life.coordinator.kill()
        if not died:
            assert results[0] is None, results[0]
            return False
        async with living(world, 1) as again:
            await story(again)
            again.coordinator.check()
    return True


async def at_every_moment(
    make: Callable[[], World], story: Callable[[Life], Awaitable[None]], check: Callable[[World], None]
) -> None:
    for commits in itertools.count():
        world = make()
        died = await dies_after(world, commits, story)
        rows = list(world.database.runs.values())
        assert all(RunState(row.state).at_rest for row in rows), commits
        check(world)
        await world.close()
        if not died:
            assert commits > 3
            return


@pytest.fixture
def make(world: World) -> Callable[[], World]:
    return type(world)


def below(world: World) -> list[RunRow]:
    return [row for row in world.database.runs.values() if row.origin.parent is not None]


def state(row: RunRow) -> RunState:
    return RunState(row.state)


def completed_once(world: World) -> None:
    (top,), (child,) = tops(world), below(world)
    assert (state(top), state(child)) == (RunState.COMPLETED, RunState.COMPLETED)
    assert top.output == child.output == b"7"


async def test_from_the_start_to_the_end(make: Callable[[], World]) -> None:
    async def story(life: Life) -> None:
        await life.coordinator.ended(await life.started(parent()))

    await at_every_moment(make, story, completed_once)


async def test_an_attempt_is_one_run(make: Callable[[], World]) -> None:
    async def story(life: Life) -> None:
        life.fails = int(not any(RunState(row.state) is RunState.FAILED for row in below(life.world)))
        retry = {"max_attempts": 2, "initial_backoff": "0.001s"}
        await life.coordinator.ended(await life.started(parent(retry=retry)))

    def check(world: World) -> None:
        (top,) = tops(world)
        assert state(top) is RunState.COMPLETED
        assert sorted(state(row) for row in below(world)) == [RunState.COMPLETED, RunState.FAILED]

    await at_every_moment(make, story, check)


@pytest.mark.parametrize("immediate", [False, True])
async def test_a_stop(make: Callable[[], World], immediate: bool) -> None:
    async def story(life: Life) -> None:
        life.gate.clear()
        run_id = await life.started(parent())
        if life.first:
            await life.granted.wait()
        await life.engine.cancel_run(run_id, immediate, "enough", None)
        await life.coordinator.ended(run_id)

    def check(world: World) -> None:
        (top,) = tops(world)
        assert state(top) is RunState.CANCELLED
        # Nobody had the time to start one if the death came before.
        assert [state(row) for row in below(world)] in ([], [RunState.CANCELLED])

    await at_every_moment(make, story, check)


async def test_a_pause_and_its_end(make: Callable[[], World]) -> None:
    async def story(life: Life) -> None:
        life.gate.clear()
        run_id = await life.started(parent())
        if life.first:
            await life.granted.wait()
            await life.engine.pause_run(run_id, "ann", "dinner", None)
            await life.paused(await life.child())
        await life.engine.resume_run(run_id, "ann", None)
        life.gate.set()
        await life.coordinator.ended(run_id)

    await at_every_moment(make, story, completed_once)


async def test_what_a_person_paused_stays_paused(world: World) -> None:
    """Also over a restart, and although the run above is paused and goes on meanwhile."""
    async with living(world, 0) as life:
        life.gate.clear()
        run_id = await life.started(parent())
        child = await life.child()
        await life.granted.wait()
        await life.engine.pause_run(child, "bob", "mine", None)
        await life.engine.pause_run(run_id, "ann", "dinner", None)
        await life.engine.resume_run(run_id, "ann", None)
    await life.coordinator.kill()
    async with living(world, 1) as again:
        assert (await again.engine.run(run_id)).row.state == RunState.RUNNING
        found = await again.engine.run(child)
        assert found.paused is not None
        assert found.paused.requested_by == "bob"
        await again.engine.resume_run(child, "bob", None)
        await again.coordinator.ended(run_id)
    completed_once(world)


async def test_what_a_person_resumed_goes_on_after_a_restart(world: World) -> None:
    async with living(world, 0) as life:
        life.gate.clear()
        run_id = await life.started(parent())
        child = await life.child()
        await life.granted.wait()
        await life.engine.pause_run(run_id, "ann", "dinner", None)
        await life.paused(child)
        await life.engine.resume_run(child, "bob", None)
    await life.coordinator.kill()
    async with living(world, 1) as again:
        await again.coordinator.ended(child)
        await again.engine.resume_run(run_id, "ann", None)
        await again.coordinator.ended(run_id)
    completed_once(world)


async def test_a_stop_that_the_database_did_not_take_is_said_again(world: World) -> None:
    async with living(world, 0) as life:
        life.gate.clear()
        run_id = await life.started(parent())
        child = await life.child()
        await life.granted.wait()
        refused = iter((True,))
        life.coordinator.stores.faults.refuse = lambda record: (
            "not now" if record.run_id == child and next(refused, False) else None
        )
        await life.engine.cancel_run(run_id, False, "enough", None)
        assert (await life.coordinator.ended(run_id)).row.state == RunState.CANCELLED
        assert next(refused, None) is None
    assert state(below(world)[0]) is RunState.CANCELLED


@pytest.mark.parametrize("commits", [2, 5, 12, 30, 60])
async def test_with_many_under_way(world: World, commits: int) -> None:
    async def story(life: Life) -> None:
        mapped = {"map": {"values": list(range(MANY))}}
        await life.coordinator.ended(await life.started(parent(**mapped)))

    await dies_after(world, commits, story)
    (top,) = tops(world)
    assert state(top) is RunState.COMPLETED
    assert json.loads(top.output or b"") == [7] * MANY
    assert [state(row) for row in below(world)] == [RunState.COMPLETED] * MANY


async def test_the_wait_of_a_step_is_over(make: Callable[[], World]) -> None:
    """The run below is stopped, though nobody waits for it any more; the run above goes on meanwhile."""
    top = parent(timeouts={"overall": "3600s"}, allow_failure=True)
    top.steps.add(name="after", depends_on=["child"], trigger_rule=TRIGGER_RULE_ALL_DONE).function.CopyFrom(
        LEAF.steps[0].function
    )

    async def story(life: Life) -> None:
        life.gate.clear()
        run_id = await life.started(top)
        await life.waited_long_enough()
        await until(lambda: all_stopped(life.world), PATIENCE)
        life.gate.set()
        await life.coordinator.ended(run_id)

    async def all_stopped(world: World) -> bool:
        return bool(below(world)) and all(state(row).at_rest for row in below(world))

    def check(world: World) -> None:
        assert [state(row) for row in tops(world)] == [RunState.COMPLETED]
        assert [state(row) for row in below(world)] == [RunState.CANCELLED]

    await at_every_moment(make, story, check)


async def test_the_wait_of_a_run_is_over(make: Callable[[], World]) -> None:
    """The run above is at rest when the coordinator dies, and the run below has not heard that it was given up."""

    async def story(life: Life) -> None:
        life.gate.clear()
        run_id = await life.started(parent(timeouts={"overall": "3600s"}))
        await life.waited_long_enough()
        await life.coordinator.ended(run_id)
        await until(lambda: all_stopped(life.world), PATIENCE)

    async def all_stopped(world: World) -> bool:
        return all(state(row).at_rest for row in below(world))

    def check(world: World) -> None:
        assert [state(row) for row in tops(world)] == [RunState.FAILED]
        # Nobody had the time to start one if the death came before.
        assert [state(row) for row in below(world)] in ([], [RunState.CANCELLED])

    await at_every_moment(make, story, check)


@pytest.mark.parametrize("above_goes_on", [False, True])
async def test_what_was_given_up_and_opened_again_goes_on_after_a_restart(world: World, above_goes_on: bool) -> None:
    top = parent(timeouts={"overall": "3600s"}, allow_failure=True)
    if above_goes_on:
        top.steps.add(name="after", depends_on=["child"], trigger_rule=TRIGGER_RULE_ALL_DONE).function.CopyFrom(
            LEAF.steps[0].function
        )
    async with living(world, 0) as life:
        life.gate.clear()
        run_id = await life.started(top)
        child = await life.child()
        await life.waited_long_enough()
        await life.coordinator.ended(child)
        if not above_goes_on:
            await life.coordinator.ended(run_id)
        await life.engine.retry_run(child, "bob", "mine", None)
    await life.coordinator.kill()
    async with living(world, 1) as again:
        assert (await again.coordinator.ended(child)).row.state == RunState.COMPLETED
        await again.coordinator.ended(run_id)

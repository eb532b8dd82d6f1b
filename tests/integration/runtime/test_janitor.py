"""The janitor beside a coordinator at work: what is old goes, what anybody looks after stays."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from google.protobuf import json_format
from tests.integration.runtime.test_runs import spec
from tests.waiting import until

from penstock.v1.pipeline_pb2 import PipelineSpec
from penstock_coordinator.core.run.messages import RetryRun
from penstock_coordinator.core.run.states import RunState
from penstock_coordinator.ports import LogChunk, LogLine, Unavailable
from penstock_coordinator.runtime import janitor as janitor_module
from penstock_coordinator.runtime.absent_runs import RemovedRun
from penstock_coordinator.runtime.janitor import Busy, Janitor
from penstock_coordinator.runtime.reopening import Reopener
from penstock_coordinator.runtime.retention import Pace, Report, Retention
from penstock_coordinator.runtime.views import SetAside, UnknownRun

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from tests.integration.runtime.conftest import Coordinator, World

    from penstock_coordinator.ports import RunId

ONE = spec({"name": "a"})
PATIENCE = 60.0
FOR_EVER: dict[str, Any] = dict.fromkeys(
    ("runs", "logs", "bulk_jobs", "deleted_pipelines", "unused_bundles", "notes"), 0
)
"""And what is left: requests, for the shortest time."""


def janitor(coordinator: Coordinator, **spans: Any) -> Janitor:
    """Keeps all for ever but what is given."""
    retention = Retention(**{**FOR_EVER, "requests": 1, "strays": 0, **spans})
    return Janitor(coordinator.supervisor, retention, Pace(interval=0, batch=10, pause=0))


async def finished(coordinator: Coordinator, count: int, pipeline: PipelineSpec = ONE) -> list[RunId]:
    """Runs that are COMPLETED, with a line of logs each."""
    agent = coordinator.agent(f"agent-{len(coordinator.agents)}")
    await agent.connect(credits=count)
    runs = [await coordinator.start(pipeline) for _ in range(count)]
    for _ in range(count):
        await agent.succeed(await agent.grant(), b"1")
    for run_id in runs:
        await coordinator.ended(run_id)
        await coordinator.stores.logs.append_logs([LogChunk(run_id, 0, -1, 1, 5, (LogLine(1, 1, 5, "line"),))])
    await agent.goodbye()
    return runs


def rows_of(world: World, run_id: RunId) -> tuple[int, ...]:
    database = world.database
    tables: list[dict[RunId, Any]] = [database.records, database.step_runs, database.attempts, database.logs]
    return (int(run_id in database.runs), *(len(table.get(run_id, ())) for table in tables))


def gone(world: World, *runs: RunId) -> bool:
    return all(rows_of(world, run_id) == (0,) * 5 for run_id in runs)


async def becomes(condition: Callable[[], bool]) -> None:
    async def holds() -> bool:
        return condition()

    await until(holds)


def counts(report: Report) -> dict[str, int]:
    return {name: count for name, count in report.counts().items() if count}


async def test_runs_go_by_age_with_all_that_is_stored_of_them(world: World) -> None:
    coordinator = await world.coordinator()
    runs = await finished(coordinator, 3)
    live = await coordinator.start(ONE)
    before = [rows_of(world, run_id) for run_id in runs]
    kept = rows_of(world, live)

    foretold = await janitor(coordinator, runs=1).run_once(dry_run=True)
    assert [rows_of(world, run_id) for run_id in runs] == before, "a dry run changes nothing"
    report = await janitor(coordinator, runs=1).run_once()

    assert gone(world, *runs)
    assert rows_of(world, live) == kept
    events = sum(rows[1] for rows in before)
    assert counts(report) == {"runs": 3, "events": events, "step_runs": 3, "attempts": 3, "logs": 3}
    assert counts(foretold) == counts(report)
    assert report.end_time >= report.start_time > 0
    again = await janitor(coordinator, runs=1).run_once()
    assert counts(again) == {}


async def test_it_is_known_for_how_long_a_run_is_overdue(world: World) -> None:
    coordinator = await world.coordinator()
    runs = await finished(coordinator, 2)
    assert await janitor(coordinator).overdue() == 0, "all is kept for ever"
    assert await janitor(coordinator, runs=3_600_000_000).overdue() == 0
    ended = min(world.database.runs[run_id].end_time or 0 for run_id in runs)
    before = coordinator.supervisor.clock.now()
    overdue = await janitor(coordinator, runs=1).overdue()
    assert before - ended - 1 <= overdue <= coordinator.supervisor.clock.now() - ended - 1
    await janitor(coordinator, runs=1).run_once()
    assert await janitor(coordinator, runs=1).overdue() == 0


async def test_the_newest_of_each_pipeline_stay(world: World) -> None:
    coordinator = await world.coordinator()
    first, other = await finished(coordinator, 5), await finished(coordinator, 2, spec({"name": "a"}, name="q"))
    foretold = await janitor(coordinator, runs_of_pipeline=2).run_once(dry_run=True)
    report = await janitor(coordinator, runs_of_pipeline=2).run_once()
    assert gone(world, *first[:3])
    assert not any(gone(world, run_id) for run_id in (*first[3:], *other))
    assert (report.runs, counts(foretold)) == (3, counts(report))


async def test_no_run_goes_while_its_requests_are_honoured(world: World) -> None:
    coordinator = await world.coordinator()
    runs = await finished(coordinator, 3)
    hour = 3_600_000_000
    report = await janitor(coordinator, runs=1, runs_of_pipeline=1, requests=hour).run_once()
    assert counts(report) == {}
    assert not any(gone(world, run_id) for run_id in runs)


async def test_age_and_number_and_logs_are_foretold_once(world: World) -> None:
    coordinator = await world.coordinator()
    await finished(coordinator, 4)
    foretold = await janitor(coordinator, runs=1, runs_of_pipeline=1, logs=1).run_once(dry_run=True)
    report = await janitor(coordinator, runs=1, runs_of_pipeline=1, logs=1).run_once()
    assert counts(foretold) == counts(report)
    assert (report.runs, report.logs) == (4, 4)


async def test_logs_go_before_their_runs(world: World) -> None:
    coordinator = await world.coordinator()
    (run_id,) = await finished(coordinator, 1)
    runs, events, steps, attempts, _ = rows_of(world, run_id)
    assert counts(await janitor(coordinator, logs=1).run_once()) == {"logs": 1}
    assert rows_of(world, run_id) == (runs, events, steps, attempts, 0)
    assert (await coordinator.engine.run(run_id)).row.state == RunState.COMPLETED


# --- runs above and below each other

LEAF = spec({"name": "work"}, name="leaf")
TOP = json_format.ParseDict({"name": "top", "steps": [{"name": "child", "pipeline": {"name": "leaf"}}]}, PipelineSpec())


async def with_child(coordinator: Coordinator) -> tuple[RunId, RunId]:
    """A run that failed because its child did."""
    await coordinator.create(LEAF)
    agent = coordinator.agent(f"agent-{len(coordinator.agents)}")
    await agent.connect(credits=1)
    top = await coordinator.start(TOP)
    grant = await agent.grant()
    await agent.fail(grant)
    await coordinator.ended(top)
    await agent.goodbye()
    return top, grant.lease.run_id


async def test_runs_below_go_with_the_run_that_they_are_steps_of(world: World) -> None:
    coordinator = await world.coordinator()
    top, child = await with_child(coordinator)
    foretold = await janitor(coordinator, runs=1).run_once(dry_run=True)
    assert counts(await janitor(coordinator, runs_of_pipeline=1).run_once()) == {}, "a step of a run does not go alone"
    report = await janitor(coordinator, runs=1).run_once()
    assert report.runs == 2
    assert counts(foretold) == counts(report)
    assert gone(world, top, child)


async def test_what_is_held_from_below_hides_no_run_that_is_overdue(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(janitor_module, "OVERDUE_LOOKED_AT", 1)
    coordinator = await world.coordinator()
    _, child = await with_child(coordinator)
    now = coordinator.supervisor.clock.now()
    await Reopener(coordinator.supervisor).reopen(child, RetryRun(now, "somebody"), None)
    assert await janitor(coordinator, runs=1).overdue() == 0
    await coordinator.engine.cancel_run(await coordinator.start(ONE), True, "", None)
    overdue = janitor(coordinator, runs=1).overdue

    async def told() -> bool:
        return await overdue() > 0

    await until(told)


async def test_a_run_stays_while_one_below_it_is_live(world: World) -> None:
    coordinator = await world.coordinator()
    top, child = await with_child(coordinator)
    now = coordinator.supervisor.clock.now()
    await Reopener(coordinator.supervisor).reopen(child, RetryRun(now, "somebody"), None)
    assert counts(await janitor(coordinator, runs=1).run_once()) == {}
    await coordinator.engine.cancel_run(child, True, "", None)
    await coordinator.ended(child)
    assert (await janitor(coordinator, runs=1).run_once()).runs == 2
    assert gone(world, top, child)


# --- what readers are told


async def test_whoever_asks_for_a_removed_run_is_told_when_it_was_removed(world: World) -> None:
    coordinator = await world.coordinator()
    run_id, other = await finished(coordinator, 2)
    engine = coordinator.engine
    report = await janitor(coordinator, runs_of_pipeline=1).run_once()

    async def watched() -> None:
        async for _ in engine.watch(run_id, 1):
            pass

    async def waited() -> None:
        async for _ in engine.wait_many([run_id]):
            pass

    asking = (
        engine.run(run_id),
        engine.run(run_id, 2),
        engine.step_runs(run_id, None, frozenset(), None, 10),
        engine.step_run(run_id, 0, -1),
        engine.explain(run_id, None, -1),
        engine.difference(run_id, other),
        engine.difference(other, run_id),
        engine.cancel_run(run_id, False, "", None),
        engine.retry_run(run_id, "", "", None),
        watched(),
        waited(),
    )
    for question in asking:
        with pytest.raises(RemovedRun) as removed:
            await question
        assert removed.value.removed_at == report.start_time


async def test_a_reader_of_a_journal_that_is_being_removed_is_told(world: World) -> None:
    """And does not take half of it for all."""
    coordinator = await world.coordinator()
    (run_id,) = await finished(coordinator, 1)
    del world.database.records[run_id][1]
    with pytest.raises(UnknownRun):
        await coordinator.engine.run(run_id, 2)
    with pytest.raises(UnknownRun):
        async for _ in coordinator.engine.watch(run_id, 1):
            pass


# --- whatever happens in between


class Interrupted:
    """A store that is away from its `after`th answer on."""

    def __init__(self, store: object, after: int) -> None:
        self._store = store
        self.left = after

    def __getattr__(self, name: str) -> Callable[..., Any]:
        asked: Callable[..., Any] = getattr(self._store, name)
        if name == "alone":
            return asked

        async def ask(*arguments: Any, **named: Any) -> Any:
            self.left -= 1
            if self.left < 0:
                raise Unavailable("cut")
            return await asked(*arguments, **named)

        return ask


async def test_a_pass_may_end_between_any_two_transactions(world: World) -> None:
    coordinator = await world.coordinator()
    interruptions = 0
    for after in range(1_000):
        top, child = await with_child(coordinator)
        runs = await finished(coordinator, 2)
        live = await coordinator.start(ONE)
        kept = rows_of(world, live)
        interrupted = janitor(coordinator, runs=1, logs=1)
        cut = Interrupted(interrupted._store, after)
        interrupted._store = cut
        with contextlib.suppress(Unavailable):
            await interrupted.run_once()
        interruptions += cut.left < 0
        report = await janitor(coordinator, runs=1, logs=1).run_once()
        assert gone(world, top, child, *runs), after
        assert rows_of(world, live) == kept
        assert not [note for note in world.database.removed_runs.values() if not note.gone]
        await coordinator.engine.cancel_run(live, True, "", None)
        if cut.left >= 0:
            assert counts(report) == {}
            break
    assert interruptions > 20


async def test_nothing_accepted_is_lost_beside_a_janitor_that_never_rests(world: World) -> None:
    coordinator = await world.coordinator()
    agent = coordinator.agent()
    await agent.connect(credits=1_000)
    chain = spec({"name": "a"}, {"name": "b", "depends_on": ["a"]})
    sweeping = janitor(coordinator, runs=1, logs=1, runs_of_pipeline=3)
    removed, stop = 0, asyncio.Event()

    async def sweep() -> None:
        nonlocal removed
        while not stop.is_set():
            removed += (await sweeping.run_once(thorough=True)).runs
            await asyncio.sleep(0)

    async def work() -> None:
        for _ in range(400):
            await agent.succeed(await agent.grant())

    waits: list[asyncio.Task[RunState]] = []

    async def ended(run_id: RunId) -> RunState:
        actor = coordinator.supervisor.actor(run_id)
        assert actor is not None
        run = actor.run
        await coordinator.engine.at_rest(run_id)
        return run.state

    sweeper = asyncio.create_task(sweep())
    async with asyncio.timeout(4 * PATIENCE):
        async with asyncio.TaskGroup() as group:
            group.create_task(work())
            for _ in range(200):
                waits.append(asyncio.create_task(ended(await coordinator.start(chain))))
        assert set(await asyncio.gather(*waits)) == {RunState.COMPLETED}
        stop.set()
        await sweeper
        removed += (await sweeping.run_once()).runs
    assert removed == 200
    assert not world.database.records
    assert not coordinator.fatal


async def test_a_retry_at_the_moment_of_the_removal_is_refused_or_runs(world: World) -> None:
    coordinator = await world.coordinator()
    retried = 0

    async def after(turns: int, work: Coroutine[Any, Any, Any]) -> Any:
        for _ in range(turns):
            await asyncio.sleep(0)
        return await work

    for lead in range(-300, 300, 20):
        _, child = await with_child(coordinator)
        now = coordinator.supervisor.clock.now()
        opening = Reopener(coordinator.supervisor).reopen(child, RetryRun(now, "somebody"), None)
        removing = janitor(coordinator, runs=1).run_once()
        both = after(max(-lead, 0), opening), after(max(lead, 0), removing)
        results: list[object] = list(await asyncio.gather(*both, return_exceptions=True))
        outcome = results[0]
        assert isinstance(results[1], Report)
        if isinstance(outcome, BaseException):
            assert isinstance(outcome, UnknownRun)
            assert gone(world, child)
        else:
            retried += 1
            assert rows_of(world, child)[0] == 1
            await coordinator.engine.cancel_run(child, True, "", None)
            await coordinator.ended(child)
    assert 0 < retried < 30, "both happened"
    assert not coordinator.fatal


# --- runs and rows that nobody looks after


async def test_a_live_run_without_an_actor_goes_on(world: World) -> None:
    coordinator = await world.coordinator()
    limited = spec({"name": "a"}, max_active_runs=1)
    lost, held = await coordinator.start(limited), await coordinator.start(limited)
    supervisor = coordinator.supervisor
    supervisor._actors.pop(lost).discard()
    assert supervisor.lost(lost)

    foretold = await janitor(coordinator).run_once(dry_run=True)
    assert (foretold.adopted, supervisor.lost(lost)) == (1, True)
    assert (await janitor(coordinator).run_once()).adopted == 1
    assert (await janitor(coordinator).run_once()).adopted == 0
    agent = coordinator.agent()
    await agent.connect(credits=2)
    for run_id in (lost, held):
        grant = await agent.grant()
        assert grant.lease.run_id == run_id, "it kept its place"
        await agent.succeed(grant)
        assert (await coordinator.ended(run_id)).row.state == RunState.COMPLETED


async def test_a_live_run_that_cannot_go_on_is_told_and_the_others_are_looked_after(world: World) -> None:
    coordinator = await world.coordinator()
    broken, sound = await coordinator.start(ONE), await coordinator.start(ONE)
    for run_id in (broken, sound):
        coordinator.supervisor._actors.pop(run_id).discard()
    records = world.database.records[broken]
    readable = records[1]
    records[1] = msgspec.structs.replace(records[1], payload=b"\xc1")
    report = await janitor(coordinator).run_once()
    assert (report.adopted, report.unrecoverable) == (1, [broken])
    with pytest.raises(SetAside):
        await coordinator.engine.run(broken)
    records[1] = readable
    report = await janitor(coordinator).run_once()
    assert (report.adopted, report.unrecoverable) == (1, [])
    for run_id in (broken, sound):
        await coordinator.engine.cancel_run(run_id, True, "", None)
        assert (await coordinator.ended(run_id)).row.state == RunState.CANCELLED


async def test_live_runs_of_another_coordinator_are_told_and_left_alone(world: World) -> None:
    coordinator = await world.coordinator()
    run_id = await coordinator.start(ONE)
    await coordinator.kill()
    world.database.runs[run_id] = dataclasses.replace(world.database.runs[run_id], owner="c0")
    second = await world.coordinator()
    report = await janitor(second, runs=1).run_once()
    assert (report.live_of_others, report.adopted) == ({"c0": 1}, 0)
    assert rows_of(world, run_id)[0] == 1


async def test_rows_of_no_run_go(world: World) -> None:
    coordinator = await world.coordinator()
    runs = await finished(coordinator, 25)
    for run_id in runs[:23]:
        del world.database.runs[run_id]
    foretold = await janitor(coordinator).run_once(dry_run=True)
    young = await janitor(coordinator, strays=3_600_000_000).run_once()
    assert counts(young) == {}
    report = await janitor(coordinator).run_once()
    assert (report.strays, report.step_runs, report.logs, report.runs) == (23, 23, 23, 0)
    assert counts(foretold) == counts(report)
    assert gone(world, *runs[:23])
    assert not any(gone(world, run_id) for run_id in runs[23:])


async def test_strays_are_looked_for_in_one_part_after_the_other(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(janitor_module, "STRAY_PAGES", 1)
    coordinator = await world.coordinator()
    runs = await finished(coordinator, 25)
    del world.database.runs[runs[-1]]
    sweeping = janitor(coordinator)
    assert [(await sweeping.run_once()).strays for _ in range(3)] == [0, 0, 1]


# --- what goes by its age alone


async def test_a_bundle_goes_when_no_version_names_it(world: World) -> None:
    coordinator = await world.coordinator()
    stores = coordinator.stores
    digests = [letter * 64 for letter in "abc"]
    for digest in digests:
        await stores.bundles.put(digest, b"content", 1)
    named = PipelineSpec(name="named", bundle_digest=digests[0], steps=ONE.steps)
    large = PipelineSpec(name="large", bundle_digest=digests[1], steps=ONE.steps, description="x" * 100_000)
    await coordinator.create(named)
    await coordinator.create(large)
    sweeping = janitor(coordinator, unused_bundles=1, deleted_pipelines=1)
    assert (await sweeping.run_once(dry_run=True)).bundles == 1
    assert counts(await sweeping.run_once()) == {"bundles": 1}
    assert await stores.bundles.present(digests) == set(digests[:2])
    await stores.pipelines.delete_pipeline("named", 1, None)
    assert counts(await sweeping.run_once()) == {"pipelines": 1, "bundles": 1}
    assert await stores.bundles.present(digests) == {digests[1]}


# --- one at a time, and by itself


async def test_one_janitor_is_at_work_on_a_database(world: World) -> None:
    coordinator = await world.coordinator()
    async with coordinator.stores.retention.alone():
        with pytest.raises(Busy):
            await janitor(coordinator).run_once()
        await janitor(coordinator).run_once(dry_run=True)
    await janitor(coordinator).run_once()


async def test_two_passes_of_one_janitor_come_one_after_the_other(world: World) -> None:
    coordinator = await world.coordinator()
    await finished(coordinator, 3)
    sweeping = janitor(coordinator, runs=1)
    reports = await asyncio.gather(*(sweeping.run_once() for _ in range(2)))
    assert sorted(report.runs for report in reports) == [0, 3]


async def test_it_goes_on_by_itself_also_after_the_database_was_away(world: World) -> None:
    coordinator = await world.coordinator()
    (first,) = await finished(coordinator, 1)
    retention = Retention(**{**FOR_EVER, "requests": 1, "runs": 1})
    sweeping = Janitor(coordinator.supervisor, retention, Pace(interval=5_000, pause=0))
    task = asyncio.create_task(sweeping.run())
    try:
        async with asyncio.timeout(PATIENCE):
            await becomes(lambda: gone(world, first))
            whole, cut = sweeping._store, Interrupted(sweeping._store, 0)
            sweeping._store = cut
            (second,) = await finished(coordinator, 1)
            await becomes(lambda: cut.left < -3)
            assert not gone(world, second)
            sweeping._store = whole
            await becomes(lambda: gone(world, second))
    finally:
        task.cancel()

"""Bringing live runs back from the journal: fold the events, then resume the duties that the state still owes."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import structlog

from penstock_coordinator.core.run.events import UnknownEvent, decode
from penstock_coordinator.core.run.resume import resume
from penstock_coordinator.ports import Unavailable
from penstock_coordinator.runtime.aside import NoJournal
from penstock_coordinator.runtime.history import Folding, rebuild

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from penstock_coordinator.core.run.state import Run
    from penstock_coordinator.ports import AgentRegistry, Journal, RunId, RunRow, StoredRecord
    from penstock_coordinator.runtime.actor import Actor
    from penstock_coordinator.runtime.supervisor import Supervisor

PAGE = 1_000
"""Records, or agents, of one query."""
RUNS_AT_ONCE = 500
"""Runs whose journals one query is about."""
FOLDED_AT_ONCE = 100
"""Records; then others on the event loop have their turn: the next page is on its way meanwhile."""

log = structlog.get_logger(__name__)

Page = list[tuple["RunId", "StoredRecord"]]


async def recover_all(supervisor: Supervisor) -> int:
    """Make an actor of every live run that this coordinator owns, and wait for the agents that hold its leases. A run
    that cannot be made again is set aside. Raises `Unavailable`."""
    rows = await supervisor.stores.runs.live_runs(supervisor.coordinator_id)
    runs = await _rebuild_all(supervisor, rows)
    recovered = [
        (_actor(supervisor, row, runs[row.run_id]), resume(runs[row.run_id])) for row in rows if row.run_id in runs
    ]
    # Who holds what is known before anything is placed.
    supervisor.limits.restore(actor for actor, _ in recovered)
    for actor, duties in recovered:
        supervisor.adopt(actor, duties)
    await _cancel_given_up(supervisor, [actor for actor, _ in recovered])
    return len(recovered)


def _actor(supervisor: Supervisor, row: RunRow, run: Run) -> Actor:
    share = supervisor.share_of(row.origin, row.labels)
    # The same bytes once, not twice.
    parameters = run.parameters if run.parameters == row.parameters else row.parameters
    actor = supervisor.add(row.run_id, run.plan, run, parameters, row.trace_context, share)
    actor.origin = row.origin
    return actor


# --- many journals


async def _rebuild_all(supervisor: Supervisor, rows: Sequence[RunRow]) -> dict[RunId, Run]:
    """The runs as their journals say, but for those that are set aside."""
    runs = {row.run_id: Folding(supervisor.plans, row.run_id) for row in rows}
    async for page in _ahead(_pages(supervisor.stores.journal, sorted(runs))):
        for at in range(0, len(page), FOLDED_AT_ONCE):
            for run_id, record in page[at : at + FOLDED_AT_ONCE]:
                folding = runs.get(run_id)
                if folding is not None and (fault := await _fold(folding, record)) is not None:
                    supervisor.set_aside.put(run_id, fault)
                    del runs[run_id]
            await asyncio.sleep(0)
    for run_id in [run_id for run_id, folding in runs.items() if folding.run is None]:
        supervisor.set_aside.put(run_id, NoJournal())
    return {run_id: folding.run for run_id, folding in runs.items() if folding.run is not None}


async def _fold(folding: Folding, record: StoredRecord) -> Exception | None:
    """What is wrong with the record, or with the version that it names; then the run is of no use. Raises
    `Unavailable`."""
    try:
        for seq, event in enumerate(decode(record.payload), record.first_seq):
            await folding.add(seq, event)
    except Unavailable:
        raise
    except Exception as error:
        # An event of a newer release, or a fault of ours: in one run it must not stop the others.
        return error
    return None


async def _pages(journal: Journal, run_ids: Sequence[RunId]) -> AsyncIterator[Page]:
    """All records of the runs, whose ids are sorted."""
    for at in range(0, len(run_ids), RUNS_AT_ONCE):
        batch = run_ids[at : at + RUNS_AT_ONCE]
        page = await journal.read_many(batch, None, PAGE)
        yield page
        while len(page) == PAGE:
            run_id, last = page[-1]
            page = await journal.read_many(batch, (run_id, last.first_seq), PAGE)
            yield page


async def _ahead(pages: AsyncIterator[Page]) -> AsyncIterator[Page]:
    """The same, each asked for while the one before is worked on."""
    upcoming = asyncio.ensure_future(_next(pages))
    try:
        while (page := await upcoming) is not None:
            upcoming = asyncio.ensure_future(_next(pages))
            yield page
    finally:
        upcoming.cancel()


async def _next(pages: AsyncIterator[Page]) -> Page | None:
    return await anext(pages, None)


# --- what is left to do


async def _cancel_given_up(supervisor: Supervisor, recovered: list[Actor]) -> None:
    """A run at rest owes nothing but this: that the runs which it did not wait for are told. One that was opened again
    meanwhile is somebody's own."""
    above = {
        actor.origin.parent.run_id
        for actor in recovered
        if actor.origin.parent is not None and actor.run.generation == 1
    } - supervisor.set_aside.keys()
    for run_id in above:
        row = None if supervisor.actor(run_id) is not None else await supervisor.stores.runs.get(run_id)
        if row is None:
            continue
        try:
            run = await rebuild(supervisor.stores.journal, supervisor.plans, run_id)
        except UnknownEvent as error:
            log.warning("run_not_read", run=run_id.hex(), exc_info=error)
            continue
        assert run is not None, "a run's row comes with its first events"
        supervisor.children.cancel_given_up(run)


async def recover_lost(supervisor: Supervisor, run_id: RunId) -> bool:
    """Make an actor of a live run that has none although all were recovered, while the others go on. False if it needs
    none after all, or is set aside: it cannot be made again. Raises `Unavailable`."""
    try:
        return await _recover_lost(supervisor, run_id)
    except Unavailable:
        raise
    except Exception as error:
        if run_id not in supervisor.set_aside:
            supervisor.set_aside.put(run_id, error)
        return False


async def _recover_lost(supervisor: Supervisor, run_id: RunId) -> bool:
    row = await supervisor.stores.runs.get(run_id)
    if row is None:
        return False
    run = await rebuild(supervisor.stores.journal, supervisor.plans, run_id)
    if run is None or run.at_rest or not supervisor.lost(run_id):
        return False
    actor = _actor(supervisor, row, run)
    supervisor.set_aside.pop(run_id, None)
    supervisor.limits.adopt(actor)
    supervisor.adopt(actor, [duty for duty in resume(run) if not supervisor.holds(actor, duty)])
    await _cancel_given_up(supervisor, [actor])
    return True


async def last_boots(agents: AgentRegistry) -> dict[str, tuple[int, str]]:
    """Of each agent its last session, and the boot id of that: tells a restarted agent from one that was cut off."""
    boots: dict[str, tuple[int, str]] = {}
    after = ""
    while page := await agents.list_agents(PAGE, after):
        boots.update((row.agent_id, (row.session_epoch, row.boot_id)) for row in page)
        after = page[-1].agent_id
    return boots

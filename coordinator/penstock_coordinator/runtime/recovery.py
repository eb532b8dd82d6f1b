"""Bringing live runs back from the journal: fold the events, then resume the duties that the state still owes."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import structlog

from penstock_coordinator.core.run.events import UnknownEvent, decode
from penstock_coordinator.core.run.resume import resume
from penstock_coordinator.core.traces.ids import trace_of
from penstock_coordinator.ports import Unavailable
from penstock_coordinator.runtime.aside import NoJournal
from penstock_coordinator.runtime.history import Folding, rebuild

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Sequence

    from penstock_coordinator.core.run.state import Run
    from penstock_coordinator.ports import AgentRegistry, Journal, RunId, RunRow, StoredRecord
    from penstock_coordinator.runtime.actor import Actor
    from penstock_coordinator.runtime.plans import PlanCache
    from penstock_coordinator.runtime.supervisor import Supervisor

PAGE = 1_000
"""Records, or agents, of one query."""
RUNS_AT_ONCE = 500
"""Runs whose journals one query is about."""
FOLDED_AT_ONCE = 100
"""Records; then others on the event loop have their turn: the next page is on its way meanwhile."""

log = structlog.get_logger(__name__)

Page = list[tuple["RunId", "StoredRecord"]]


async def recover_all(supervisor: Supervisor, read: Reading | None = None) -> int:
    """Make an actor of every live run that this coordinator owns, and wait for the agents that hold its leases. A run
    that cannot be made again is set aside. `read`: what was read of them before they were its own; only what came since
    is read now. Raises `Unavailable`."""
    rows = await supervisor.stores.runs.live_runs(supervisor.coordinator_id)
    read = read or Reading(supervisor.stores.journal, supervisor.plans)
    await read.read([row.run_id for row in rows])
    recovered = []
    for row in rows:
        run = read.run(row.run_id)
        if run is not None:
            recovered.append((_actor(supervisor, row, run), resume(run)))
        else:
            supervisor.set_aside.put(row.run_id, read.faults.get(row.run_id) or NoJournal(), _trace_id(row))
    # Who holds what is known before anything is placed.
    supervisor.limits.restore(actor for actor, _ in recovered)
    for actor, duties in recovered:
        supervisor.adopt(actor, duties)
        supervisor.recovered(actor)
    await _cancel_given_up(supervisor, [actor for actor, _ in recovered])
    return len(recovered)


def _trace_id(row: RunRow) -> str:
    return trace_of(row.run_id, row.trace_context).trace_id.hex()


def _actor(supervisor: Supervisor, row: RunRow, run: Run) -> Actor:
    share = supervisor.share_of(row.origin, row.labels)
    # The same bytes once, not twice.
    parameters = run.parameters if run.parameters == row.parameters else row.parameters
    actor = supervisor.add(row.run_id, run.plan, run, parameters, row.trace_context, share)
    actor.origin = row.origin
    return actor


# --- many journals


class Reading:
    """Runs as their journals say, as far as these have been read; `read` goes on where it left off."""

    def __init__(self, journal: Journal, plans: PlanCache) -> None:
        self.plans = plans
        self.faults: dict[RunId, Exception] = {}
        """What was wrong, at the last time, with runs that cannot be made again."""
        self._journal = journal
        self._foldings: dict[RunId, Folding] = {}
        self._last: dict[RunId, int] = {}
        """Of each run the last event that was read."""

    def run(self, run_id: RunId) -> Run | None:
        folding = self._foldings.get(run_id)
        return None if folding is None else folding.run

    async def read(self, run_ids: Iterable[RunId]) -> int:
        """All that there is of those which are new, and what came since of the others. How many records that were.
        Others are forgotten. Raises `Unavailable`."""
        wanted = sorted(run_ids)
        self.faults = {}
        self._foldings = {run_id: self._foldings.get(run_id) or Folding(self.plans, run_id) for run_id in wanted}
        known = [run_id for run_id in wanted if run_id in self._last]
        new = [run_id for run_id in wanted if run_id not in self._last]
        self._last = {run_id: self._last.get(run_id, 0) for run_id in wanted}
        count = 0
        async for page in _ahead(_pages(self._journal, new)):
            count += await self._fold_all(page)
        for at in range(0, len(known), RUNS_AT_ONCE):
            count += await self._catch_up(known[at : at + RUNS_AT_ONCE])
        return count

    async def _catch_up(self, run_ids: Sequence[RunId]) -> int:
        count = 0
        while True:
            since = [(run_id, self._last[run_id]) for run_id in run_ids if run_id in self._last]
            page = await self._journal.read_since(since, PAGE)
            count += await self._fold_all(page)
            if len(page) < PAGE:
                return count

    async def _fold_all(self, page: Page) -> int:
        for at in range(0, len(page), FOLDED_AT_ONCE):
            for run_id, record in page[at : at + FOLDED_AT_ONCE]:
                folding = self._foldings.get(run_id)
                if folding is None:
                    continue
                fault = await self._fold(run_id, folding, record)
                if fault is not None:
                    self.faults[run_id] = fault
            await asyncio.sleep(0)
        return len(page)

    async def _fold(self, run_id: RunId, folding: Folding, record: StoredRecord) -> Exception | None:
        """A run of which a record was folded in part is read from its beginning the next time."""
        del self._foldings[run_id], self._last[run_id]
        if (fault := await _fold(folding, record)) is None:
            self._foldings[run_id], self._last[run_id] = folding, record.last_seq
        return fault


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
            log.warning("run_not_read", run=run_id.hex(), trace=_trace_id(row), exc_info=error)
            continue
        assert run is not None, "a run's row comes with its first events"
        supervisor.children.cancel_given_up(run)


async def recover_lost(supervisor: Supervisor, run_id: RunId) -> bool:
    """Make an actor of a live run that has none although all were recovered, while the others go on. False if it needs
    none after all, or is set aside: it cannot be made again. Raises `Unavailable`."""
    row = None
    try:
        row = await supervisor.stores.runs.get(run_id)
        return row is not None and await _recover_lost(supervisor, row)
    except Unavailable:
        raise
    except Exception as error:
        if run_id not in supervisor.set_aside:
            supervisor.set_aside.put(run_id, error, "" if row is None else _trace_id(row))
        return False


async def _recover_lost(supervisor: Supervisor, row: RunRow) -> bool:
    run_id = row.run_id
    run = await rebuild(supervisor.stores.journal, supervisor.plans, run_id)
    if run is None or run.at_rest or not supervisor.lost(run_id):
        return False
    actor = _actor(supervisor, row, run)
    supervisor.set_aside.pop(run_id, None)
    supervisor.limits.adopt(actor)
    supervisor.adopt(actor, [duty for duty in resume(run) if not supervisor.holds(actor, duty)])
    supervisor.recovered(actor)
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

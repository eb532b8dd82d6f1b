"""Bringing live runs back from the journal: fold the events, then resume the duties that the state still owes."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import structlog

from penstock_coordinator.core.fleet.boots import Boots
from penstock_coordinator.core.run.events import UnknownEvent, decode
from penstock_coordinator.core.run.resume import resume
from penstock_coordinator.core.run.states import RunState
from penstock_coordinator.core.traces.ids import trace_of
from penstock_coordinator.ports import Unavailable
from penstock_coordinator.runtime.aside import NoJournal
from penstock_coordinator.runtime.history import Folding, rebuild

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Sequence

    from penstock_coordinator.core.run.commands import Command
    from penstock_coordinator.core.run.state import Run
    from penstock_coordinator.ports import AgentRegistry, Journal, RunId, RunRow, StoredRecord, Stores
    from penstock_coordinator.runtime.actor import Actor
    from penstock_coordinator.runtime.plans import PlanCache
    from penstock_coordinator.runtime.supervisor import Supervisor

PAGE = 1_000
"""Records, or agents, of one query."""
RUNS_AT_ONCE = 500
"""Runs whose journals one query is about."""
FOLDED_AT_ONCE = 100
"""Records; then others on the event loop have their turn: the next page is on its way meanwhile."""
PASSES = 3
"""When runs are read that go on: each reads what came during the one before."""
ADOPTED_AT_ONCE = 100
"""Runs that share nothing, likewise."""

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


async def adopt_runs(supervisor: Supervisor, run_ids: Iterable[RunId], read: Reading | None = None) -> list[RunId]:
    """As `recover_all`, of live runs of this coordinator that have no actor although it goes on: it lost them, or
    another one had them before. Those that have one, or are not its own, are left alone. Returns those that have one
    now; what cannot be made again is set aside. `read`: what was read of them before.

    Raises `Unavailable`; then none has.
    """
    found = await supervisor.stores.runs.get_many(list(run_ids))
    rows = [row for row in found if _is_unattended(supervisor, row)]
    if not rows:
        return []
    read = read or Reading(supervisor.stores.journal, supervisor.plans)
    await asyncio.gather(read.read([row.run_id for row in rows]), supervisor.look_at_boots())
    adopted: list[Actor] = []
    # Who holds what is known before anything is placed; of runs that share nothing there is nothing to know.
    shared, others = _by_sharing(rows, read)
    for batch in (shared, *(others[at : at + ADOPTED_AT_ONCE] for at in range(0, len(others), ADOPTED_AT_ONCE))):
        adopted += _adopt_all(supervisor, batch, read)
        supervisor.hurry()
        await asyncio.sleep(0)
    supervisor.counts.adoptions.runs += len(adopted)
    await _cancel_given_up(supervisor, adopted)
    return [actor.run_id for actor in adopted]


def _is_unattended(supervisor: Supervisor, row: RunRow) -> bool:
    own = row.owner == supervisor.coordinator_id and not RunState(row.state).at_rest
    return own and supervisor.unattended(row.run_id)


def _by_sharing(rows: Iterable[RunRow], read: Reading) -> tuple[list[RunRow], list[RunRow]]:
    """Those whose limits are shared with others, and the rest."""
    shared: list[RunRow] = []
    others: list[RunRow] = []
    for row in rows:
        run = read.run(row.run_id)
        limited = run is not None and (run.plan.limited or run.plan.concurrency or run.plan.max_active_runs)
        (shared if limited else others).append(row)
    return shared, others


def _adopt_all(supervisor: Supervisor, rows: Iterable[RunRow], read: Reading) -> list[Actor]:
    """At once: nobody asks for anything in between. What was read of them may be older than what somebody else has made
    of them here meanwhile."""
    adopted: list[tuple[Actor, list[Command]]] = []
    for row in rows:
        if supervisor.stopping or not supervisor.unattended(row.run_id):
            continue
        run = read.run(row.run_id)
        if run is None:
            _set_aside(supervisor, row, read.faults.get(row.run_id) or NoJournal())
        elif not run.at_rest:
            duties = _duties(supervisor, row, run)
            if duties is not None:
                supervisor.set_aside.pop(row.run_id, None)
                adopted.append((_actor(supervisor, row, run), duties))
    actors = [actor for actor, _ in adopted]
    supervisor.arriving.arrived([actor.run_id for actor in actors])
    supervisor.limits.adopt(actors)
    for actor, duties in adopted:
        supervisor.adopt(actor, [duty for duty in duties if not supervisor.holds(actor, duty)])
        supervisor.recovered(actor)
    return actors


def _duties(supervisor: Supervisor, row: RunRow, run: Run) -> list[Command] | None:
    """None: the run is set aside."""
    try:
        return resume(run)
    except Exception as error:
        _set_aside(supervisor, row, error)
        return None


def _set_aside(supervisor: Supervisor, row: RunRow, error: Exception) -> None:
    """For the log once, however often it is tried."""
    if row.run_id not in supervisor.set_aside:
        supervisor.set_aside.put(row.run_id, error, _trace_id(row))


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

    def take(self, run_ids: Iterable[RunId]) -> Reading:
        """What was read of these alone; here they are forgotten."""
        taken = Reading(self._journal, self.plans)
        for run_id in run_ids:
            if (folding := self._foldings.pop(run_id, None)) is not None:
                taken._foldings[run_id], taken._last[run_id] = folding, self._last.pop(run_id)
        return taken

    def add(self, other: Reading) -> None:
        """What another one has read of other runs."""
        self._foldings.update(other._foldings)
        self._last.update(other._last)

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


async def read_ahead(reading: Reading, stores: Stores, owner_id: str) -> int:
    """The live runs of a coordinator that still writes them; how many there are. Raises `Unavailable`."""
    for _ in range(PASSES):
        rows = await stores.runs.live_runs(owner_id)
        if await reading.read([row.run_id for row in rows]) < PAGE:
            break
    return len(rows)


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


async def last_boots(agents: AgentRegistry) -> Boots:
    """Raises `Unavailable`."""
    boots = Boots()
    agent = ""
    while rows := await agents.list_agents(PAGE, agent):
        for row in rows:
            boots.add(row.agent_id, row.session_epoch, row.boot_id)
        agent = rows[-1].agent_id
    last = ("", "")
    while links := await agents.list_links(PAGE, last):
        for link in links:
            boots.add(link.agent_id, link.session_epoch, link.boot_id)
        last = links[-1].agent_id, links[-1].coordinator_id
    return boots

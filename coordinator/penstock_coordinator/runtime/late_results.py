"""What agents say of runs that are not live here: results, and leases that no coordinator speaks for.

Whether such a word comes too late only the run's row can tell. While the run is live, with another owner or before it
has its actor here, nothing is said that would end a lease or drop a result: its owner is yet to hear of it. Questions
are gathered for a moment, and one read answers all of them.
"""

from __future__ import annotations

import asyncio
import enum
from itertools import islice
from typing import TYPE_CHECKING

from penstock_coordinator.core.fleet.session import Verdict
from penstock_coordinator.core.run.states import RunState
from penstock_coordinator.ports import Unavailable
from penstock_coordinator.runtime.session import Acknowledgement

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable

    from penstock_coordinator.core.fleet.session import Held
    from penstock_coordinator.core.run.messages import AttemptEnded
    from penstock_coordinator.ports import RunId
    from penstock_coordinator.runtime.session import AgentSession
    from penstock_coordinator.runtime.supervisor import Supervisor

GATHER_SECONDS = 0.05
MOST_AT_ONCE = 1_000
"""Runs that one read is about."""
MOST_WAITING = 10_000
"""Questions. What comes beyond is dropped: agents say it again."""
MOST_WAITING_BYTES = 64 << 20
"""Of outputs, likewise: an agent that comes back may have thousands of results at once."""


class Place(enum.Enum):
    """Where a run is that has no actor here."""

    OVER = enum.auto()
    """It is at rest, or there is none."""
    ELSEWHERE = enum.auto()
    """It is live, and another coordinator's, or that of one that is gone."""
    OURS = enum.auto()
    """It is live, and this coordinator's: its actor is on its way."""


async def places_of(supervisor: Supervisor, run_ids: Collection[RunId]) -> dict[RunId, Place]:
    """By one read. Raises `Unavailable`."""
    rows = await supervisor.stores.runs.owners(list(run_ids))
    places = dict.fromkeys(run_ids, Place.OVER)
    for run_id, row in rows.items():
        if not RunState(row.state).at_rest:
            places[run_id] = Place.OURS if row.owner == supervisor.coordinator_id else Place.ELSEWHERE
    return places


class LateResults:
    """Of one supervisor."""

    def __init__(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor
        self._asked: dict[RunId, list[tuple[Callable[[Place], None], int]]] = {}
        """Who is to be told, and the bytes that wait with the question."""
        self._waiting = 0
        self._waiting_bytes = 0
        self._task: asyncio.Task[None] | None = None
        self._verdicts: dict[AgentSession, list[tuple[Held, Verdict]]] = {}
        self._moved: dict[AgentSession, dict[RunId, None]] = {}

    def close(self) -> None:
        """Agents say again what was not answered."""
        if self._task is not None:
            self._task.cancel()

    # --- what is asked

    def take(self, session: AgentSession, run_id: RunId, message: AttemptEnded) -> None:
        """A result. It is acknowledged, as one that nobody waits for, if its run is over. Else the agent keeps it."""
        self._ask(run_id, lambda place: self._settle(session, run_id, message, place), len(message.output))

    def judge(self, session: AgentSession, orphans: Iterable[Held]) -> None:
        """Leases that nobody speaks for and whose runs have no actors here: they end if their runs are over."""
        for held in orphans:
            self._ask(held.key[0], lambda place, held=held: self._judge(session, held, place))  # type: ignore[misc]  # bound early

    def _ask(self, run_id: RunId, told: Callable[[Place], None], size: int = 0) -> None:
        if self._waiting >= MOST_WAITING or self._waiting_bytes + size > MOST_WAITING_BYTES:
            return
        self._waiting += 1
        self._waiting_bytes += size
        self._asked.setdefault(run_id, []).append((told, size))
        if self._task is None:
            self._task = asyncio.create_task(self._answer_all(), name="late results")

    # --- what is answered

    async def _answer_all(self) -> None:
        try:
            while self._asked and not self._supervisor.stopping:
                await asyncio.sleep(GATHER_SECONDS)
                await self._answer()
        finally:
            self._task = None

    async def _answer(self) -> None:
        asked = {run_id: self._asked.pop(run_id) for run_id in list(islice(self._asked, MOST_AT_ONCE))}
        try:
            places = await places_of(self._supervisor, asked)
        except Unavailable:
            return  # they come again
        finally:
            self._waiting -= sum(map(len, asked.values()))
            self._waiting_bytes -= sum(size for waiting in asked.values() for _, size in waiting)
        for run_id, waiting in asked.items():
            for tell, _ in waiting:
                tell(places[run_id])
        self._say()

    def _settle(self, session: AgentSession, run_id: RunId, message: AttemptEnded, place: Place) -> None:
        # Its actor may have come meanwhile.
        if self._supervisor.deliver(run_id, message):
            return
        if place is not Place.OVER:
            self._supervisor.counts.adoptions.results_kept += 1
            if place is Place.ELSEWHERE:
                self._moved.setdefault(session, {})[run_id] = None
            return
        status = self._supervisor.fleet.status_of_late(session, message.result_id)
        key = (run_id, message.step, message.item)
        session.acknowledge(Acknowledgement(key, message.token, message.result_id, int(status)))

    def _judge(self, session: AgentSession, held: Held, place: Place) -> None:
        verdict = verdict_on(self._supervisor, held)
        if verdict is None and place is Place.OVER and self._supervisor.actor(held.key[0]) is None:
            verdict = _over(held)
        if verdict is not None:
            self._verdicts.setdefault(session, []).append((held, verdict))

    def _say(self) -> None:
        verdicts, self._verdicts = self._verdicts, {}
        for session, judged in verdicts.items():
            session.judge(judged, 0)
        moved, self._moved = self._moved, {}
        for session, run_ids in moved.items():
            if session.knows_links:
                session.tell_moved(list(run_ids))


def verdict_on(supervisor: Supervisor, orphan: Held) -> Verdict | None:
    """Of a lease that is not known here, by the run's owner. A token that it has not committed is its successor's, who
    is to speak; so is all that has no actor here. One that is known here by now, since its run has come meanwhile, is
    the session's that names it next."""
    actor, lease = supervisor.actor(orphan.key[0]), supervisor.fleet.leases.find(orphan.key)
    if actor is None or orphan.token > actor.committed_seq or (lease is not None and lease.token == orphan.token):
        return None
    return _over(orphan)


def _over(orphan: Held) -> Verdict:
    """Its result is asked for in any case: the run alone can tell what it is worth."""
    return Verdict.SEND_RESULT if orphan.finished else Verdict.ABORT

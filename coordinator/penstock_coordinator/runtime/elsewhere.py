"""What a head asks of its members when a call is about many runs, of which some are theirs.

Rows and journals are everybody's; what only the owner of a live run has in memory is asked for, and is left out if it
does not answer.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from contextlib import aclosing
from typing import TYPE_CHECKING, NamedTuple, Protocol

from penstock_coordinator.core.fleet.ownership import CoordinatorRow
from penstock_coordinator.core.run.states import RunState
from penstock_coordinator.runtime.views import LiveGlance, Stopping
from penstock_coordinator.runtime.whereabouts import Residence, Where

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence

    from penstock_coordinator.core.run.messages import CancelRun
    from penstock_coordinator.ports import RunId, RunRow
    from penstock_coordinator.runtime.supervisor import Supervisor

LOOK_AGAIN = 0.2
"""Seconds."""


class NotAnswered(Exception):
    """The member is away, has not answered in time, or does not have the run any more."""


class Glances(NamedTuple):
    runs: dict[RunId, LiveGlance]
    """Of those that are live there."""
    leases: dict[str, int]
    """By agent, if they were asked for."""


class Members(Protocol):
    """All methods raise `NotAnswered`."""

    def wait_many(self, member: CoordinatorRow, run_ids: Sequence[RunId]) -> AsyncGenerator[list[RunId], None]:
        """Each of the runs when it is at rest, several at a time. Raises what the caller is to be told of one that is
        set aside there."""

    async def glance(self, member: CoordinatorRow, run_ids: Sequence[RunId], *, agents: bool) -> Glances: ...

    async def cancel(self, member: CoordinatorRow, run_id: RunId, message: CancelRun, request_id: str) -> None:
        """Once per request id. Raises `NotPossible` if the run is live there, and cannot be cancelled."""


class Elsewhere:
    """Of one owner. `members` is set by whoever has the channels to them; without, nobody is asked."""

    def __init__(self, supervisor: Supervisor) -> None:
        self.members: Members | None = None
        self._supervisor = supervisor

    @property
    def _asks(self) -> bool:
        return self._supervisor.whereabouts.members_known and self.members is not None

    # --- lists

    async def glances(self, rows: Sequence[RunRow]) -> dict[RunId, LiveGlance]:
        """Of those of them that are live at members. Who does not answer is left out."""
        if not self._asks:
            return {}
        theirs: dict[str, list[RunId]] = {}
        for row in rows:
            if not RunState(row.state).at_rest:
                theirs.setdefault(row.owner, []).append(row.run_id)
        found: dict[RunId, LiveGlance] = {}
        for each in await self._asked(theirs, agents=False):
            found |= each.runs
        return found

    async def leases(self) -> Counter[str]:
        """That members have, by agent."""
        found: Counter[str] = Counter()
        if self._asks:
            for each in await self._asked({}, agents=True):
                found.update(each.leases)
        return found

    async def _asked(self, theirs: dict[str, list[RunId]], *, agents: bool) -> list[Glances]:
        """By all members, or by those that have some of the runs."""
        assert self.members is not None
        asking = [
            self.members.glance(member, theirs.get(member.coordinator_id, ()), agents=agents)
            for member in self._supervisor.whereabouts.members
            if agents or member.coordinator_id in theirs
        ]
        answers = await asyncio.gather(*asking, return_exceptions=True)
        for answer in answers:
            if isinstance(answer, BaseException) and not isinstance(answer, NotAnswered):
                raise answer
        return [answer for answer in answers if isinstance(answer, Glances)]

    # --- cancelling

    async def cancel(self, run_id: RunId, message: CancelRun, request_id: str) -> bool:
        """At its owner, if that is a member; durable when it returns. False: it is not. Raises `NotPossible`, and
        `Stopping`: nobody has the run at this moment, or its owner has not answered; it may be asked for again."""
        if not self._asks:
            return False
        assert self.members is not None
        whereabouts = self._supervisor.whereabouts
        where = await whereabouts.of(run_id)
        if where is Residence.ARRIVING:
            raise Stopping
        if not isinstance(where, CoordinatorRow):
            return False
        try:
            await self.members.cancel(where, run_id, message, request_id)
        except NotAnswered:
            whereabouts.moved(run_id)
            if await whereabouts.of(run_id) is Residence.AT_REST:
                return False
            raise Stopping from None
        return True

    # --- waiting

    async def ends(self, run_ids: Sequence[RunId]) -> AsyncGenerator[list[RunId], None]:
        """As `Supervisor.wait_many`, of runs that may be members': each when it is at rest, or is not there. Raises
        `SetAside`, `Stopping`, `Unavailable`."""
        if not self._asks:
            async with aclosing(self._supervisor.wait_many(run_ids)) as waiting:
                async for ended in waiting:
                    yield ended
            return
        told: asyncio.Queue[list[RunId] | Exception] = asyncio.Queue()
        watching = asyncio.create_task(self._tell_ends(run_ids, told))
        left = len(set(run_ids))
        try:
            while left:
                word = await told.get()
                if isinstance(word, Exception):
                    raise word
                left -= len(word)
                yield word
        finally:
            watching.cancel()

    async def _tell_ends(self, run_ids: Sequence[RunId], told: asyncio.Queue[list[RunId] | Exception]) -> None:
        try:
            async with asyncio.TaskGroup() as watching:
                await self._watch(run_ids, told, watching)
        except Exception as error:
            fault: Exception = error
            while isinstance(fault, ExceptionGroup):
                fault = fault.exceptions[0]
            told.put_nowait(fault)

    async def _watch(
        self, run_ids: Sequence[RunId], told: asyncio.Queue[list[RunId] | Exception], watching: asyncio.TaskGroup
    ) -> None:
        """Until all are told of, wherever they are and wherever they go: by tasks of the group, each for as long as its
        runs are at one place."""
        places: dict[Where, list[RunId]] = {}
        for run_id, where in (await self._supervisor.whereabouts.of_many(run_ids)).items():
            places.setdefault(where, []).append(run_id)
        for where, there in places.items():
            if where in (Residence.AT_REST, Residence.UNKNOWN):
                told.put_nowait(there)
            else:
                watching.create_task(self._watch_at(where, there, told, watching))

    async def _watch_at(
        self,
        where: Where,
        run_ids: list[RunId],
        told: asyncio.Queue[list[RunId] | Exception],
        watching: asyncio.TaskGroup,
    ) -> None:
        left = dict.fromkeys(run_ids)
        with contextlib.suppress(NotAnswered):
            async with aclosing(self._ends_at(where, run_ids)) as ending:
                async for ended in ending:
                    for run_id in ended:
                        left.pop(run_id, None)
                    told.put_nowait(ended)
        if self._supervisor.stopping:
            raise Stopping
        if left:
            await asyncio.sleep(LOOK_AGAIN)
            await self._watch(list(left), told, watching)

    async def _ends_at(self, where: Where, run_ids: list[RunId]) -> AsyncGenerator[list[RunId], None]:
        """Of those that came to rest there."""
        if isinstance(where, CoordinatorRow):
            assert self.members is not None
            async with aclosing(self.members.wait_many(where, run_ids)) as ending:
                async for ended in ending:
                    yield ended
        elif where is Residence.HERE:
            async with aclosing(self._supervisor.wait_many(run_ids)) as waiting:
                async for gone in waiting:
                    found = await self._supervisor.whereabouts.of_many(gone)
                    ended = [run_id for run_id in gone if found[run_id] in (Residence.AT_REST, Residence.UNKNOWN)]
                    if ended:
                        yield ended

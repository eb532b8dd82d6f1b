"""A lane runs the turns of its runs and commits what they decided, in order, many at a time.

A run is an object with a mailbox, not a task: whoever mails it puts it on its lane's list, and the lane's pump runs
one turn of each. What the turns decided while a commit was under way goes together into the next one, so an idle
system commits at once and a busy one commits in groups, without a timer.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING

from penstock_coordinator.core.counts.commits import CommitCounts
from penstock_coordinator.ports import Committed, OutOfSequence, Unstorable
from penstock_coordinator.runtime.begun import Begun

if TYPE_CHECKING:
    from collections.abc import Callable

    from penstock_coordinator.ports import AppendOutcome, Journal, Record
    from penstock_coordinator.runtime.actor import Actor, Turn

MAX_RECORDS = 500
MAX_BYTES = 1 << 20
TURNS_PER_PUMP = 100
"""Then others on the event loop have their turn."""
MOST_PREPARED = 8
"""Turns of one commit: with more, time is worth more than that some are a little earlier."""
PENDING_LIMIT = 5_000
"""Turns that wait for a commit; past it no new run is accepted. Results are always taken: there is at most one for
each lease, and a lease is sent only after a commit."""


class Lane:
    def __init__(
        self,
        index: int,
        journal: Journal,
        on_fenced: Callable[[BaseException], None],
        counts: CommitCounts | None = None,
        on_settled: Callable[[], None] = lambda: None,
    ) -> None:
        """`on_settled`: called when all that follows from a commit at once is decided."""
        self.index = index
        self._counts = counts or CommitCounts()
        self._journal = journal
        self._on_fenced = on_fenced
        self._on_settled = on_settled
        self._loop = asyncio.get_running_loop()
        self._runnable: deque[Actor] = deque()
        self._pump_soon: asyncio.Handle | None = None
        """Of the pump that is due, if one is."""
        self._pending: deque[Turn] = deque()
        self._committing: list[Turn] | None = None
        self._oldest = 0.0
        """When the batch that is being committed was decided, at the latest; 0: there is none."""
        self._wake = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._rests = False
        """The task waits for something to commit."""
        self._begun: Begun | None = None
        """A commit that was begun before the task had its turn."""
        self._failure: Exception | None = None
        """Of one that was over at once."""
        self._task = asyncio.create_task(self._commit_for_ever(), name=f"lane-{index}")

    # --- turns

    def schedule(self, actor: Actor) -> None:
        """The actor has mail."""
        if actor.scheduled:
            return
        actor.scheduled = True
        self._runnable.append(actor)
        if self._pump_soon is None:
            self._pump_soon = self._loop.call_soon(self._pump)

    def hurry(self) -> None:
        """To be called last of a callback that gave actors mail: with no commit under way their turns run at once, and
        what they decided is on its way to the database, and not when the loop has come round and done what else it
        finds. While one is, there is nothing to hurry for."""
        if self._pump_soon is not None and self._idle.is_set():
            self._pump_soon.cancel()
            self._pump()
            if self._rests and self._pending:
                self._begin()

    def _begin(self) -> None:
        """The first part of a commit, up to where it waits. The task does the rest, and hears what it raises."""
        self._rests = False
        try:
            self._begun = Begun(self._commit_next())
        except Exception as error:
            self._failure = error

    def _pump(self) -> None:
        self._pump_soon = None
        runnable = self._runnable
        for _ in range(min(TURNS_PER_PUMP, len(runnable))):
            actor = runnable.popleft()
            actor.scheduled = False
            self._run_turn(actor)
        if self._pending:
            self._idle.clear()
            self._wake.set()
        if runnable and self._pump_soon is None:
            self._pump_soon = self._loop.call_soon(self._pump)

    def _run_turn(self, actor: Actor) -> None:
        try:
            turn = actor.turn()
        except Exception as error:
            # A fault of ours in one run must not stop the others.
            actor.crash(error)
            return
        if turn is not None:
            self._pending.append(turn)
        if actor.has_mail:
            self.schedule(actor)

    @property
    def full(self) -> bool:
        """Commits are so far behind that nothing new should be accepted."""
        return len(self._pending) >= PENDING_LIMIT

    @property
    def fill(self) -> float:
        """How full it is: 1 is `full`."""
        return len(self._pending) / PENDING_LIMIT

    @property
    def waiting(self) -> float:
        """Seconds that the batch under way has waited for its commit."""
        return self._loop.time() - self._oldest if self._oldest else 0.0

    # --- commits

    async def _commit_for_ever(self) -> None:
        try:
            while True:
                self._rests = True
                await self._wake.wait()
                self._rests = False
                self._wake.clear()
                if self._failure is not None:
                    raise self._failure
                if self._begun is not None:
                    await self._begun
                    self._begun = None
                while self._pending:
                    await self._commit_next()
                self._idle.set()
        except asyncio.CancelledError:
            raise
        except BaseException as error:
            self._idle.set()
            self._on_fenced(error)
            raise
        finally:
            self._rests = False

    async def _commit_next(self) -> None:
        """In a frame of its own: whoever waits for more to commit holds nothing of what was committed last."""
        if batch := self._cut():
            await self._commit(batch)

    async def _commit(self, turns: list[Turn]) -> None:
        records: list[Record] = [turn.record for turn in turns]
        self._oldest = self._loop.time()
        if len(turns) <= MOST_PREPARED:
            # When the statement is on its way, and there is nothing to do but wait for it.
            self._loop.call_soon(self._prepare, turns)
        self._committing = turns
        outcomes = await self._journal.commit(self.index, records)
        self._committing = None
        took, self._oldest = self._loop.time() - self._oldest, 0.0
        settled = [turn for turn, outcome in zip(turns, outcomes, strict=True) if turn.actor.settle(turn, outcome)]
        # What agents wait for goes first, and what is counted after it.
        self._on_settled()
        self._counts.committed(len(turns), took)
        for turn, outcome in zip(turns, outcomes, strict=True):
            self._count(turn.record, outcome)
        for turn in settled:
            turn.actor.count(turn)

    def _count(self, record: Record, outcome: AppendOutcome) -> None:
        counts = self._counts
        if isinstance(outcome, Committed):
            counts.stored += 1
            counts.bytes += len(record.payload)
        elif isinstance(outcome, Unstorable | OutOfSequence):
            counts.failures += 1

    def _prepare(self, turns: list[Turn]) -> None:
        if self._committing is turns:
            for turn in turns:
                turn.actor.prepare(turn)

    def _cut(self) -> list[Turn]:
        """The next batch: at most MAX_RECORDS and, but for the first, MAX_BYTES. What an actor decided that has been
        discarded since rests on a record that was not stored, and is not stored either."""
        batch: list[Turn] = []
        size = 0
        while self._pending and len(batch) < MAX_RECORDS:
            turn = self._pending[0]
            if not turn.actor.discarded:
                size += turn.size
                if batch and size > MAX_BYTES:
                    break
                batch.append(turn)
            self._pending.popleft()
        return batch

    async def drain(self) -> None:
        """Returns when everything that was decided so far is committed, or never will be."""
        while (self._runnable or self._pending or not self._idle.is_set()) and not self._task.done():
            await asyncio.sleep(0)
            await self._idle.wait()

    async def close(self) -> None:
        """No commit begins from now on; one that is under way is given up."""
        self._rests = False
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        if self._begun is not None:
            self._begun.close()

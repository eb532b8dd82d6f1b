"""Readers that follow a run's committed events."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from typing import TYPE_CHECKING

from penstock_coordinator.core.run.events import Event, RunEnded, decode
from penstock_coordinator.runtime.views import EventNotYet, SlowReader, TooManyWatchers, UnknownRun

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Iterator

    from penstock_coordinator.ports import Journal, RunId
    from penstock_coordinator.runtime.actor import Actor

Numbered = list[tuple[int, Event]]

BUFFERED_EVENTS = 10_000
"""A watcher that is further behind is told where to go on, and dropped."""
READ_RECORDS = 500


class Seats:
    """Places for those who follow events or logs of runs: each holds a buffer and a stream."""

    def __init__(self, in_all: int, of_run: int) -> None:
        self._in_all = in_all
        self._of_run = of_run
        self._taken: Counter[RunId] = Counter()
        self._count = 0

    @contextlib.contextmanager
    def taken(self, run_id: RunId) -> Iterator[None]:
        """A place for as long as the context is open. Raises `TooManyWatchers`; then none was taken."""
        if self._count >= self._in_all:
            raise TooManyWatchers("runs", self._count, self._in_all, "PENSTOCK_MAX_WATCHERS")
        if self._taken[run_id] >= self._of_run:
            raise TooManyWatchers("the run", self._taken[run_id], self._of_run, "PENSTOCK_MAX_WATCHERS_OF_RUN")
        self._count += 1
        self._taken[run_id] += 1
        try:
            yield
        finally:
            self._count -= 1
            self._taken[run_id] -= 1
            if not self._taken[run_id]:
                del self._taken[run_id]


class Watcher:
    """A bounded buffer between one actor and one reader. `push` never waits."""

    def __init__(self) -> None:
        self._buffer: list[tuple[int, Event]] = []
        self._wake = asyncio.Event()
        self._overflowed = False
        self._closed = False

    def push(self, events: Numbered) -> None:
        if self._overflowed:
            return
        if len(self._buffer) + len(events) > BUFFERED_EVENTS:
            self._overflowed = True
            self._buffer.clear()
        else:
            self._buffer.extend(events)
        self._wake.set()

    def close(self) -> None:
        """Nothing will come any more from this actor."""
        self._closed = True
        self._wake.set()

    async def take(self) -> Numbered | None:
        """What has come since, at least one event; None when there is no more, or too much came."""
        while not self._buffer:
            if self._closed or self._overflowed:
                return None
            self._wake.clear()
            await self._wake.wait()
        taken, self._buffer = self._buffer, []
        return taken

    @property
    def overflowed(self) -> bool:
        return self._overflowed


async def read_events(journal: Journal, run_id: RunId, from_seq: int) -> AsyncIterator[Numbered]:
    """All committed events from the number on, as they stand in the journal. Raises `UnknownRun` if the run is removed
    meanwhile: its oldest events go first."""
    while True:
        records = await journal.read(run_id, from_seq, READ_RECORDS)
        if records and records[0].first_seq > from_seq:
            raise UnknownRun(run_id=run_id)
        for record in records:
            numbered = list(enumerate(decode(record.payload), record.first_seq))
            wanted = [(seq, event) for seq, event in numbered if seq >= from_seq]
            if wanted:
                yield wanted
        if len(records) < READ_RECORDS:
            return
        from_seq = records[-1].last_seq + 1


async def follow(actor: Actor | None, journal: Journal, run_id: RunId, from_seq: int) -> AsyncGenerator[Numbered, None]:
    """The events from the number on, in order and without gaps; live until the run ends or its actor goes.

    Raises `EventNotYet` if the number is beyond the next event, `SlowReader` if the reader fell behind.
    """
    from_seq = max(from_seq, 1)
    watcher = Watcher()
    if actor is not None:
        if from_seq > actor.committed_seq + 1:
            raise EventNotYet(actor.committed_seq)
        actor.add_watcher(watcher)
    try:
        last = from_seq - 1
        async for events in read_events(journal, run_id, from_seq):
            last = events[-1][0]
            yield events
        if actor is None:
            return
        async for events in _live(watcher, last):
            yield events
    finally:
        if actor is not None and watcher in actor.watchers:
            actor.watchers.remove(watcher)


async def _live(watcher: Watcher, last: int) -> AsyncIterator[Numbered]:
    while True:
        taken = await watcher.take()
        if taken is None:
            if watcher.overflowed:
                raise SlowReader(last + 1)
            return
        fresh = [(seq, event) for seq, event in taken if seq > last]
        if not fresh:
            continue
        last = fresh[-1][0]
        yield fresh
        if type(fresh[-1][1]) is RunEnded:
            return

"""Log lines on their way: from the agents' streams into the store, in groups, and from there to whoever follows them.

Nothing is shown before it is durable: readers read the store, and are only told when to look. The buffer is bounded: a
stream that brings more waits, and so does its agent.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeAlias

import structlog

from penstock_coordinator.core.counts.moved import MovedCounts
from penstock_coordinator.ports import LogChunk, LogFilter, LogLine, Unavailable
from penstock_coordinator.runtime.views import Stopping

if TYPE_CHECKING:
    from penstock_coordinator.ports import LogStore, RunId

log = structlog.get_logger(__name__)

SYSTEM = 3
"""The source of lines that Penstock itself says: penstock.v1.LogStream."""
GROUP_CHUNKS = 500
GROUP_BYTES = 1 << 20
LINE_CHARACTERS = 64 << 10
"""Of a longer line the rest is dropped."""
LINE_BYTES = 32
"""What a line costs beside its text."""
KNOWN_ATTEMPTS = 50_000
MOST_EXPECTED = 10_000
"""Attempts that have ended and whose last lines are still to come."""
FIRST_RETRY, LAST_RETRY = 0.1, 5.0

AttemptKey: TypeAlias = "tuple[RunId, int, int, int]"


@dataclass(slots=True)
class _Attempt:
    """How far the log of one attempt has come."""

    number: int = 0
    size: int = 0
    cut: bool = False
    durable: int = 0
    """The number of the last line that is."""


class LogHub:
    def __init__(
        self, store: LogStore, buffer_bytes: int, attempt_bytes: int, counts: MovedCounts | None = None
    ) -> None:
        """`attempt_bytes` bounds the log of one attempt. Agents have quotas too: this is against broken ones."""
        self._store = store
        self._counts = counts or MovedCounts()
        self._buffer_bytes = buffer_bytes
        self._attempt_bytes = attempt_bytes
        self._waiting: deque[tuple[LogChunk, int]] = deque()
        self._bytes = 0
        """Of all that is not durable yet."""
        self._put, self._written = 0, 0
        """Chunks since the start."""
        self._wake = asyncio.Event()
        self._progress = asyncio.Condition()
        self._attempts: OrderedDict[AttemptKey, _Attempt] = OrderedDict()
        self._expected: OrderedDict[AttemptKey, int] = OrderedDict()
        """The last lines that are still to come, by number."""
        self._followers: dict[RunId, dict[asyncio.Event, None]] = {}
        """In the order that they came in."""
        self._held = False
        self._release: asyncio.Future[None] | None = None
        self.on_written: Callable[[RunId, int], None] = lambda run_id, size: None
        """Hears how many bytes of a run's lines have become durable."""
        self._closed = False
        self._writer: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._writer = asyncio.create_task(self._write_all(), name="log writer")

    async def close(self, patience: float) -> None:
        """Take nothing more, and give what is buffered so many seconds to become durable."""
        self._closed = True
        self._wake.set()
        async with self._progress:
            self._progress.notify_all()
        if self._writer is not None:
            await asyncio.wait({self._writer}, timeout=patience)
            self._writer.cancel()
            await asyncio.gather(self._writer, return_exceptions=True)
        if self._waiting:
            log.warning("log_lines_dropped", chunks=len(self._waiting))

    # --- writing

    async def put(self, chunk: LogChunk) -> int:
        """Take the lines that are new, and answer how many there were. Waits while the buffer is full. Raises
        `Stopping`. Lines of one attempt must come in the order of their numbers; what was taken before is left out."""
        await self._room(sum(_size(line) for line in chunk.lines))
        lines = self._fresh(chunk)
        if not lines:
            return 0
        size = sum(_size(line) for line in lines)
        self._waiting.append((replace(chunk, lines=tuple(lines)), size))
        self._bytes += size
        self._put += 1
        self._wake.set()
        return len(lines)

    async def _room(self, size: int) -> None:
        if not self._closed and not self._fits(size):
            async with self._progress:
                await self._progress.wait_for(lambda: self._closed or self._fits(size))
        if self._closed:
            raise Stopping

    def _fits(self, size: int) -> bool:
        """What is larger than the whole buffer fits when nothing else is in it."""
        return not self._held and (not self._bytes or self._bytes + size <= self._buffer_bytes)

    def hold(self, held: bool) -> None:
        """While it is held nothing has room."""
        self._held = held
        if not held:
            self._release = asyncio.ensure_future(self._tell_of_room())

    async def _tell_of_room(self) -> None:
        async with self._progress:
            self._progress.notify_all()

    async def flush(self) -> None:
        """Returns when everything that was put so far is durable. Raises `Stopping`."""
        mark = self._put
        async with self._progress:
            await self._progress.wait_for(lambda: self._closed or self._written >= mark)
        if self._written < mark:
            raise Stopping

    def _fresh(self, chunk: LogChunk) -> list[LogLine]:
        attempt = self._attempt((chunk.run_id, chunk.step, chunk.item, chunk.attempt))
        lines = []
        for line in chunk.lines:
            if line.number <= attempt.number or attempt.cut:
                continue
            if len(line.text) > LINE_CHARACTERS:
                line = replace(line, text=line.text[:LINE_CHARACTERS])
            attempt.number = line.number
            attempt.size += _size(line)
            if attempt.size > self._attempt_bytes:
                attempt.cut = True
                text = f"the log of this attempt has more than {self._attempt_bytes:,} bytes: the rest is cut off"
                line = replace(line, source=SYSTEM, text=text)
            lines.append(line)
        return lines

    def _attempt(self, key: AttemptKey) -> _Attempt:
        attempt = self._attempts.get(key)
        if attempt is None:
            attempt = self._attempts[key] = _Attempt()
            if len(self._attempts) > KNOWN_ATTEMPTS:
                self._attempts.popitem(last=False)
        else:
            self._attempts.move_to_end(key)
        return attempt

    async def _write_all(self) -> None:
        while not (self._closed and not self._waiting):
            await self._wake.wait()
            self._wake.clear()
            while self._waiting:
                group = self._group()
                await self._write([chunk for chunk, _ in group])
                for _ in group:
                    self._waiting.popleft()
                self._bytes -= sum(size for _, size in group)
                self._written += len(group)
                self._tell(group)
                async with self._progress:
                    self._progress.notify_all()

    def _group(self) -> list[tuple[LogChunk, int]]:
        group: list[tuple[LogChunk, int]] = []
        size = 0
        for entry in self._waiting:
            size += entry[1]
            if group and (size > GROUP_BYTES or len(group) == GROUP_CHUNKS):
                break
            group.append(entry)
        return group

    async def _write(self, chunks: list[LogChunk]) -> None:
        """Until it is done: the lines were taken. A chunk that cannot be stored costs no other one its lines, and a
        word in its place says that its own are missing."""
        if await self._is_stored(chunks):
            return
        if len(chunks) > 1:
            middle = len(chunks) // 2
            await self._write(chunks[:middle])
            await self._write(chunks[middle:])
        elif not await self._is_stored(chunks):
            await self._is_stored([_missing(chunks[0])])

    async def _is_stored(self, chunks: list[LogChunk]) -> bool:
        """While the store is away it is asked again; False: it, or what packs the lines, failed over them."""
        pause = FIRST_RETRY
        while True:
            try:
                await self._store.append_logs(chunks)
                return True
            except Unavailable:
                await asyncio.sleep(pause)
                pause = min(2 * pause, LAST_RETRY)
            except Exception:
                lines = sum(len(chunk.lines) for chunk in chunks)
                log.exception("log_lines_refused", run=chunks[0].run_id.hex(), chunks=len(chunks), lines=lines)
                return False

    def _note_durable(self, chunk: LogChunk) -> None:
        key = (chunk.run_id, chunk.step, chunk.item, chunk.attempt)
        attempt = self._attempt(key)
        attempt.durable = chunk.lines[-1].number
        if key in self._expected and (attempt.cut or attempt.durable >= self._expected[key]):
            del self._expected[key]

    # --- what is still to come

    def expect(self, key: AttemptKey, number: int) -> None:
        """The attempt has ended, and this is its last line."""
        attempt = self._attempts.get(key)
        if attempt is not None and (attempt.cut or attempt.durable >= number):
            return
        self._expected[key] = number
        if len(self._expected) > MOST_EXPECTED:
            self._expected.popitem(last=False)

    def expects(self, run_id: RunId, where: LogFilter) -> bool:
        """Whether there are attempts that have ended and whose last lines have not become durable yet."""
        return any(
            key[0] == run_id
            and all(asked in (None, value) for asked, value in zip(_asked(where), key[1:], strict=True))
            for key in self._expected
        )

    # --- reading

    @contextlib.contextmanager
    def follow(self, run_id: RunId) -> Iterator[asyncio.Event]:
        """An event that is set each time when lines of the run have become durable. The reader clears it before it
        reads."""
        event = asyncio.Event()
        self._followers.setdefault(run_id, {})[event] = None
        try:
            yield event
        finally:
            followers = self._followers[run_id]
            del followers[event]
            if not followers:
                del self._followers[run_id]

    def _tell(self, group: list[tuple[LogChunk, int]]) -> None:
        sizes: dict[RunId, int] = {}
        for chunk, size in group:
            sizes[chunk.run_id] = sizes.get(chunk.run_id, 0) + size
            self._counts.log_bytes += size
            self._note_durable(chunk)
        for run_id, size in sizes.items():
            self.on_written(run_id, size)
            for event in self._followers.get(run_id, ()):
                event.set()


def _asked(where: LogFilter) -> tuple[int | None, int | None, int | None]:
    return where.step, where.item, where.attempt


def _size(line: LogLine) -> int:
    return len(line.text) + LINE_BYTES


def _missing(chunk: LogChunk) -> LogChunk:
    last = chunk.lines[-1]
    text = f"{len(chunk.lines):,} lines are missing here: they could not be stored"
    return replace(chunk, lines=(LogLine(SYSTEM, last.number, last.offset, text),))

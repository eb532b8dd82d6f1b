"""All lines of a run in one order, wherever they are: the older ones in packs, the newer ones in rows.

Rows are read first, and then the packs of before them. What is packed in between is seen twice, and then told from the
packs; the other way round it would be seen nowhere.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from typing import TYPE_CHECKING

import structlog

from penstock_coordinator.ports import LogChunk, LogFilter, LogLine
from penstock_coordinator.ports.artifacts import TooLarge
from penstock_coordinator.runtime.log_packing import BrokenPack, read_pack

if TYPE_CHECKING:
    from penstock_coordinator.ports import ArtifactStore, LogPack, LogPackStore, LogPart, LogStore, RunId

log = structlog.get_logger(__name__)

SYSTEM = 3
"""The source of lines that Penstock itself says: penstock.v1.LogStream."""
KEPT_BYTES = 16 << 20
"""Of packs as they are stored: many readers of one run read the same ones."""
PACKS_AT_ONCE = 8


class LogHistory:
    """All methods raise `Unavailable`, of the database or of the artifact store."""

    def __init__(self, rows: LogStore, packs: LogPackStore, objects: ArtifactStore) -> None:
        self._rows = rows
        self._packs = packs
        self._objects = objects
        self._kept: OrderedDict[str, bytes] = OrderedDict()
        self._kept_bytes = 0
        self._coming: dict[str, asyncio.Task[bytes | None]] = {}

    async def read_logs(self, run_id: RunId, where: LogFilter, after: int = 0, limit: int = 100) -> list[LogChunk]:
        """Chunks with a position above `after`, in order of position: `limit` of those in rows, or those of a pack.
        None: there are no more now."""
        rows = await self._rows.read_logs(run_id, where, after, limit)
        before = rows[0].position if rows else None
        while packs := await self._packs.packs(run_id, where, after, before, PACKS_AT_ONCE):
            for pack in packs:
                chunks = [chunk for chunk in await self._chunks(pack, where) if chunk.position > after]
                if chunks:
                    return chunks
            after = packs[-1].last_position
        return rows

    async def end(self, run_id: RunId) -> int:
        """The position of the newest chunk; 0: there is none."""
        newest = await self._rows.last_logs(run_id, LogFilter(), 1)
        if newest:
            return newest[0].position
        packs = await self._packs.last_packs(run_id, LogFilter(), None, 1)
        return packs[0].last_position if packs else 0

    async def last_logs(self, run_id: RunId, where: LogFilter, limit: int) -> list[LogChunk]:
        """The newest chunks, oldest of them first."""
        found = await self._rows.last_logs(run_id, where, limit)
        while len(found) < limit:
            before = found[0].position if found else None
            older = await self._newest_packed(run_id, where, before, limit - len(found))
            if not older:
                break
            found = older + found
        return found[-limit:] if limit else []

    async def _newest_packed(self, run_id: RunId, where: LogFilter, before: int | None, wanted: int) -> list[LogChunk]:
        found: list[LogChunk] = []
        while len(found) < wanted:
            packs = await self._packs.last_packs(run_id, where, before, PACKS_AT_ONCE)
            for pack in packs:
                chunks = await self._chunks(pack, where)
                found = [chunk for chunk in chunks if before is None or chunk.position < before] + found
                before = pack.first_position
                if len(found) >= wanted:
                    break
            if not packs:
                break
        return found

    async def _chunks(self, pack: LogPack, where: LogFilter) -> list[LogChunk]:
        try:
            content = await self._content(pack)
            if content is not None:
                return await asyncio.to_thread(read_pack, pack, content, where)
        except (BrokenPack, TooLarge):
            self._drop(pack.name)
        return await self._lost(pack, where)

    async def _lost(self, pack: LogPack, where: LogFilter) -> list[LogChunk]:
        """A word in place of the lines; nothing if they were removed meanwhile, as they should be."""
        parts = await self._packs.parts(pack, where)
        if parts:
            log.error("log_pack_lost", run=pack.run_id.hex(), name=pack.name, lines=pack.lines)
        return [_word(pack, part) for part in parts]

    # --- packs that were read lately

    async def _content(self, pack: LogPack) -> bytes | None:
        kept = self._kept.get(pack.name)
        if kept is not None:
            self._kept.move_to_end(pack.name)
            return kept
        coming = self._coming.get(pack.name)
        if coming is None:
            coming = self._coming[pack.name] = asyncio.create_task(self._fetch(pack))
            coming.add_done_callback(lambda task: self._came(pack.name, task))
        # Whoever goes away does not take it from the others.
        return await asyncio.shield(coming)

    async def _fetch(self, pack: LogPack) -> bytes | None:
        return await self._objects.read_blob(pack.name, pack.size)

    def _came(self, name: str, task: asyncio.Task[bytes | None]) -> None:
        del self._coming[name]
        if task.cancelled() or task.exception() is not None:
            return
        content = task.result()
        if content is None:
            return
        self._kept[name] = content
        self._kept_bytes += len(content)
        while self._kept_bytes > KEPT_BYTES:
            self._drop(next(iter(self._kept)))

    def _drop(self, name: str) -> None:
        self._kept_bytes -= len(self._kept.pop(name, b""))


def _word(pack: LogPack, part: LogPart) -> LogChunk:
    text = f"{part.lines:,} lines are lost: the artifact store does not have them any more"
    line = LogLine(SYSTEM, part.last_number, 0, text)
    return LogChunk(pack.run_id, part.step, part.item, part.attempt, part.last_time, (line,), pack.last_position)

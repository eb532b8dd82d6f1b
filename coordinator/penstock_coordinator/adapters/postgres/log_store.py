"""Port `LogStore`. The lines of a chunk are one compressed column."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from penstock_coordinator.adapters.postgres.queries import load
from penstock_coordinator.ports import LogChunk, LogFilter, RunId
from penstock_coordinator.runtime.log_packing import pack_lines, unpack_lines

if TYPE_CHECKING:
    from collections.abc import Sequence

    import asyncpg

    from penstock_coordinator.adapters.postgres.connections import Database

_QUERIES = load("logs")
_RUN_LOCKS = 1 << 16
_INLINE_BYTES = 64 * 1024
"""More than this is compressed in a thread: the event loop has other things to do."""


class PostgresLogStore:
    def __init__(self, database: Database, reads: Database | None = None) -> None:
        self._database = database
        self._reads = reads or database

    async def append_logs(self, chunks: Sequence[LogChunk]) -> None:
        kept = [chunk for chunk in chunks if chunk.lines]
        if not kept:
            return
        columns = [
            [c.run_id for c in kept],
            [c.step for c in kept],
            [c.item for c in kept],
            [c.attempt for c in kept],
            [c.lines[0].number for c in kept],
            [c.at for c in kept],
            await _packed(kept),
        ]
        locks = sorted({_run_lock(c.run_id) for c in kept})
        await self._database.fetch(_QUERIES["append"], locks, *columns)

    async def read_logs(self, run_id: RunId, where: LogFilter, after: int = 0, limit: int = 100) -> list[LogChunk]:
        arguments = (run_id, after, where.step, where.item, where.attempt, where.since, limit)
        rows = await self._reads.fetch(_QUERIES["read"], *arguments)
        return [_chunk(run_id, row) for row in rows]

    async def last_logs(self, run_id: RunId, where: LogFilter, limit: int) -> list[LogChunk]:
        arguments = (run_id, where.step, where.item, where.attempt, where.since, limit)
        rows = await self._reads.fetch(_QUERIES["last"], *arguments)
        return [_chunk(run_id, row) for row in reversed(rows)]


def _run_lock(run_id: RunId) -> int:
    """Runs may share a lock, then their writers wait for each other; the random end of the id spreads them."""
    return int.from_bytes(run_id[-4:], "big") % _RUN_LOCKS


async def _packed(chunks: Sequence[LogChunk]) -> list[bytes]:
    size = sum(len(line.text) for chunk in chunks for line in chunk.lines)
    if size <= _INLINE_BYTES:
        return [pack_lines(chunk.lines) for chunk in chunks]
    return await asyncio.to_thread(lambda: [pack_lines(chunk.lines) for chunk in chunks])


def _chunk(run_id: RunId, row: asyncpg.Record) -> LogChunk:
    return LogChunk(
        run_id=run_id,
        step=row["step"],
        item=row["item"],
        attempt=row["attempt"],
        at=row["at"],
        lines=unpack_lines(row["lines"]),
        position=row["position"],
    )

"""Port `LogStore`. The lines of a chunk are one compressed column."""

from __future__ import annotations

import asyncio
import zlib
from typing import TYPE_CHECKING

import msgspec

from penstock_coordinator.adapters.postgres.queries import load
from penstock_coordinator.ports import LogChunk, LogFilter, LogLine, RunId

if TYPE_CHECKING:
    from collections.abc import Sequence

    import asyncpg

    from penstock_coordinator.adapters.postgres.connections import Database

_QUERIES = load("logs")
_RUN_LOCKS = 1 << 16
_COMPRESSION = 1
"""The quickest: log lines repeat themselves so much that more effort gains little."""
_INLINE_BYTES = 64 * 1024
"""More than this is compressed in a thread: the event loop has other things to do."""

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(list[tuple[int, int, int, bytes]]).decode


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
        arguments = (run_id, after, where.step, where.item, where.attempt, limit)
        rows = await self._reads.fetch(_QUERIES["read"], *arguments)
        return [_chunk(run_id, row) for row in rows]

    async def last_logs(self, run_id: RunId, where: LogFilter, limit: int) -> list[LogChunk]:
        arguments = (run_id, where.step, where.item, where.attempt, limit)
        rows = await self._reads.fetch(_QUERIES["last"], *arguments)
        return [_chunk(run_id, row) for row in reversed(rows)]


def _run_lock(run_id: RunId) -> int:
    """Runs may share a lock, then their writers wait for each other; the random end of the id spreads them."""
    return int.from_bytes(run_id[-4:], "big") % _RUN_LOCKS


async def _packed(chunks: Sequence[LogChunk]) -> list[bytes]:
    size = sum(len(line.text) for chunk in chunks for line in chunk.lines)
    if size <= _INLINE_BYTES:
        return [_pack(chunk.lines) for chunk in chunks]
    return await asyncio.to_thread(lambda: [_pack(chunk.lines) for chunk in chunks])


def _pack(lines: Sequence[LogLine]) -> bytes:
    rows = [(x.source, x.number, x.offset, x.text.encode("utf-8", "surrogatepass")) for x in lines]
    return zlib.compress(_encode(rows), _COMPRESSION)


def _unpack(packed: bytes) -> tuple[LogLine, ...]:
    rows = _decode(zlib.decompress(packed))
    return tuple(LogLine(s, n, o, text.decode("utf-8", "surrogatepass")) for s, n, o, text in rows)


def _chunk(run_id: RunId, row: asyncpg.Record) -> LogChunk:
    return LogChunk(
        run_id=run_id,
        step=row["step"],
        item=row["item"],
        attempt=row["attempt"],
        at=row["at"],
        lines=_unpack(row["lines"]),
        position=row["position"],
    )

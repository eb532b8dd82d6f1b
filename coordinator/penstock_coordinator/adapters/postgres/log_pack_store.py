"""Port `LogPackStore`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from penstock_coordinator.adapters.postgres.queries import load
from penstock_coordinator.ports import LogPack, LogPart, RunId, StoredLines, UnpackedLogs

if TYPE_CHECKING:
    from collections.abc import Sequence

    import asyncpg

    from penstock_coordinator.adapters.postgres.connections import Database
    from penstock_coordinator.ports import LogFilter

_QUERIES = load("log_packs")


class PostgresLogPackStore:
    """What is read for people goes by `reads`, all else by `background`."""

    def __init__(self, background: Database, reads: Database) -> None:
        self._background = background
        self._reads = reads

    async def oldest_rows(self, run_id: RunId, limit: int, limit_bytes: int) -> list[StoredLines]:
        rows = await self._background.fetch(_QUERIES["oldest_rows"], run_id, limit, limit_bytes)
        return [StoredLines(**row) for row in rows]

    async def unpacked(self, after: RunId, limit: int) -> tuple[list[UnpackedLogs], RunId | None]:
        rows = await self._background.fetch(_QUERIES["unpacked"], after, limit)
        # Between the two looks at a run its rows may have gone.
        found = [UnpackedLogs(**row) for row in rows if row["size"] is not None]
        return found, rows[-1]["run_id"] if len(rows) == limit else None

    async def unpacked_of(self, run_id: RunId) -> UnpackedLogs | None:
        ((size, since),) = await self._background.fetch(_QUERIES["unpacked_of"], run_id)
        return None if size is None else UnpackedLogs(run_id, size, since)

    async def claim_name(self, name: str, run_id: RunId, now: int) -> None:
        await self._background.fetch(_QUERIES["claim_name"], name, run_id, now)

    async def add_pack(self, pack: LogPack, parts: Sequence[LogPart]) -> bool:
        try:
            async with self._background.transaction() as connection:
                if not await connection.fetch(_QUERIES["take_name"], pack.name):
                    return False
                span = (pack.run_id, pack.first_position, pack.last_position)
                if await connection.fetchval(_QUERIES["take_rows"], *span) != pack.rows:
                    raise _OtherRows
                await connection.execute(_QUERIES["add_pack"], *_columns(pack))
                await connection.execute(_QUERIES["add_parts"], pack.run_id, pack.last_position, *_by_column(parts))
        except _OtherRows:
            return False
        return True

    async def packs(self, run_id: RunId, where: LogFilter, after: int, before: int | None, limit: int) -> list[LogPack]:
        asked = (where.step, where.item, where.attempt, where.since)
        rows = await self._reads.fetch(_QUERIES["packs"], run_id, after, before, *asked, limit)
        return [_pack(row) for row in rows]

    async def last_packs(self, run_id: RunId, where: LogFilter, before: int | None, limit: int) -> list[LogPack]:
        asked = (where.step, where.item, where.attempt, where.since)
        rows = await self._reads.fetch(_QUERIES["last_packs"], run_id, before, *asked, limit)
        return [_pack(row) for row in rows]

    async def parts(self, pack: LogPack, where: LogFilter) -> list[LogPart]:
        asked = (where.step, where.item, where.attempt, where.since)
        rows = await self._reads.fetch(_QUERIES["parts"], pack.run_id, pack.last_position, *asked)
        return [LogPart(**row) for row in rows]

    async def unused_names(self, before: int, limit: int) -> list[str]:
        rows = await self._background.fetch(_QUERIES["unused_names"], before, limit)
        return sorted(row["name"] for row in rows)

    async def forget_names(self, names: Sequence[str]) -> None:
        await self._background.fetch(_QUERIES["forget_names"], list(names))


class _OtherRows(Exception):
    """Somebody has packed or removed some of them meanwhile. Ends the transaction."""


def _pack(row: asyncpg.Record) -> LogPack:
    return LogPack(**row)


def _columns(pack: LogPack) -> tuple[object, ...]:
    return (
        pack.run_id,
        pack.last_position,
        pack.first_position,
        pack.name,
        pack.rows,
        pack.lines,
        pack.size,
        pack.digest,
        pack.first_time,
        pack.last_time,
    )


def _by_column(parts: Sequence[LogPart]) -> list[list[int]]:
    rows = (
        (p.step, p.item, p.attempt, p.lines, p.first_number, p.last_number, p.first_time, p.last_time) for p in parts
    )
    return [list(column) for column in zip(*rows, strict=True)]

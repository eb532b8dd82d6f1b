"""Port `LogPackStore` in memory."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from penstock_coordinator.adapters.memory.reaching import reached
from penstock_coordinator.ports import LogChunk, StoredLines, UnpackedLogs
from penstock_coordinator.runtime.log_packing import is_meant, pack_lines

if TYPE_CHECKING:
    from collections.abc import Sequence

    from penstock_coordinator.adapters.memory.database import MemoryDatabase
    from penstock_coordinator.ports import LogFilter, LogPack, LogPart, RunId


@dataclasses.dataclass(frozen=True, slots=True)
class KeptPack:
    pack: LogPack
    parts: tuple[LogPart, ...]


class MemoryLogPackStore:
    def __init__(self, database: MemoryDatabase) -> None:
        self._database = database

    async def oldest_rows(self, run_id: RunId, limit: int, limit_bytes: int) -> list[StoredLines]:
        await reached(self._database)
        rows: list[StoredLines] = []
        size = 0
        for chunk in self._rows(run_id)[:limit]:
            row = _stored(chunk)
            size += len(row.lines)
            if rows and size > limit_bytes:
                break
            rows.append(row)
        return rows

    async def unpacked(self, after: RunId, limit: int) -> tuple[list[UnpackedLogs], RunId | None]:
        await reached(self._database)
        ids = sorted(run_id for run_id, kept in self._database.logs.items() if kept and run_id > after)[:limit]
        return [self._measured(run_id) for run_id in ids], ids[-1] if len(ids) == limit else None

    async def unpacked_of(self, run_id: RunId) -> UnpackedLogs | None:
        await reached(self._database)
        return self._measured(run_id) if self._database.logs.get(run_id) else None

    def _measured(self, run_id: RunId) -> UnpackedLogs:
        rows = self._rows(run_id)
        return UnpackedLogs(run_id, sum(len(pack_lines(row.lines)) for row in rows), min(row.at for row in rows))

    def _rows(self, run_id: RunId) -> list[LogChunk]:
        return sorted(self._database.logs.get(run_id, {}).values(), key=lambda chunk: chunk.position)

    async def claim_name(self, name: str, run_id: RunId, now: int) -> None:
        await reached(self._database)
        self._database.log_names[name] = now

    async def add_pack(self, pack: LogPack, parts: Sequence[LogPart]) -> bool:
        await reached(self._database)
        kept = self._database.logs.get(pack.run_id, {})
        taken = [k for k, chunk in kept.items() if pack.first_position <= chunk.position <= pack.last_position]
        if not self._database.log_names.get(pack.name) or len(taken) != pack.rows:
            return False
        del self._database.log_names[pack.name]
        for key in taken:
            del kept[key]
        packs = self._database.log_packs.setdefault(pack.run_id, {})
        packs[pack.last_position] = KeptPack(pack, tuple(parts))
        return True

    async def packs(self, run_id: RunId, where: LogFilter, after: int, before: int | None, limit: int) -> list[LogPack]:
        return [each for each in await self._meant(run_id, where, before) if each.last_position > after][:limit]

    async def last_packs(self, run_id: RunId, where: LogFilter, before: int | None, limit: int) -> list[LogPack]:
        return (await self._meant(run_id, where, before))[::-1][:limit]

    async def _meant(self, run_id: RunId, where: LogFilter, before: int | None) -> list[LogPack]:
        await reached(self._database)
        kept = [each for _, each in sorted(self._database.log_packs.get(run_id, {}).items())]
        return [
            each.pack
            for each in kept
            if (before is None or each.pack.first_position < before)
            and any(is_meant(where, part.step, part.item, part.attempt, part.last_time) for part in each.parts)
        ]

    async def parts(self, pack: LogPack, where: LogFilter) -> list[LogPart]:
        await reached(self._database)
        kept = self._database.log_packs.get(pack.run_id, {}).get(pack.last_position)
        found = sorted(kept.parts if kept else (), key=lambda part: (part.step, part.item, part.attempt))
        return [part for part in found if is_meant(where, part.step, part.item, part.attempt, part.last_time)]

    async def unused_names(self, before: int, limit: int) -> list[str]:
        await reached(self._database)
        names = sorted(name for name, at in self._database.log_names.items() if at < before)[:limit]
        self._database.log_names.update(dict.fromkeys(names, 0))
        return names

    async def forget_names(self, names: Sequence[str]) -> None:
        await reached(self._database)
        for name in names:
            self._database.log_names.pop(name, None)


def _stored(chunk: LogChunk) -> StoredLines:
    lines = pack_lines(chunk.lines)
    return StoredLines(chunk.position, chunk.step, chunk.item, chunk.attempt, chunk.at, lines)

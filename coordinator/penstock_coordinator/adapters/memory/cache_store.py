"""Port `CacheStore` in memory."""

from __future__ import annotations

import asyncio
import itertools
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from msgspec.structs import replace as replaced

from penstock_coordinator.adapters.memory.reaching import reached
from penstock_coordinator.ports import (
    CacheEntry,
    CacheFilter,
    CacheQuestion,
    CacheReply,
    Found,
    HeldBy,
    Reserved,
    Reserver,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from penstock_coordinator.adapters.memory.database import MemoryDatabase
    from penstock_coordinator.ports import Record


@dataclass(slots=True)
class KeptReservation:
    reserver: Reserver
    until: float
    """By the loop's clock."""


class MemoryCacheStore:
    def __init__(self, database: MemoryDatabase) -> None:
        self._database = database

    async def ask(self, questions: Sequence[CacheQuestion], now: int, ttl: int) -> list[CacheReply | None]:
        await reached(self._database)
        return [self._reply(question, now, ttl) for question in questions]

    def _reply(self, question: CacheQuestion, now: int, ttl: int) -> CacheReply:
        entries = (entry for _, entry in sorted(self._database.cache_entries.items(), reverse=True))
        for entry in entries:
            row = entry.row
            valid = row.at >= question.since and (row.expire_time is None or row.expire_time > now)
            if row.key == question.key and valid:
                return Found(entry)
        holder = self._hold(question.key, question.reserver, ttl)
        return Reserved() if holder == question.reserver else HeldBy(holder)

    def _hold(self, key: bytes, reserver: Reserver, ttl: int) -> Reserver:
        """Whose the key is then."""
        reservations, now = self._database.cache_reservations, asyncio.get_running_loop().time()
        kept = reservations.get(key)
        if kept is None or kept.until < now or _may_take(kept.reserver, reserver):
            reservations[key] = KeptReservation(reserver, now + ttl / 1e6)
        return reservations[key].reserver

    async def renew(self, held: Sequence[tuple[bytes, Reserver]], ttl: int) -> list[bool]:
        await reached(self._database)
        return [self._hold(key, reserver, ttl) == reserver for key, reserver in held]

    async def release(self, held: Sequence[tuple[bytes, Reserver]]) -> None:
        await reached(self._database)
        for key, reserver in held:
            kept = self._database.cache_reservations.get(key)
            if kept is not None and replaced(kept.reserver, display_name="") == replaced(reserver, display_name=""):
                del self._database.cache_reservations[key]

    async def list_entries(self, where: CacheFilter, limit: int, before: int | None = None) -> list[CacheEntry]:
        await reached(self._database)
        found = [
            replace(entry, row=replaced(entry.row, output=b""))
            for number, entry in sorted(self._database.cache_entries.items(), reverse=True)
            if (before is None or number < before) and _matches(entry, where)
        ]
        return found[:limit]

    async def get(self, entry_id: int) -> CacheEntry | None:
        await reached(self._database)
        return self._database.cache_entries.get(entry_id)

    async def delete(self, where: CacheFilter, entry_id: int | None, limit: int) -> int:
        await reached(self._database)
        entries = self._database.cache_entries
        due = [i for i, e in sorted(entries.items()) if entry_id in (None, i) and _matches(e, where)][:limit]
        for number in due:
            del entries[number]
        return len(due)

    async def nth_newest(self, number: int) -> int | None:
        await reached(self._database)
        times = sorted((entry.row.at for entry in self._database.cache_entries.values()), reverse=True)
        return times[number - 1] if len(times) >= number else None


def _may_take(holder: Reserver, other: Reserver) -> bool:
    same = (holder.run_id, holder.step, holder.item) == (other.run_id, other.step, other.item)
    return same and holder.token <= other.token


def _matches(entry: CacheEntry, where: CacheFilter) -> bool:
    row = entry.row
    wanted = ((where.pipeline, row.pipeline), (where.step_name, row.step_name), (where.run_id, entry.run_id))
    if any(want and want != has for want, has in wanted):
        return False
    digits = where.key_prefix.hex() + ("" if where.key_odd is None else f"{where.key_odd:x}")
    return row.key.hex().startswith(digits)


_numbers = itertools.count(1)


def project_values(database: MemoryDatabase, record: Record) -> None:
    """What a stored record says of the cache."""
    for entry in record.entries:
        number = next(_numbers)
        database.cache_entries[number] = CacheEntry(number, record.run_id, entry, len(entry.output))

"""The values of the cache, as people look at them and delete them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from penstock_coordinator.ports import CacheEntry, CacheFilter, CacheStore

BATCH = 500


class UnknownEntry(Exception):
    """There is no such entry, or it was deleted."""


class CachedValues:
    def __init__(self, store: CacheStore) -> None:
        self._store = store

    async def list_entries(self, where: CacheFilter, limit: int, before: int | None) -> list[CacheEntry]:
        """The newest first, without outputs. Raises `Unavailable`."""
        return await self._store.list_entries(where, limit, before)

    async def get(self, entry_id: int) -> CacheEntry:
        """Raises `UnknownEntry`, `Unavailable`."""
        found = await self._store.get(entry_id)
        if found is None:
            raise UnknownEntry
        return found

    async def delete(self, where: CacheFilter, entry_id: int | None = None) -> int:
        """All that match, in short transactions; how many. Who asks again deletes what is left. Raises
        `Unavailable`."""
        deleted = 0
        while count := await self._store.delete(where, entry_id, BATCH):
            deleted += count
        return deleted

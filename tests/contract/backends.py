"""The two kinds of stores that every contract suite runs on."""

from __future__ import annotations

from typing import Protocol

from penstock_coordinator.adapters.memory import MemoryDatabase, memory_stores
from penstock_coordinator.adapters.postgres import PostgresStores, open_stores
from penstock_coordinator.ports import Stores


class Backend(Protocol):
    """One database, on which several coordinators may work."""

    async def open(self, coordinator_id: str = "c1", lanes: int = 2) -> Stores:
        """The stores of a coordinator that has no incarnation yet."""

    async def aclose(self) -> None: ...


class MemoryBackend:
    def __init__(self) -> None:
        self.database = MemoryDatabase()

    async def open(self, coordinator_id: str = "c1", lanes: int = 2) -> Stores:
        return memory_stores(self.database, coordinator_id=coordinator_id, lanes=lanes)

    async def aclose(self) -> None:
        pass


class PostgresBackend:
    def __init__(self, dsn: str) -> None:
        self.dsn = dsn
        self._opened: list[PostgresStores] = []

    async def open(self, coordinator_id: str = "c1", lanes: int = 2) -> Stores:
        stores = await open_stores(self.dsn, coordinator_id=coordinator_id, lanes=lanes, pool_size=3)
        self._opened.append(stores)
        return stores

    async def aclose(self) -> None:
        for stores in self._opened:
            await stores.aclose()


async def open_speaking(backend: Backend, coordinator_id: str = "c1", lanes: int = 2) -> Stores:
    """The stores of a coordinator that may write."""
    stores = await backend.open(coordinator_id, lanes)
    await stores.incarnations.incarnate(coordinator_id, lanes)
    return stores

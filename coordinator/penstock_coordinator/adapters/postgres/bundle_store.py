"""Port `BundleStore`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from penstock_coordinator.adapters.postgres.queries import load
from penstock_coordinator.adapters.postgres.text import storable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from penstock_coordinator.adapters.postgres.connections import Database

_QUERIES = load("bundles")


class PostgresBundleStore:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def present(self, digests: Sequence[str], now: int = 0) -> set[str]:
        asked = [digest for digest in digests if storable(digest)]
        if now and asked:
            await self._database.fetch(_QUERIES["touch"], asked, now)
        return {row["digest"] for row in await self._database.fetch(_QUERIES["present"], asked)}

    async def put(self, digest: str, content: bytes, now: int) -> bool:
        return bool(await self._database.fetch(_QUERIES["put"], digest, now, content))

    async def size(self, digest: str) -> int | None:
        if not storable(digest):
            return None
        size: int | None = await self._database.fetch_value(_QUERIES["size"], digest)
        return size

    async def read(self, digest: str, offset: int, length: int) -> bytes:
        """Empty past the end, and if there is no such bundle."""
        if not storable(digest):
            return b""
        # PostgreSQL counts from 1.
        content: bytes | None = await self._database.fetch_value(_QUERIES["read"], digest, offset + 1, length)
        return content or b""

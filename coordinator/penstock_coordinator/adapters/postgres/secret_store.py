"""Port `SecretStore`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from penstock_coordinator.adapters.postgres.queries import load
from penstock_coordinator.ports import SecretRow

if TYPE_CHECKING:
    from collections.abc import Sequence

    import asyncpg

    from penstock_coordinator.adapters.postgres.connections import Database

_QUERIES = load("secrets")


class PostgresSecretStore:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def put(self, name: str, key_id: str, content: bytes, now: int) -> SecretRow:
        (row,) = await self._database.fetch(_QUERIES["put"], name, key_id, content, now)
        return _row(row)

    async def get(self, names: Sequence[str]) -> list[SecretRow]:
        return [_row(row) for row in await self._database.fetch(_QUERIES["get"], list(names))]

    async def list_secrets(self, limit: int, after: str = "") -> list[SecretRow]:
        return [_row(row) for row in await self._database.fetch(_QUERIES["list"], after, limit)]

    async def delete(self, name: str) -> bool:
        return await self._database.fetch_value(_QUERIES["delete"], name) is not None

    async def replace(self, row: SecretRow, key_id: str, content: bytes) -> bool:
        found = await self._database.fetch_value(_QUERIES["replace"], row.name, row.content, key_id, content)
        return found is not None


def _row(row: asyncpg.Record) -> SecretRow:
    return SecretRow(row["name"], row["key_id"], row["content"], row["create_time"], row["update_time"])

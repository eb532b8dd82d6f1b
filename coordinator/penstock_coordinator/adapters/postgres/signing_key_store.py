"""Port `SigningKeyStore`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from penstock_coordinator.adapters.postgres.queries import load
from penstock_coordinator.ports import SigningKey

if TYPE_CHECKING:
    import asyncpg

    from penstock_coordinator.adapters.postgres.connections import Database

_QUERIES = load("signing_keys")


class PostgresSigningKeyStore:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def keys(self, now: int) -> list[SigningKey]:
        return [_key(row) for row in await self._database.fetch(_QUERIES["keys"], now)]

    async def ensure(self, secret: bytes, now: int) -> list[SigningKey]:
        async with self._database.transaction() as connection:
            await connection.execute(_QUERIES["one_at_a_time"])
            if not await connection.fetch(_QUERIES["newest"]):
                await connection.execute(_QUERIES["add"], secret, now)
            return [_key(row) for row in await connection.fetch(_QUERIES["keys"], now)]

    async def rotate(self, secret: bytes, now: int, others_expire: int) -> SigningKey:
        async with self._database.transaction() as connection:
            await connection.execute(_QUERIES["one_at_a_time"])
            await connection.execute(_QUERIES["remove_expired"], now)
            await connection.execute(_QUERIES["expire"], others_expire)
            (row,) = await connection.fetch(_QUERIES["add"], secret, now)
            return _key(row)


def _key(row: asyncpg.Record) -> SigningKey:
    return SigningKey(row["number"], row["secret"], row["create_time"], row["expire_time"])

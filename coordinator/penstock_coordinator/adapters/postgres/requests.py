"""How requests and their answers are kept: the key as bytes, because a client's id may be any text."""

from __future__ import annotations

from typing import TYPE_CHECKING

from penstock_coordinator.adapters.postgres.queries import load
from penstock_coordinator.ports import Repeated, RequestKey, RequestRow

if TYPE_CHECKING:
    import asyncpg

    from penstock_coordinator.adapters.postgres.connections import Connection, PooledConnection

QUERIES = load("requests")


def packed_key(scope: str, method: str, request_id: str) -> bytes:
    """Scope and method are ours and hold no NUL, so no two keys are packed alike."""
    return "\0".join((scope, method, request_id)).encode("utf-8", "surrogatepass")


def packed(key: RequestKey) -> bytes:
    return packed_key(key.scope, key.method, key.id)


def repetition(key: RequestKey, found: asyncpg.Record) -> Repeated:
    return Repeated(same=found["digest"] == key.digest, answer=found["answer"])


async def find(connection: Connection | PooledConnection, key: RequestKey) -> Repeated | None:
    rows = await connection.fetch(QUERIES["find"], packed(key))
    return repetition(key, rows[0]) if rows else None


async def remember(connection: Connection | PooledConnection, request: RequestRow, now: int) -> bool:
    """False if it is there already."""
    key = request.key
    return bool(await connection.fetch(QUERIES["remember"], packed(key), key.digest, request.answer, now))

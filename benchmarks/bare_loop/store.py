"""Rows of steps and events, committed in groups."""

from __future__ import annotations

import asyncio
import uuid
from dataclasses import dataclass

import asyncpg

CONNECTIONS = 2
"""How many commits may be under way at once."""
MOST_PER_COMMIT = 500
_TABLES = """
    create table steps (
        run uuid not null, position int not null, attempt int not null default 0, state text not null, result jsonb,
        at timestamptz not null default now(), primary key (run, position)
    );
    create table events (
        id bigserial primary key, run uuid not null, kind text not null, body jsonb,
        at timestamptz not null default now()
    );
"""
_COMMIT = """
    with steps as (
        insert into steps (run, position, state, result)
        select run, position, 'completed', result
        from unnest($1::uuid[], $2::int[], $3::jsonb[]) as rows (run, position, result)
    )
    insert into events (run, kind, body)
    select run, 'completed', result from unnest($1::uuid[], $3::jsonb[]) as rows (run, result)
"""


@dataclass(frozen=True, slots=True)
class Row:
    run: uuid.UUID
    position: int
    result: str
    committed: asyncio.Future[None]


class Store:
    def __init__(self) -> None:
        self._waiting: list[Row] = []
        self._filled = asyncio.Event()
        self._committing: list[asyncio.Task[None]] = []

    async def open(self, dsn: str, schema: str) -> None:
        """Makes the schema and its tables anew."""
        settings = {"search_path": schema}
        connections = [await asyncpg.connect(dsn, server_settings=settings) for _ in range(CONNECTIONS)]
        await connections[0].execute(f"drop schema if exists {schema} cascade; create schema {schema}; {_TABLES}")
        for connection in connections:
            statement = await connection.prepare(_COMMIT)
            self._committing.append(asyncio.create_task(self._commit_groups(statement)))

    def add(self, run: uuid.UUID, position: int, result: str) -> asyncio.Future[None]:
        """The future is done when the rows are on disk."""
        committed = asyncio.get_running_loop().create_future()
        self._waiting.append(Row(run, position, result, committed))
        self._filled.set()
        return committed

    async def _commit_groups(self, statement: asyncpg.prepared_stmt.PreparedStatement[asyncpg.Record]) -> None:
        while True:
            while not self._waiting:
                self._filled.clear()
                await self._filled.wait()
            group, self._waiting = self._waiting[:MOST_PER_COMMIT], self._waiting[MOST_PER_COMMIT:]
            results = [row.result for row in group]
            await statement.fetch([row.run for row in group], [row.position for row in group], results)
            for row in group:
                row.committed.set_result(None)

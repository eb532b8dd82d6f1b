"""Port `PipelineStore`."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import msgspec

from penstock_coordinator.adapters.postgres import requests
from penstock_coordinator.adapters.postgres.queries import load
from penstock_coordinator.adapters.postgres.text import storable
from penstock_coordinator.ports import PipelineRow, Repeated, RequestKey, RequestRow, VersionRow

if TYPE_CHECKING:
    import asyncpg

    from penstock_coordinator.adapters.postgres.connections import Database, PooledConnection

_QUERIES = load("pipelines")
_LARGEST_NUMBER = 2**31 - 1
"""Of a version: what the column holds."""
_DELETED, _NOTHING_TO_DELETE = b"1", b"0"


class _Overtaken(Exception):
    """The same request was answered by somebody else meanwhile: undo, and answer as they did."""


class PostgresPipelineStore:
    def __init__(self, database: Database, reads: Database | None = None) -> None:
        self._database = database
        self._reads = reads or database

    async def create_version(
        self, pipeline: str, digest: str, spec: bytes, step_count: int, now: int, request: RequestKey | None
    ) -> tuple[VersionRow, bool] | Repeated:
        fresh = VersionRow(pipeline, 0, digest, spec, step_count, now)
        while True:
            try:
                async with self._database.transaction() as connection:
                    return await _create_once(connection, fresh, request)
            except _Overtaken:
                continue

    async def get_pipeline(self, name: str) -> PipelineRow | None:
        if not storable(name):
            return None
        row = await self._database.fetch_row(_QUERIES["get_pipeline"], name)
        return None if row is None else _pipeline(row)

    async def get_version(self, name: str, number: int) -> VersionRow | None:
        if not storable(name) or number > _LARGEST_NUMBER:
            return None
        row = await self._database.fetch_row(_QUERIES["get_version"], name, number)
        return None if row is None else _version(row)

    async def version_by_digest(self, digest: str) -> VersionRow | None:
        if not storable(digest):
            return None
        row = await self._database.fetch_row(_QUERIES["version_by_digest"], digest)
        return None if row is None else _version(row)

    async def list_pipelines(self, limit: int, after: str = "") -> list[PipelineRow]:
        if not storable(after):
            return []
        rows = await self._reads.fetch(_QUERIES["list_pipelines"], after, limit)
        return [_pipeline(row) for row in rows]

    async def list_versions(self, name: str, limit: int, before: int | None = None) -> list[VersionRow]:
        if not storable(name):
            return []
        rows = await self._database.fetch(_QUERIES["list_versions"], name, before, limit)
        return [_version(row) for row in rows]

    async def delete_pipeline(self, name: str, now: int, request: RequestKey | None) -> bool | Repeated:
        while True:
            try:
                async with self._database.transaction() as connection:
                    return await _delete_once(connection, name, now, request)
            except _Overtaken:
                continue


async def _create_once(
    connection: PooledConnection, fresh: VersionRow, request: RequestKey | None
) -> tuple[VersionRow, bool] | Repeated:
    if request is not None and (found := await requests.find(connection, request)):
        if not found.same:
            return found
        _, created = _decode_answer(found.answer)
        return await _first_answer(connection, fresh), created
    version, created = await _add(connection, fresh)
    await _remember(connection, request, _encode_answer((version.number, created)), fresh.create_time)
    return version, created


async def _first_answer(connection: PooledConnection, fresh: VersionRow) -> VersionRow:
    row = await connection.fetchrow(_QUERIES["version_of_content"], fresh.pipeline, fresh.digest)
    assert row is not None, "versions are never removed"
    return _version(row)


async def _add(connection: PooledConnection, fresh: VersionRow) -> tuple[VersionRow, bool]:
    latest = await connection.fetchval(_QUERIES["lock_pipeline"], fresh.pipeline, fresh.create_time)
    row = await connection.fetchrow(_QUERIES["version_of_content"], fresh.pipeline, fresh.digest)
    if row is not None:
        return _version(row), False
    version = dataclasses.replace(fresh, number=latest + 1)
    await connection.execute(
        _QUERIES["add_version"],
        *(version.pipeline, version.number, version.digest, version.step_count, version.create_time, version.spec),
    )
    await connection.execute(_QUERIES["count_version"], version.pipeline, version.number)
    return version, True


async def _delete_once(
    connection: PooledConnection, name: str, now: int, request: RequestKey | None
) -> bool | Repeated:
    if request is not None and (found := await requests.find(connection, request)):
        return found.answer == _DELETED if found.same else found
    deleted = storable(name) and bool(await connection.fetch(_QUERIES["delete_pipeline"], name, now))
    await _remember(connection, request, _DELETED if deleted else _NOTHING_TO_DELETE, now)
    return deleted


async def _remember(connection: PooledConnection, request: RequestKey | None, answer: bytes, now: int) -> None:
    if request is not None and not await requests.remember(connection, RequestRow(request, answer), now):
        raise _Overtaken


_encode_answer = msgspec.msgpack.Encoder().encode
_decode_answer = msgspec.msgpack.Decoder(tuple[int, bool]).decode


def _version(row: asyncpg.Record) -> VersionRow:
    return VersionRow(row["pipeline"], row["number"], row["digest"], row["spec"], row["step_count"], row["create_time"])


def _pipeline(row: asyncpg.Record) -> PipelineRow:
    return PipelineRow(row["name"], row["pipeline_create_time"], _version(row))

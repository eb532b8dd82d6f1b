"""The schema: migrations equal the committed dump, statements go by index, partitions are made ahead."""

from __future__ import annotations

import asyncio
import re
import subprocess
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import asyncpg
import pytest
from tests.contract.records import new_run_id, record, start
from tests.waiting import until

from penstock.dev.postgres_binaries import installed_programs
from penstock_coordinator.adapters import postgres as adapter
from penstock_coordinator.adapters.postgres import (
    CannotMigrate,
    PostgresStores,
    connections,
    migrate,
    open_stores,
    partitions,
    queries,
)
from penstock_coordinator.adapters.postgres.schema import newest_version
from penstock_coordinator.adapters.postgres.upgrade import head
from penstock_coordinator.ports import Committed

SCHEMA = Path(adapter.__file__).parent / "schema.sql"
QUERY_FILES = sorted(path.stem for path in (Path(adapter.__file__).parent / "sql").glob("*.sql"))


def _dump(dsn: str) -> str:
    """The schema as pg_dump writes it, without what depends on the day or the version of pg_dump."""
    program = installed_programs() / "bin" / "pg_dump"
    options = ("--schema-only", "--no-owner", "--no-privileges", "--exclude-table=*_p20*")
    dump = subprocess.run([program, *options, dsn], capture_output=True, text=True, check=True).stdout
    lines = [line for line in dump.splitlines() if line and not line.startswith(("--", "SET ", "SELECT ", "\\"))]
    return "\n".join(lines) + "\n"


def test_the_migrations_make_the_committed_schema(database_url: str, rewrite: bool) -> None:
    dump = _dump(database_url)
    if rewrite:
        SCHEMA.write_text(dump)
    assert SCHEMA.read_text() == dump, "after a new migration: pytest tests/contract --rewrite"


async def test_migrating_again_changes_nothing(database_url: str) -> None:
    before = _dump(database_url)
    await migrate(database_url)
    assert _dump(database_url) == before


def test_the_newest_version_is_alembics_head() -> None:
    assert newest_version() == head()


async def test_a_failed_migration_says_why_and_shows_no_password(database_url: str) -> None:
    connection = await connections.connect(database_url, "test")
    try:
        await connection.execute("update alembic_version set version_num = '9999'")
    finally:
        await connections.close(connection)

    with pytest.raises(CannotMigrate, match="9999") as raised:
        await migrate(database_url)

    assert database_url.partition("@")[0] not in str(raised.value)


@pytest.mark.parametrize("file", QUERY_FILES)
async def test_every_query_is_valid(database_url: str, file: str) -> None:
    connection = await connections.connect(database_url, "test")
    try:
        for text in queries.load(file).values():
            await connection.prepare(text)
    finally:
        await connections.close(connection)


@pytest.mark.parametrize("name", ["commit_events", "commit_steps", "commit_all", "stored_of"])
async def test_a_lanes_statements_read_no_table_through(database_url: str, name: str) -> None:
    """Their plans are made once, perhaps on empty tables, and must be right for full ones."""
    connection = await connections.connect_lane(database_url, "test")
    try:
        text = queries.load("journal")[name]
        count = max(int(number) for number in re.findall(r"\$(\d+)", text))
        await connection.execute(f"prepare lane_statement as {text}")
        rows = await connection.fetch(f"explain (costs off) execute lane_statement ({', '.join(['null'] * count)})")
        plan = "\n".join(row[0] for row in rows)
    finally:
        await connections.close(connection)
    assert "Seq Scan" not in plan, plan
    assert "Hash Join" not in plan, plan
    assert "Merge Join" not in plan, plan


# --- partitions ---


@pytest.fixture
async def stores(database_url: str) -> AsyncIterator[PostgresStores]:
    opened = await open_stores(database_url, coordinator_id="c1", lanes=1)
    await opened.incarnations.incarnate("c1", 1)
    yield opened
    await opened.aclose()


@pytest.fixture
async def direct(database_url: str) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
    connection = await asyncpg.connect(database_url)
    yield connection
    await connection.close()


def _microseconds(year: int, month: int, day: int) -> int:
    return int(datetime(year, month, day, tzinfo=UTC).timestamp()) * 1_000_000


async def test_partitions_are_made_for_this_month_and_the_next_ones(stores: PostgresStores) -> None:
    made = await stores.partitions.run_once(_microseconds(2035, 11, 30))

    assert made == [f"{table}_p{month}" for month in ("203511", "203512", "203601") for table in partitions.TABLES]
    assert await stores.partitions.run_once(_microseconds(2035, 11, 1)) == []
    assert await stores.partitions.run_once(_microseconds(2035, 12, 31)) == [
        f"{table}_p203602" for table in partitions.TABLES
    ]


async def test_two_that_make_the_same_partition_at_once_wait_for_each_other(
    stores: PostgresStores, direct: asyncpg.Connection[asyncpg.Record]
) -> None:
    """As coordinators do that are started at one moment on an empty database."""
    waiting = "select exists (select from pg_locks where locktype = 'advisory' and not granted)"
    now = _microseconds(2043, 1, 1)

    async def waits() -> bool:
        return bool(await direct.fetchval(waiting))

    # One alone: news of many would reach who waits before the lock does.
    await stores.partitions.run_once(now)
    await direct.execute("drop table log_chunks_p204302")
    async with direct.transaction():
        assert await partitions.make(direct, now) == ["log_chunks_p204302"]
        second = asyncio.create_task(stores.partitions.run_once(now))
        await until(waits)
    assert await second == []


async def test_a_run_of_a_month_without_partition_is_stored_all_the_same_and_moved_later(
    stores: PostgresStores, direct: asyncpg.Connection[asyncpg.Record]
) -> None:
    instant = _microseconds(2040, 5, 17) // 1000
    run = instant.to_bytes(6, "big") + new_run_id()[6:]
    assert await stores.journal.commit(0, [start(run), record(run, 3)]) == [Committed()] * 2
    assert await direct.fetchval("select count(*) from run_events_default") == 2

    await stores.partitions.run_once(_microseconds(2040, 4, 1))

    assert await direct.fetchval("select count(*) from run_events_default") == 0
    assert await direct.fetchval("select count(*) from run_events_p204005") == 2
    assert len(await stores.journal.read(run)) == 2
    assert await stores.journal.commit(0, [record(run, 4)]) == [Committed()]
    row = await stores.runs.get(run)
    assert row is not None
    assert row.last_seq == 4


async def test_the_last_instant_of_a_month_and_the_first_of_the_next(
    stores: PostgresStores, direct: asyncpg.Connection[asyncpg.Record]
) -> None:
    await stores.partitions.run_once(_microseconds(2041, 1, 1))
    boundary = _microseconds(2041, 2, 1) // 1000
    tail = new_run_id()[6:]
    for instant in (boundary - 1, boundary):
        await stores.journal.commit(0, [record(instant.to_bytes(6, "big") + tail, 1)])

    assert await direct.fetchval("select count(*) from run_events_p204101") == 1
    assert await direct.fetchval("select count(*) from run_events_p204102") == 1

"""The schema: Alembic migrations, the partitions of the coming months, and the check that both are there."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

import asyncpg
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from penstock_coordinator.adapters.postgres import partitions
from penstock_coordinator.adapters.postgres.connections import close, connect

if TYPE_CHECKING:
    from sqlalchemy import Connection as SyncConnection

    from penstock_coordinator.adapters.postgres.connections import Connection

_MIGRATIONS = Path(__file__).parent / "migrations"
_LOCK = "select pg_advisory_lock(hashtextextended('penstock migrations', 0))"


class SchemaOutdated(Exception):
    """The database's schema is not the one that this version works with."""


async def migrate(dsn: str) -> None:
    """Bring the database to the newest schema, and make the partitions of this month and the next ones. Idempotent;
    several at once wait for each other. Raises what the drivers raise."""
    lock = await connect(dsn, "penstock migrate", {"statement_timeout": "0"})
    try:
        await lock.execute(_LOCK)
        await _upgrade(dsn)
        await partitions.make(lock, time.time_ns() // 1000)
    finally:
        await close(lock)


async def _upgrade(dsn: str) -> None:
    async def connected() -> Connection:
        return await asyncpg.connect(dsn, server_settings={"application_name": "penstock migrate"})

    engine = create_async_engine("postgresql+asyncpg://", async_creator=connected, poolclass=NullPool)
    try:
        async with engine.connect() as connection:
            await connection.run_sync(_upgrade_on)
            await connection.commit()
    finally:
        await engine.dispose()


def _upgrade_on(connection: SyncConnection) -> None:
    config = _config()
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config


def newest_version() -> str:
    """The number of the newest migration."""
    head = ScriptDirectory.from_config(_config()).get_current_head()
    assert head is not None
    return head


async def check_version(connection: Connection) -> None:
    """Raises `SchemaOutdated`."""
    table = await connection.fetchval("select to_regclass('alembic_version')")
    found = await connection.fetchval("select version_num from alembic_version") if table else None
    if found != newest_version():
        raise SchemaOutdated(
            f"the database has schema version {found or 'none'}, this release works with {newest_version()}: "
            "run `python -m penstock_coordinator migrate`"
        )

"""Brings a database to the newest schema: python -m penstock_coordinator.adapters.postgres.upgrade

A process of its own: what Alembic brings along takes a third of the memory of a coordinator, which needs it once. The
address of the database comes on the standard input, where no list of processes shows it.
"""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING

import asyncpg
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from penstock_coordinator.adapters.postgres.connections import close, connect
from penstock_coordinator.adapters.postgres.schema import MIGRATIONS

if TYPE_CHECKING:
    from sqlalchemy import Connection as SyncConnection

    from penstock_coordinator.adapters.postgres.connections import Connection

_LOCK = "select pg_advisory_lock(hashtextextended('penstock migrations', 0))"


async def upgrade(dsn: str) -> None:
    """Idempotent; several at once wait for each other. Raises what the drivers raise."""
    lock = await connect(dsn, "penstock migrate", {"statement_timeout": "0"})
    try:
        await lock.execute(_LOCK)
        await _upgrade(dsn)
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
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config


def head() -> str:
    """The number of the newest migration, as Alembic sees it."""
    found = ScriptDirectory.from_config(_config()).get_current_head()
    assert found is not None
    return found


def main() -> int:
    try:
        asyncio.run(upgrade(sys.stdin.read().strip()))
    except Exception as error:
        sys.stderr.write(f"{type(error).__name__}: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

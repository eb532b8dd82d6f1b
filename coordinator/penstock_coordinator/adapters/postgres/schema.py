"""The schema: its migrations, the partitions of the coming months, and the check that both are there."""

from __future__ import annotations

import asyncio
import sys
import time
from asyncio.subprocess import PIPE
from pathlib import Path
from typing import TYPE_CHECKING

from penstock_coordinator.adapters.postgres import partitions
from penstock_coordinator.adapters.postgres.connections import ANSWER_SECONDS, answering_within, close, connect

if TYPE_CHECKING:
    from penstock_coordinator.adapters.postgres.connections import Connection

MIGRATIONS = Path(__file__).parent / "migrations"
PARTITION_SECONDS = 60.0
"""New partitions may have to wait for whoever reads the tables."""
_UPGRADE = "penstock_coordinator.adapters.postgres.upgrade"


class SchemaOutdated(Exception):
    """The database's schema is not the one that this version works with."""


class CannotMigrate(Exception):
    """The database was left as it was; the text says why."""


async def migrate(dsn: str) -> None:
    """Bring the database to the newest schema, and make the partitions of this month and the next ones. Idempotent;
    several at once wait for each other. Raises `CannotMigrate`, and what asyncpg raises."""
    connection = await connect(dsn, "penstock migrate", {"statement_timeout": "0"})
    try:
        with answering_within(ANSWER_SECONDS, connection):
            found = await _version(connection)
        if found != newest_version():
            await _upgrade(dsn)
        with answering_within(PARTITION_SECONDS, connection):
            await partitions.make(connection, time.time_ns() // 1000)
    finally:
        await close(connection)


async def _upgrade(dsn: str) -> None:
    flags = ["-P"] if sys.flags.safe_path else []  # It finds the modules where this process does.
    process = await asyncio.create_subprocess_exec(sys.executable, *flags, "-m", _UPGRADE, stdin=PIPE, stderr=PIPE)
    _, said = await process.communicate(dsn.encode())
    if process.returncode:
        raise CannotMigrate(said.decode(errors="replace").strip() or f"it ended with {process.returncode}")


def newest_version() -> str:
    """The number of the newest migration, with which its file begins."""
    return max(path.name.partition("_")[0] for path in (MIGRATIONS / "versions").glob("[0-9]*_*.py"))


async def _version(connection: Connection) -> str | None:
    """What the database has; None: nothing yet."""
    table = await connection.fetchval("select to_regclass('alembic_version')")
    found: str | None = await connection.fetchval("select version_num from alembic_version") if table else None
    return found


async def check_version(connection: Connection, *, newer: bool = False) -> None:
    """`newer`: that of a later release will do, for a process that was there before it: migrations leave a release time
    to be replaced. Raises `SchemaOutdated`."""
    found = await _version(connection)
    if newer and found is not None and found > newest_version():
        return
    if found != newest_version():
        raise SchemaOutdated(
            f"the database has schema version {found or 'none'}, this release works with {newest_version()}: "
            "run `python -m penstock_coordinator migrate`"
        )

"""Monthly partitions of the tables that grow with runs.

They are ranges of the run id: a UUIDv7 begins with the milliseconds since 1970, so a month is a range of ids. They are
made ahead; a run whose month has none goes to the default partition, and from there to its own when that is made.
"""

from __future__ import annotations

import calendar
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from penstock_coordinator.adapters.postgres.connections import Connection, Database, PooledConnection

TABLES = ("run_events", "runs", "step_runs", "attempts", "log_chunks", "artifacts", "artifact_uses")
MONTHS_AHEAD = 2
_LOCK_TIMEOUT = "2s"
"""Attaching waits for statements under way, and everything else behind it: rather try again than hold up commits."""


class PartitionKeeper:
    """Makes the partitions of the months to come. To be run daily or oftener; idempotent."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def run_once(self, now: int) -> list[str]:
        """The names of the partitions it made. Raises `Unavailable`, also if the tables were too busy."""
        async with self._database.connection() as connection:
            return await make(connection, now)


async def make(connection: Connection | PooledConnection, now: int) -> list[str]:
    """This month's partitions and those of the next ones, as far as they are missing; their names."""
    made = []
    for month in _months(now):
        for table in TABLES:
            name = f"{table}_p{month:%Y%m}"
            if not await _is_there(connection, name) and await _make_one(connection, table, name, month):
                made.append(name)
    return made


async def _is_there(connection: Connection | PooledConnection, name: str) -> bool:
    """By the rows of the catalogue: `to_regclass` may answer what this connection knew before it waited for a lock."""
    found = await connection.fetchval(
        "select exists (select from pg_class where relname = $1 and relnamespace = current_schema()::regnamespace)",
        name,
    )
    return bool(found)


async def _make_one(connection: Connection | PooledConnection, table: str, name: str, month: datetime) -> bool:
    """False: another process has made it meanwhile."""
    first, end = _lowest_id(month), _lowest_id(_next(month))
    inside = f"run_id >= '{first}' and run_id < '{end}'"
    async with connection.transaction():
        await connection.execute(f"set local lock_timeout = '{_LOCK_TIMEOUT}'")
        # One process makes it; another that wants it too waits here, and finds it made.
        await connection.execute("select pg_advisory_xact_lock(hashtextextended('penstock partitions', 0))")
        if await _is_there(connection, name):
            return False
        await connection.execute(f"create table {name} (like {table} including all)")
        # Every name below is one of ours, and a statement like these takes no parameters.
        await connection.execute(f"lock table {table}_default in access exclusive mode")
        await connection.execute(
            f"with moved as (delete from {table}_default where {inside} returning *) "  # noqa: S608  # as above
            f"insert into {name} select * from moved"
        )
        await connection.execute(
            f"alter table {table} attach partition {name} for values from ('{first}') to ('{end}')"
        )
    return True


def _months(now: int) -> list[datetime]:
    months = [datetime.fromtimestamp(now / 1e6, UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)]
    for _ in range(MONTHS_AHEAD):
        months.append(_next(months[-1]))
    return months


def _next(month: datetime) -> datetime:
    return month + timedelta(days=calendar.monthrange(month.year, month.month)[1])


def _lowest_id(instant: datetime) -> str:
    milliseconds = int(instant.timestamp()) * 1000
    digits = f"{milliseconds:012x}"
    return f"{digits[:8]}-{digits[8:]}-0000-0000-000000000000"

"""The ways to PostgreSQL: a pool for what is asked, and a connection of its own per lane for what is committed.

asyncpg's own timeouts are no bound: on a timeout or a cancellation it asks the server to cancel the statement and
waits for the answer, and a server that hangs gives none. So no statement is cancelled or waited for with a timeout: a
watchdog cuts the connection (`terminate` closes the socket at once), and the statement under way ends with an error.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING, Any, TypeAlias

import asyncpg
import structlog

from penstock_coordinator.adapters.breaker import Breaker
from penstock_coordinator.adapters.postgres.bulkhead import Bulkhead
from penstock_coordinator.ports import DatabaseFull, Dependency, Unavailable

if TYPE_CHECKING:
    from asyncpg.pool import PoolConnectionProxy

    Connection: TypeAlias = asyncpg.Connection[asyncpg.Record]
    PooledConnection: TypeAlias = PoolConnectionProxy[asyncpg.Record]
    Pool: TypeAlias = asyncpg.Pool[asyncpg.Record]

_log = structlog.get_logger(__name__)

CONNECT_SECONDS = 5.0
ACQUIRE_SECONDS = 5.0
ANSWER_SECONDS = 10.0
"""A statement takes milliseconds. A connection that gives no answer for so long is given up."""
CLOSE_SECONDS = 2.0

_SESSION_SETTINGS = {
    "timezone": "UTC",
    "statement_timeout": "30s",
    # A transaction that its coordinator has left alone holds up a take-over: it must end before the take-over gives up.
    "idle_in_transaction_session_timeout": "5s",
    "tcp_keepalives_idle": "5",
    "tcp_keepalives_interval": "2",
    "tcp_keepalives_count": "3",
    "tcp_user_timeout": "11000",
    "jit": "off",
}
_POOL_SETTINGS = {**_SESSION_SETTINGS, "plan_cache_mode": "force_custom_plan"}
"""Filters are optional parameters: each call is planned for what it gives."""
_LANE_SETTINGS = {
    **_SESSION_SETTINGS,
    # A lane's few statements are made to go by index. A plan that was made while the tables were empty and reads them
    # through is twenty times slower an hour later, so leave the planner no such choice, and let it choose once.
    "plan_cache_mode": "force_generic_plan",
    "enable_seqscan": "off",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
    "enable_bitmapscan": "off",
}


_ERRORS = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError)


def is_away(error: BaseException) -> bool:
    """The server, or the way to it, failed: not what was asked of it."""
    if isinstance(error, asyncpg.PostgresError):
        return (error.sqlstate or "")[:2] not in {"21", "22", "23", "54"}
    if isinstance(error, asyncpg.InterfaceError):
        return not isinstance(error, ValueError)
    return isinstance(error, asyncpg.InternalClientError | OSError)


def is_fault(error: BaseException) -> bool:
    """It says that the server is in trouble, and not only this statement with others, or its plan."""
    if isinstance(error, asyncpg.PostgresError):
        state = error.sqlstate or ""
        return is_away(error) and state[:2] not in {"40", "42", "55"} and state != asyncpg.QueryCanceledError.sqlstate
    return is_away(error)


def in_words(error: BaseException) -> str:
    """For operators: what is wrong, with the remedy where the name of the class does not lead to it."""
    if isinstance(error, asyncpg.DiskFullError):
        return "its disk is full: make room there"
    return type(error).__name__


async def connect(
    dsn: str, name: str, settings: dict[str, str] | None = None, seconds: float | None = None
) -> Connection:
    """A connection that speaks run ids as 16 bytes, within so many seconds (`CONNECT_SECONDS`). Raises what asyncpg
    raises."""
    connection: Connection = await asyncpg.connect(
        dsn,
        timeout=CONNECT_SECONDS if seconds is None else seconds,
        server_settings={**(_SESSION_SETTINGS if settings is None else settings), "application_name": name},
    )
    await _speak_bytes(connection, seconds)
    return connection


async def connect_lane(dsn: str, name: str) -> Connection:
    """For a lane's commits alone."""
    return await connect(dsn, name, _LANE_SETTINGS)


async def _speak_bytes(connection: Connection, seconds: float | None = None) -> None:
    """A server that hangs just now is not waited for: neither here, nor by the pool, which closes a connection politely
    when this is cancelled."""
    try:
        with answering_within(CONNECT_SECONDS if seconds is None else seconds, connection):
            await connection.set_type_codec("uuid", schema="pg_catalog", encoder=bytes, decoder=bytes, format="binary")
    except BaseException:
        connection.terminate()
        raise


@contextlib.contextmanager
def answering_within(seconds: float, connection: Connection | PooledConnection) -> Iterator[None]:
    """What is done on the connection fails if it takes longer: the connection is cut."""
    watchdog = asyncio.get_running_loop().call_later(seconds, connection.terminate)
    try:
        yield
    finally:
        watchdog.cancel()


async def _leave_alone(_connection: Connection) -> None:
    """What is asked through the pool leaves no state on a connection: no statement is needed to clear it."""


async def close(connection: Connection) -> None:
    """Politely if the server answers, in any case soon."""
    with answering_within(CLOSE_SECONDS, connection):
        try:
            await connection.close()
        except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError):
            connection.terminate()


class Database:
    """The pool. Every method raises `Unavailable` and no error of asyncpg's."""

    def __init__(
        self,
        pool: Pool,
        answer_timeout: float,
        dsn: str,
        name: str,
        breaker: Breaker,
        bulkhead: Bulkhead | None = None,
    ) -> None:
        self._breaker = breaker
        self._bulkhead = bulkhead
        self._pool = pool
        self._dsn = dsn
        self._name = name
        self._answer_timeout = answer_timeout

    @classmethod
    async def open(
        cls, dsn: str, name: str, size: int, answer_timeout: float, connect_seconds: float | None = None
    ) -> Database:
        """Raises what asyncpg raises: at the start a wrong address or password should be seen as it is."""
        pool = await asyncpg.create_pool(
            dsn,
            min_size=0,
            max_size=size,
            timeout=CONNECT_SECONDS if connect_seconds is None else connect_seconds,
            init=functools.partial(_speak_bytes, seconds=connect_seconds),
            reset=_leave_alone,
            server_settings={**_POOL_SETTINGS, "application_name": name},
        )
        return cls(pool, answer_timeout, dsn, name, Breaker("PostgreSQL"))

    def share(self, bulkhead: Bulkhead) -> Database:
        """The same pool for calls that have only that share of it."""
        return Database(self._pool, self._answer_timeout, self._dsn, self._name, self._breaker, bulkhead)

    async def fetch(self, query: str, *arguments: object) -> list[asyncpg.Record]:
        async with self.connection() as connection:
            return await connection.fetch(query, *arguments)

    async def fetch_row(self, query: str, *arguments: object) -> asyncpg.Record | None:
        rows = await self.fetch(query, *arguments)
        return rows[0] if rows else None

    async def fetch_value(self, query: str, *arguments: object) -> Any:
        row = await self.fetch_row(query, *arguments)
        return None if row is None else row[0]

    @contextlib.asynccontextmanager
    async def transaction(self) -> AsyncIterator[PooledConnection]:
        async with self.connection() as connection, connection.transaction():
            yield connection

    @contextlib.asynccontextmanager
    async def connection(self) -> AsyncIterator[PooledConnection]:
        """To be used for no longer than the timeout: then it is cut. Raises `Refused` and `Crowded` at once or soon."""
        self._breaker.check()
        async with contextlib.nullcontext() if self._bulkhead is None else self._bulkhead.place():
            with self._breaker.watching(_is_fault):
                async with self._acquired() as connection:
                    yield connection

    @contextlib.asynccontextmanager
    async def _acquired(self) -> AsyncIterator[PooledConnection]:
        with unavailable():
            connection = await self._pool.acquire(timeout=ACQUIRE_SECONDS)
            try:
                with answering_within(self._answer_timeout, connection):
                    yield connection
            except BaseException as error:
                # A connection that failed us once may do so again: it may have lost its statements, for example.
                if isinstance(error, asyncio.CancelledError) or is_away(error):
                    connection.terminate()
                raise
            finally:
                await self._pool.release(connection)

    @contextlib.asynccontextmanager
    async def apart(self, purpose: str) -> AsyncIterator[Connection]:
        """A connection beside the pool, for a lock that is held for long. What is asked on it is to be bounded by
        `answering_within`."""
        with unavailable():
            connection = await connect(self._dsn, f"{self._name} {purpose}")
        try:
            yield connection
        finally:
            await close(connection)

    def try_now(self) -> None:
        """The server was seen to answer."""
        self._breaker.try_now()

    def dependency(self, *shares: Bulkhead) -> Dependency:
        return self._breaker.dependency("postgresql", tuple(share.use for share in shares))

    async def aclose(self) -> None:
        watchdog = asyncio.get_running_loop().call_later(CLOSE_SECONDS, self._pool.terminate)
        try:
            await self._pool.close()
        except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError):
            self._pool.terminate()
        finally:
            watchdog.cancel()


def _is_fault(error: Unavailable) -> bool:
    return error.__cause__ is None or is_fault(error.__cause__)


@contextlib.contextmanager
def unavailable() -> Iterator[None]:
    """Whatever asyncpg raises becomes `Unavailable`."""
    try:
        yield
    except _ERRORS as error:
        if not is_away(error):
            _log.exception("database_refused")
        kind = DatabaseFull if isinstance(error, asyncpg.DiskFullError) else Unavailable
        raise kind(f"PostgreSQL: {in_words(error)}") from error

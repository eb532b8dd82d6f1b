"""The pool when PostgreSQL is away, and when one kind of calls has all that it may have."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from unittest.mock import patch
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import pytest
from tests.contract.impatience import impatient
from tests.contract.records import new_run_id
from tests.tcp_proxy import TcpProxy
from tests.waiting import until

from penstock_coordinator.adapters.breaker import FAILURES, Refused
from penstock_coordinator.adapters.postgres import PostgresStores, open_stores
from penstock_coordinator.ports import DependencyState, RunFilter, Unavailable


@contextlib.asynccontextmanager
async def _behind_proxy(dsn: str) -> AsyncIterator[tuple[PostgresStores, TcpProxy]]:
    parts = urlsplit(dsn)
    assert parts.hostname is not None
    assert parts.port is not None
    async with TcpProxy(parts.hostname, parts.port) as proxy:
        netloc = f"{parts.username}:{parts.password}@127.0.0.1:{proxy.port}"
        moved = urlunsplit(parts._replace(netloc=netloc))
        stores = await open_stores(moved, coordinator_id="c1", lanes=1, pool_size=4)
        try:
            yield stores, proxy
        finally:
            await stores.aclose()


def _state(stores: PostgresStores) -> DependencyState:
    pool, journal, objects = stores.dependencies()
    assert (pool.name, journal.name, objects.name) == ("postgresql", "journal", "artifacts")
    return pool.state


@contextlib.contextmanager
def in_the_pause(stores: PostgresStores) -> Iterator[None]:
    """In here the breaker's clock stands still, shortly before it would let somebody try."""
    breaker = stores._database._breaker
    instant = breaker._again_at - 0.01
    with patch.object(breaker, "_now", lambda: instant):
        yield


async def test_a_server_that_hangs_is_asked_a_few_times_then_not_at_all_and_again_when_it_is_back(
    database_url: str,
) -> None:
    async with _behind_proxy(database_url) as (stores, proxy):
        assert await stores.runs.get(new_run_id()) is None
        proxy.swallow_requests()
        for _ in range(FAILURES):
            with pytest.raises(Unavailable), impatient(0.3, connecting=True):
                await stores.runs.get(new_run_id())
        assert _state(stores) is DependencyState.OPEN

        with in_the_pause(stores):
            for _ in range(100):
                with pytest.raises(Refused):
                    stores.runs.get(new_run_id()).send(None)  # to its first wait, and there is none

        proxy.heal()

        async def answered() -> bool:
            with contextlib.suppress(Unavailable):
                await stores.runs.get(new_run_id())
                return True
            return False

        await until(answered)
        assert _state(stores) is DependencyState.CLOSED


async def test_lists_that_hang_leave_connections_to_what_runs_need(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("penstock_coordinator.adapters.postgres.stores.ACQUIRE_SECONDS", 60.0)
    stores = await open_stores(database_url, coordinator_id="c1", lanes=1, pool_size=4)
    blocker = await asyncpg.connect(database_url)
    try:
        transaction = blocker.transaction()
        await transaction.start()
        await blocker.execute("lock table runs in access exclusive mode")
        lists = [asyncio.create_task(stores.runs.list_runs(RunFilter(), 10)) for _ in range(20)]

        async def all_queue() -> bool:
            return _reading(stores) == (2, 18)

        await until(all_queue)
        # Of the four connections two are left: the table of bundles is not locked.
        assert await asyncio.wait_for(stores.bundles.present(["b" * 64]), 60) == set()
        await transaction.rollback()
        assert await asyncio.gather(*lists) == [[]] * 20
        assert _reading(stores) == (0, 0)
    finally:
        await blocker.close()
        await stores.aclose()


def _reading(stores: PostgresStores) -> tuple[int, int]:
    reading = stores.dependencies()[0].shares[0]
    return reading.in_use, reading.waiting


async def test_a_statement_that_is_refused_for_what_is_in_it_is_no_failure_of_the_server(database_url: str) -> None:
    stores = await open_stores(database_url, coordinator_id="c1", lanes=1, pool_size=4)
    try:
        for _ in range(2 * FAILURES):
            with pytest.raises(Unavailable):
                await stores._database.fetch("select 1 / 0")
        assert _state(stores) is DependencyState.CLOSED
    finally:
        await stores.aclose()

"""A real PostgreSQL for tests: one server per session, a fresh migrated database per test."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import asyncpg
import pytest
from tests.clusters import prepared

from penstock.dev.postgres import DATABASE, EmbeddedPostgres

_T = TypeVar("_T")
_TEMPLATE = "penstock_template"
_numbers = itertools.count(1)


def in_own_loop(coroutine: Coroutine[object, object, _T]) -> _T:
    """Run it to its end in a thread of its own: a fixture must not touch the loop of the test that asks for it."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, coroutine).result()


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedPostgres]:
    """The session's server. A test that stops or restarts a server starts one of its own."""
    with EmbeddedPostgres(prepared(tmp_path_factory.mktemp("postgres") / "data"), settings={"fsync": "off"}) as server:
        yield server


@pytest.fixture(scope="session")
def migrated_template(postgres: EmbeddedPostgres) -> str:
    """The name of a migrated database that new ones are copied from."""
    in_own_loop(_execute(postgres, f"create database {_TEMPLATE} template {DATABASE}"))
    return _TEMPLATE


@pytest.fixture
def database_url(postgres: EmbeddedPostgres, migrated_template: str) -> Iterator[str]:
    """A fresh, migrated database of the test's own."""
    name = f"test_{next(_numbers)}"
    in_own_loop(_execute(postgres, f"create database {name} template {migrated_template} strategy file_copy"))
    yield postgres.dsn_of(name)
    in_own_loop(_execute(postgres, f"drop database {name} with (force)"))


@pytest.fixture
def empty_database_url(postgres: EmbeddedPostgres) -> Iterator[str]:
    """A fresh database without a schema."""
    name = f"test_{next(_numbers)}"
    in_own_loop(_execute(postgres, f"create database {name}"))
    yield postgres.dsn_of(name)
    in_own_loop(_execute(postgres, f"drop database {name} with (force)"))


async def _execute(server: EmbeddedPostgres, statement: str) -> None:
    connection = await asyncpg.connect(server.dsn_of("postgres"))
    try:
        await connection.execute(statement)
    finally:
        await connection.close()

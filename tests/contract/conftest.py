"""One database of each kind, and a coordinator on it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from tests.contract.backends import Backend, MemoryBackend, PostgresBackend, open_speaking

from penstock_coordinator.ports import Stores


@pytest.fixture(params=["memory", "postgres"])
async def backend(request: pytest.FixtureRequest) -> AsyncIterator[Backend]:
    kind = MemoryBackend() if request.param == "memory" else PostgresBackend(request.getfixturevalue("database_url"))
    yield kind
    await kind.aclose()


@pytest.fixture
async def stores(backend: Backend) -> Stores:
    """Of the coordinator "c1", which may write."""
    return await open_speaking(backend)

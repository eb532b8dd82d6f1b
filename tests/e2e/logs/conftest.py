"""A coordinator and an agent as processes of their own, whose steps may write much."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.e2e.protocol.conftest import System


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """The folder of the artifact store."""
    return tmp_path / "store"


@pytest.fixture
async def cluster(database_url: str, tmp_path: Path, store: Path) -> AsyncIterator[System]:
    """Not started yet. Lines are packed when they are a second old."""
    made = System(database_url, tmp_path)
    made.settings = {
        "PENSTOCK_LEASE_TTL": "60s",
        "PENSTOCK_HEARTBEAT_INTERVAL": "500ms",
        "PENSTOCK_ARTIFACTS_URL": store.as_uri(),
        "PENSTOCK_LOG_PACK_AFTER": "1s",
        "PENSTOCK_LOG_RETENTION": "1s",
        "PENSTOCK_JANITOR_INTERVAL": "0s",
    }
    try:
        yield made
    finally:
        await made.close()

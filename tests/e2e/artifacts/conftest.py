"""A coordinator and two agents as processes of their own, with either store."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.e2e.protocol.conftest import System
from tests.seaweed import SeaweedServer


@pytest.fixture(params=["local", "s3"])
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """PENSTOCK_ARTIFACTS_URL."""
    if request.param == "local":
        return (tmp_path / "store").as_uri()
    request.getfixturevalue("s3_credentials")
    server: SeaweedServer = request.getfixturevalue("seaweed")
    return server.url()


@pytest.fixture
async def cluster(database_url: str, tmp_path: Path) -> AsyncIterator[System]:
    """Not started yet. Its agents are labelled with their names as `place`."""
    made = System(database_url, tmp_path)
    made.settings = {"PENSTOCK_LEASE_TTL": "60s", "PENSTOCK_HEARTBEAT_INTERVAL": "500ms"}
    try:
        yield made
    finally:
        await made.close()

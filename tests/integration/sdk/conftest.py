from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.integration.sdk.command_line import CommandLine
from tests.integration.sdk.peer import Peer, serving

from penstock.client.client import Client


@pytest.fixture
async def peer() -> AsyncIterator[Peer]:
    async with serving(Peer()) as started:
        yield started


@pytest.fixture
async def client(peer: Peer) -> AsyncIterator[Client]:
    async with Client(peer.address, deadline=60, patience=60) as opened:
        yield opened


@pytest.fixture
def penstock(peer: Peer, tmp_path: Path) -> CommandLine:
    return CommandLine(peer.address, tmp_path)

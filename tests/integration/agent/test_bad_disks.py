"""An agent whose disk is full, or cannot be looked at, takes no work, and goes on with what it has."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.integration.agent.conftest import Agents
from tests.integration.agent.coordinator import Coordinator

from penstock.agent.v1 import agent_service_pb2 as wire

SIZE = 4 << 20
TRUE = wire.TaskSpec(command=wire.CommandTask(argv=["true"]))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 4 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", str(folder)], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(folder: Path) -> Path:
    """Leave no byte."""
    path = folder / "filler"
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT)
    with contextlib.suppress(OSError):
        while True:
            os.write(descriptor, bytes(1 << 12))
    os.close(descriptor)
    return path


async def test_a_full_disk_lowers_the_credits_to_nothing(
    coordinator: Coordinator, agents: Agents, small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PENSTOCK_AGENT_DISK_FLOOR_BYTES", str(1 << 20))
    agents.folder = small_disk
    await agents.start()
    await coordinator.until(lambda: coordinator.session.grant_limit == 2)
    filler = fill(small_disk)
    await coordinator.until(lambda: any(each.heartbeat.disk_low for each in coordinator.session.heard))
    # What is granted all the same, within former credits, is rejected.
    (ref,) = await coordinator.grant(TRUE)
    await coordinator.until(lambda: coordinator.rejected)
    assert [(each.lease, each.reason) for each in coordinator.rejected] == [(ref, "no_space")]
    limit = coordinator.session.grant_limit
    beats = len(coordinator.session.heard)
    await coordinator.until(lambda: len(coordinator.session.heard) > beats + 3)
    assert coordinator.session.grant_limit == limit
    filler.unlink()
    await coordinator.until(lambda: coordinator.session.grant_limit > limit)
    assert (await coordinator.run(TRUE)).status == wire.RESULT_STATUS_OK


async def test_a_disk_that_cannot_be_looked_at_ends_nothing(
    coordinator: Coordinator, agents: Agents, tmp_path: Path
) -> None:
    await agents.start()
    folder, away = tmp_path / "agent", tmp_path / "away"
    folder.rename(away)
    await coordinator.until(lambda: any(each.heartbeat.disk_low for each in coordinator.session.heard))
    limit, beats = coordinator.session.grant_limit, len(coordinator.session.beats)
    await coordinator.until(lambda: len(coordinator.session.beats) > beats + 2)
    assert coordinator.session.grant_limit == limit
    away.rename(folder)
    await coordinator.until(lambda: not coordinator.session.heard[-1].heartbeat.disk_low)
    assert (await coordinator.run(TRUE)).status == wire.RESULT_STATUS_OK
    assert len(coordinator.sessions) == 1

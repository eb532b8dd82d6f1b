"""A scripted coordinator, and the real agent process against it."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from tests.integration.agent.artifact_store import ArtifactStore
from tests.integration.agent.coordinator import Coordinator, running_coordinator


@dataclass
class Agents:
    """Starts agents; what still runs at the end of the test is killed."""

    coordinator: Coordinator
    folder: Path
    started: list[asyncio.subprocess.Process] = field(default_factory=list)

    async def start(
        self,
        *more: str,
        slots: int = 2,
        name: str = "agent",
        connected: bool = True,
        prefix: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
    ) -> asyncio.subprocess.Process:
        argv = ["--address", self.coordinator.address, "--slots", str(slots), "--data-dir", str(self.folder / name)]
        before = len(self.coordinator.sessions)
        process = await asyncio.create_subprocess_exec(
            *prefix, sys.executable, "-m", "penstock_agent", *argv, *more,
            env={**os.environ, "PENSTOCK_API_KEY": "not for steps", **(env or {})},
            stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        self.started.append(process)
        if connected:
            await self.coordinator.until(lambda: len(self.coordinator.sessions) > before)
        return process

    async def close(self) -> None:
        for process in self.started:
            if process.returncode is None:
                process.kill()
            _, err = await process.communicate()
            assert b"Traceback" not in err, err.decode()


@pytest.fixture
async def coordinator() -> AsyncIterator[Coordinator]:
    async with running_coordinator() as running:
        yield running


@pytest.fixture
async def store(coordinator: Coordinator) -> AsyncIterator[ArtifactStore]:
    """The coordinator has one, before an agent connects."""
    coordinator.inline_output_bytes = 4096
    await coordinator.artifacts.start()
    try:
        yield coordinator.artifacts
    finally:
        await coordinator.artifacts.stop()


@pytest.fixture
async def agents(coordinator: Coordinator, tmp_path: Path) -> AsyncIterator[Agents]:
    agents = Agents(coordinator, tmp_path)
    try:
        yield agents
    finally:
        await agents.close()

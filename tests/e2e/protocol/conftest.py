"""A coordinator and agents as processes of their own on a real database, with time scales of a test, and what may come
between them: a proxy that loses everything, signals that freeze a process, namespaces of the network."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tests.waiting import until

from penstock import Client
from penstock.dev.ports import take_port
from penstock_agent.runtime.spool import _records as records

QUICK = {
    "PENSTOCK_HEARTBEAT_INTERVAL": "200ms",
    "PENSTOCK_LEASE_TTL": "3s",
    "PENSTOCK_EXPIRY_MARGIN": "200ms",
    "PENSTOCK_RESULT_RESEND_INTERVAL": "300ms",
}
PATIENCE = 60.0
CONNECTED = '"event": "connected"'
"""In the log of an agent."""


class Process:
    """One process, its lines of log as they come, and its end."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.lines: list[dict[str, Any]] = []
        self.said = ""
        """All that is no line of log."""
        self._reading = asyncio.create_task(self._read())

    async def _read(self) -> None:
        assert self._process.stderr is not None
        async for line in self._process.stderr:
            try:
                self.lines.append(json.loads(line))
            except ValueError:
                self.said += line.decode()

    async def says(self, text: str, count: int = 1) -> None:
        """So many lines of its log have the text."""

        async def said() -> bool:
            found = sum(text in json.dumps(line) for line in self.lines) >= count
            assert found or self._process.returncode is None, f"it ended: {self.said}"
            return found

        await until(said, PATIENCE)

    @property
    def pid(self) -> int:
        return self._process.pid

    def send(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    async def kill(self) -> None:
        if self._process.returncode is None:
            self._process.kill()
        await self._process.wait()
        await self._reading

    async def ended(self) -> int:
        async with asyncio.timeout(PATIENCE):
            return await self._process.wait()


def _python(module: str, code: str) -> list[str]:
    return [sys.executable, *(("-c", code.format(module=module)) if code else ("-m", module))]


class System:
    def __init__(self, database_url: str, folder: Path) -> None:
        self._database_url = database_url
        self._folder = folder
        self.port = take_port(0, "")
        self.settings = dict(QUICK)
        self.listen_on = "127.0.0.1"
        self._processes: list[Process] = []

    @property
    def address(self) -> str:
        return f"{self.listen_on}:{self.port}"

    async def coordinator(self, *, code: str = "") -> Process:
        """Started again, it is the same one with a new incarnation. `code`: Python that runs the `{module}`."""
        settings = {
            "PENSTOCK_DATABASE_URL": self._database_url,
            "PENSTOCK_DATA_DIR": str(self._folder / "coordinator"),
            "PENSTOCK_LISTEN": self.address,
            "PENSTOCK_HTTP_LISTEN": "127.0.0.1:0",
            "PENSTOCK_LOG_FORMAT": "json",
            **self.settings,
        }
        process = await self._start(_python("penstock_coordinator", code), settings)
        await process.says("listening")
        return process

    async def agent(
        self,
        name: str,
        address: str = "",
        *prefix: str,
        connected: bool = True,
        code: str = "",
        slots: int = 4,
        **settings: str,
    ) -> Process:
        settings = {"PENSTOCK_AGENT_LOG_FORMAT": "json", **settings}
        argv = ["--id", name, "--address", address or self.address, "--slots", str(slots)]
        argv += ["--data-dir", str(self._folder / name)]
        process = await self._start([*prefix, *_python("penstock_agent", code), *argv], settings)
        if connected:
            await process.says(CONNECTED)
        return process

    async def _start(self, argv: list[str], settings: dict[str, str]) -> Process:
        ours = {key: value for key, value in os.environ.items() if not key.startswith("PENSTOCK_")}
        made = await asyncio.create_subprocess_exec(
            *argv, env={**ours, **settings}, stdin=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE
        )
        process = Process(made)
        self._processes.append(process)
        return process

    def spooled(self, name: str) -> int:
        """Results in the spool of an agent, as it would be read."""
        path = self._folder / name / "spool"
        return len(list(records(path.read_bytes()))) if path.exists() else 0

    def client(self) -> Client:
        return Client(self.address)

    async def close(self) -> None:
        for process in reversed(self._processes):
            await process.kill()


@pytest.fixture
async def system(database_url: str, tmp_path: Path) -> AsyncIterator[System]:
    made = System(database_url, tmp_path)
    try:
        yield made
    finally:
        await made.close()

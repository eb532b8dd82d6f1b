"""Processes in place of containers."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import urllib.error
import urllib.request
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

GRACE = 60.0
PATIENCE = 10.0
LAST_BYTES = 4_000


class Failed(Exception):
    """What did not go as it should, with the end of the log of whatever it was."""


class Running:
    """A process that was started, and where its log is."""

    def __init__(self, name: str, process: Process, log: Path) -> None:
        self.name = name
        self._process = process
        self._log = log

    def check(self) -> None:
        """Raises `Failed` if it has ended."""
        if self._process.returncode is not None:
            raise Failed(f"{self.name} ended with {self._process.returncode}:\n{self.last_words()}")

    def last_words(self) -> str:
        return self._log.read_text(errors="replace")[-LAST_BYTES:]

    async def stop(self) -> int:
        """As `docker stop` does: SIGTERM, and after a time SIGKILL. The exit code."""
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGTERM)
        try:
            await asyncio.wait_for(self._process.wait(), GRACE)
        except TimeoutError:
            os.killpg(self._process.pid, signal.SIGKILL)
        return await self._process.wait()


@asynccontextmanager
async def running(
    name: str, command: Sequence[str], environment: Mapping[str, str], folder: Path
) -> AsyncIterator[Running]:
    """Until the end of the block, which raises `Failed` if the process was not ended by SIGTERM within a minute."""
    log = log_of(name, folder)
    with log.open("wb") as written:
        process = await asyncio.create_subprocess_exec(
            *command,
            env=environment,
            cwd=folder,
            stdout=written,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,
        )
    started = Running(name, process, log)
    try:
        yield started
        started.check()
    finally:
        code = await started.stop()
    if code not in (0, -signal.SIGTERM):
        raise Failed(f"{name} was asked to end, and did so with {code}:\n{started.last_words()}")


async def run_to_its_end(name: str, command: Sequence[str], environment: Mapping[str, str], folder: Path) -> str:
    """What it printed. Raises `Failed` if its exit code is not 0."""
    process = await asyncio.create_subprocess_exec(
        *command,
        env=environment,
        cwd=folder,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        printed, _ = await process.communicate()
    finally:
        if process.returncode is None:
            os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
    log_of(name, folder).write_bytes(printed)
    if process.returncode:
        raise Failed(f"{name} ended with {process.returncode}:\n{printed.decode(errors='replace')[-LAST_BYTES:]}")
    return printed.decode()


def log_of(name: str, folder: Path) -> Path:
    """The file for what it prints."""
    logs = folder / "logs"
    logs.mkdir(exist_ok=True)
    return logs / name


async def answers(url: str) -> bool:
    """Whether a GET is answered with 200."""
    return await asyncio.to_thread(_answers, url)


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=PATIENCE) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False

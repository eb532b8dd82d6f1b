"""Systems that are measured in a process, and maybe an environment, of their own.

The process reads names of workloads, a line each, does each once, and answers with a line of JSON. Before the first it
says "ready". So whoever measures lets several systems take turns on one machine.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from benchmarks.step_body import LOG_VARIABLE
from benchmarks.step_log import StepLog
from benchmarks.workloads import Figures, Subject, measure

READY = "ready"
READY_SECONDS = 120.0
LEAVE_SECONDS = 15.0


class Contestant(Protocol):
    async def measure(self, workload: str) -> Figures:
        """Do it once."""


class ContestantError(Exception):
    pass


class ChildContestant:
    def __init__(self, name: str, child: asyncio.subprocess.Process) -> None:
        self._name = name
        self._child = child

    async def measure(self, workload: str) -> Figures:
        assert self._child.stdin is not None
        self._child.stdin.write(f"{workload}\n".encode())
        figures: Figures = json.loads(await self.line())
        return figures

    async def line(self) -> str:
        assert self._child.stdout is not None
        line = await self._child.stdout.readline()
        if not line:
            raise ContestantError(f"{self._name} ended with status {await self._child.wait()}; its words are above")
        return line.decode().strip()


@contextlib.asynccontextmanager
async def child_contestant(
    name: str, command: Sequence[str], environment: Mapping[str, str]
) -> AsyncIterator[ChildContestant]:
    """The process ends with the block."""
    child = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, **environment},
        start_new_session=True,
    )
    try:
        contestant = ChildContestant(name, child)
        async with asyncio.timeout(READY_SECONDS):
            while await contestant.line() != READY:
                pass
        yield contestant
    finally:
        await _end(child)


async def _end(child: asyncio.subprocess.Process) -> None:
    """In order, or else with all that it started."""
    assert child.stdin is not None
    child.stdin.close()
    try:
        await asyncio.wait_for(child.wait(), LEAVE_SECONDS)
    except TimeoutError:
        os.killpg(child.pid, signal.SIGKILL)
        await child.wait()


async def answer_lines(subject: Subject) -> None:
    """The other side: until the standard input ends."""
    log = StepLog(Path(os.environ[LOG_VARIABLE]))
    sys.stdout.write(READY + "\n")
    sys.stdout.flush()
    while workload := (await asyncio.to_thread(sys.stdin.readline)).strip():
        figures = await measure(workload, subject, log)
        sys.stdout.write(json.dumps(figures) + "\n")
        sys.stdout.flush()

"""Keeping a real child process running, and seeing to it that it never outlives its supervisor."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable
from pathlib import Path
from typing import Protocol

import pytest
from tests.processes import is_alive
from tests.waiting import until

from penstock.dev.child_log import ChildLog
from penstock.dev.restarts import MAX_QUICK_ENDS, Restarts
from penstock.dev.supervisor import Child

PATIENT = """
import signal, sys
print("up", flush=True)
while True:
    signal.pause()
"""
STUBBORN = f"import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n{PATIENT}"
BROKEN = "print('{}')\nprint('the setting is wrong')\nraise SystemExit(3)\n"
SUPERVISOR = """
import asyncio, os, sys
from pathlib import Path
from penstock.dev.child_log import ChildLog
from penstock.dev.supervisor import Child

async def main():
    log = ChildLog(Path(sys.argv[1]))
    child = Child("child", ["patient"], environment=os.environ, log=log, inherited=log.open(), say=print)
    await child.start()
    print(child.pid, flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


class Make(Protocol):
    def __call__(self, source: str, *, may_leave: bool = False) -> Awaitable[Child]: ...


@pytest.fixture
async def make_child(tmp_path: Path) -> AsyncIterator[Make]:
    children: list[Child] = []
    log = ChildLog(tmp_path / "child.log")
    inherited = log.open()

    async def make(source: str, *, may_leave: bool = False) -> Child:
        (tmp_path / "penstock_test_child.py").write_text(source)
        child = Child(
            "child",
            ["penstock_test_child"],
            environment={**os.environ, "PYTHONPATH": str(tmp_path)},
            log=log,
            inherited=inherited,
            say=lambda _line: None,
            restarts=Restarts(first_backoff=0.01),
            may_leave=may_leave,
        )
        children.append(child)
        await child.start()
        return child

    yield make
    for child in children:
        await child.stop(0)
    os.close(inherited)


async def is_up(child: Child) -> None:
    async def said() -> bool:
        return "up" in child.log.last_lines(1)

    await until(said)


async def test_child_that_is_killed_is_started_again(make_child: Make) -> None:
    child = await make_child(PATIENT)
    await is_up(child)
    first = child.pid
    os.kill(first, signal.SIGKILL)

    async def runs_again() -> bool:
        return child.pid not in (0, first)

    await until(runs_again)
    assert child.restarts == 1


async def test_child_that_ends_again_and_again_is_given_up_with_its_last_words(make_child: Make) -> None:
    child = await make_child(BROKEN)
    failure = await asyncio.wait_for(child.failure, 60)
    assert "exit code 3" in str(failure)
    assert "the setting is wrong" in child.last_words()
    assert "{}" not in child.last_words()
    assert child.restarts == MAX_QUICK_ENDS
    assert child.pid == 0


async def test_child_that_leaves_is_started_again_only_when_it_is_asked_to(make_child: Make) -> None:
    child = await make_child("print('up', flush=True)\n", may_leave=True)
    assert await asyncio.wait_for(child.ended(), 60) == 0

    async def is_let_go() -> bool:
        return not child.is_kept

    await until(is_let_go)
    assert (child.pid, child.restarts, child.failure.done()) == (0, 0, False)
    await child.start()
    assert child.is_kept


async def test_child_that_crashes_has_not_left(make_child: Make) -> None:
    child = await make_child(BROKEN, may_leave=True)
    assert "exit code 3" in str(await asyncio.wait_for(child.failure, 60))


async def test_stop_asks_first(make_child: Make) -> None:
    child = await make_child(PATIENT)
    await is_up(child)
    assert await child.stop(patience=10)
    assert child.pid == 0


async def test_child_that_does_not_listen_is_killed(make_child: Make) -> None:
    child = await make_child(STUBBORN)
    await is_up(child)
    assert not await child.stop(patience=0.05)
    assert child.pid == 0


async def test_hurry_cuts_patience_short(make_child: Make) -> None:
    child = await make_child(STUBBORN)
    await is_up(child)
    hurry = asyncio.Event()
    stopping = asyncio.create_task(child.stop(patience=600, hurry=hurry))
    hurry.set()
    assert not await asyncio.wait_for(stopping, 60)
    assert child.pid == 0


async def test_stopped_child_can_be_started_again(make_child: Make) -> None:
    child = await make_child(PATIENT)
    await is_up(child)
    await child.stop(patience=10)
    await child.start()
    assert child.pid
    assert child.restarts == 0


async def test_child_ends_when_its_supervisor_is_killed(tmp_path: Path) -> None:
    (tmp_path / "patient.py").write_text(PATIENT)
    supervisor = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        SUPERVISOR,
        str(tmp_path / "child.log"),
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
    )
    assert supervisor.stdout is not None
    pid = int(await supervisor.stdout.readline())
    supervisor.kill()
    await supervisor.wait()

    async def is_gone() -> bool:
        return not is_alive(pid)

    await until(is_gone)

"""What is seen of the memory of processes, and of the kernel's kills."""

from __future__ import annotations

import asyncio
import os
import sys
from asyncio.subprocess import PIPE
from pathlib import Path

from tests.waiting import until

from penstock_agent.resources.memory import KernelKills, Watched, held


def counts(path: Path, kills: int) -> Path:
    path.write_text(f"pgfault 12\noom_kill {kills}\n")
    return path


def test_a_kill_is_a_late_one_until_the_second_look_after_it(tmp_path: Path) -> None:
    file = counts(tmp_path / "vmstat", 4)
    kills = KernelKills(file)
    assert not kills.lately()
    counts(file, 5)
    assert kills.lately()
    kills.note()
    assert kills.lately()
    kills.note()
    assert not kills.lately()


def test_a_kernel_that_does_not_count_kills_tells_of_none(tmp_path: Path) -> None:
    kills = KernelKills(tmp_path / "none")
    kills.note()
    assert not kills.lately()


def test_a_tree_is_its_processes_and_one_that_is_gone_holds_nothing() -> None:
    own = os.getpid()
    whole, below, gone = held(
        [Watched(own, 0, with_root=True), Watched(own, 0, with_root=False), Watched(2**22 + 1, 0, with_root=True)]
    )
    assert whole > 8 << 20
    assert below < whole
    assert gone == 0


STARTS = """
import os, sys

child = os.fork()
if not child:
    sys.stdin.readline()
    os.execvp("cat", ["cat"])
print(child, flush=True)
os.waitpid(child, 0)
"""


async def test_what_is_about_to_be_started_does_not_hold_what_its_starter_holds() -> None:
    """Between fork and exec it is a copy of it, or has its memory. A busy machine may leave it there for a while."""
    starter = await asyncio.create_subprocess_exec(sys.executable, "-c", STARTS, stdin=PIPE, stdout=PIPE)
    assert starter.stdin is not None
    assert starter.stdout is not None
    assert await starter.stdout.readline()
    watched = Watched(starter.pid, 1, with_root=False)
    assert held([watched]) == [0]
    starter.stdin.write(b"go\n")

    async def is_started() -> int:
        return held([watched])[0]

    assert 0 < await until(is_started) < 8 << 20
    starter.stdin.close()
    assert await starter.wait() == 0

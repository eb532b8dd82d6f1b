"""What is seen of the memory of processes, and of the kernel's kills."""

from __future__ import annotations

import os
from pathlib import Path

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

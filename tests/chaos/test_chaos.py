"""Two minutes of `make chaos` and half a minute of `make chaos-ha` with members, with fewer runs in flight; more rounds
of them on a machine that is slower."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

MINUTES, RUNS = 2, 300


def played(keep: Path, *amounts: str) -> dict[str, Any]:
    """The last line of what it says, as it is read by others."""
    ended = subprocess.run(
        [sys.executable, "-m", "tests.chaos", *amounts, "--keep", str(keep)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=880,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout
    result: dict[str, Any] = json.loads(ended.stdout.strip().splitlines()[-1])
    assert result["problems"] == 0
    assert result["doubles"] == sum(result["doubles_by_fault"].values())
    return result


@pytest.mark.timeout(900)
def test_two_minutes_of_chaos(tmp_path: Path) -> None:
    amounts = ["--minutes", str(MINUTES), "--least-rounds", "2", "--runs", str(RUNS), "--round", "25"]
    result = played(tmp_path / "kept", *amounts, "--least-hard", "5")
    assert result["rounds"] >= 2
    assert result["runs_accepted"] == result["runs_completed"] + result["runs_given_up"] >= 2 * RUNS


@pytest.mark.timeout(900)
def test_several_coordinators_are_killed_cut_off_and_frozen(tmp_path: Path) -> None:
    """A head and its members, however long a busy machine takes for it."""
    amounts = ["--coordinators", "3", "--members", "--any-time", "--runs", "60", "--round", "25", "--every", "4"]
    result = played(tmp_path / "kept", *amounts, "--faults", "3", "--least-steps", "20", "--rest", "300")
    assert result["take_overs"]["of_coordinators"] >= 3
    assert result["runs_accepted"] == result["runs_completed"] + result["runs_given_up"] >= 60

"""Two minutes of `make chaos`, with fewer runs in flight, and two rounds of it on a machine that is slower."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

MINUTES, RUNS = 2, 300


@pytest.mark.timeout(900)
def test_two_minutes_of_chaos(tmp_path: Path) -> None:
    keep = tmp_path / "kept"
    amounts = ["--minutes", str(MINUTES), "--least-rounds", "2", "--runs", str(RUNS), "--round", "25"]
    amounts += ["--least-hard", "5"]
    played = subprocess.run(
        [sys.executable, "-m", "tests.chaos", *amounts, "--keep", str(keep)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=880,
        check=False,
    )
    assert played.returncode == 0, played.stdout
    result = json.loads(played.stdout.strip().splitlines()[-1])
    assert result["problems"] == 0
    assert result["rounds"] >= 2
    assert result["runs_accepted"] == result["runs_completed"] + result["runs_given_up"] >= 2 * RUNS
    assert result["doubles"] == sum(result["doubles_by_fault"].values())

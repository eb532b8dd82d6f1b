"""`penstock dev` whose output nobody takes: what it keeps running does not hang on that."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from penstock.dev.cluster import DevCluster

PROGRAM = """
import sys
from penstock.dev import command
for number in range(3):
    command._say(f"agent-1 was ended by SIGKILL; it is started again, {number}")
sys.stderr.write("goes on")
"""


def test_what_cannot_be_written_ends_nothing() -> None:
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run([sys.executable, "-c", PROGRAM], stdout=full, stderr=subprocess.PIPE, check=False)
    assert (done.returncode, done.stderr) == (0, b"goes on")


def test_a_state_that_cannot_be_written_ends_nobody_who_tells_of_a_restart(tmp_path: Path) -> None:
    heard: list[str] = []
    cluster = DevCluster(tmp_path / "gone", say=heard.append)
    cluster._started, cluster._postgres._password = True, "as if it ran"
    cluster._heard("agent-1 runs again")
    assert heard == ["agent-1 runs again"]

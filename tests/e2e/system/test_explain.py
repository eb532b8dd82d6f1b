"""A person asks why, and is told."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from tests.e2e.system.conftest import DevSystem

FILE = """
name: explained
parameters: {n: {type: int, default: 1}}
steps:
  far: {command: "true", queue: elsewhere}
  maybe: {command: "true", when: params.n > 3}
  after: {command: "true", depends_on: [far, maybe]}
"""


def test_the_command_line_tells_in_sentences(system: DevSystem, tmp_path: Path) -> None:
    path = tmp_path / "explained.yaml"
    path.write_text(FILE)
    started = system.penstock("run", str(path), "--detach", "--json")
    run_id = json.loads(started.stdout.splitlines()[-1])["id"]
    try:
        listed = json.loads(system.penstock("list", "--json", "--limit", "1").stdout)
        counts = {state: count for state, count in listed["stepCounts"].items() if count != "0"}
        assert (listed["id"], counts) == (run_id, {"ready": "1", "skipped": "1", "pending": "1"})
        said = system.penstock("explain", run_id)
        assert said.returncode == 0, said.stderr
        assert "far is READY." in said.stdout
        assert 'do not serve the queue "elsewhere"' in said.stdout
        assert 'It needs an agent that serves the queue "elsewhere".' in said.stdout
        assert 'It waits for "far", which is READY.' in said.stdout
        maybe = system.penstock("explain", run_id, "maybe").stdout
        assert "Its condition was false: params.n > 3 (params.n is 1)." in maybe

        programs = json.loads(system.penstock("explain", run_id, "far", "--json").stdout)
        assert programs["steps"][0]["reasons"][0]["kind"] == "NoAgent"
        assert programs["steps"][0]["reasons"][0]["details"]["queue"] == "elsewhere"

        wrong = system.penstock("explain", run_id, "fra")
        assert (wrong.returncode, "far" in wrong.stderr) == (2, True)
    finally:
        system.penstock("cancel", run_id, "--now")
    system.penstock("watch", run_id)
    assert "The run is CANCELLED" in system.penstock("explain", run_id).stdout


def test_a_run_can_be_looked_at_as_it_was(system: DevSystem, tmp_path: Path) -> None:
    path = tmp_path / "past.yaml"
    path.write_text("name: past\nsteps:\n  a: {command: 'true'}\n  b: {command: 'true', depends_on: [a]}\n")
    run_id = json.loads(system.penstock("run", str(path), "--json").stdout.splitlines()[-1])["id"]
    then = json.loads(system.penstock("get", run_id, "--at", "1", "--json").stdout)
    assert [step["state"] for step in then["stepRuns"]] == ["STEP_RUN_STATE_PENDING"] * 2
    now = json.loads(system.penstock("get", run_id, "--json").stdout)
    assert [step["state"] for step in now["stepRuns"]] == ["STEP_RUN_STATE_COMPLETED"] * 2
    late = system.penstock("get", run_id, "--at", "999")
    assert (late.returncode, "newest event is number" in late.stderr) == (1, True)

"""What a person sees of failures and waits, on a whole system, from the command line alone."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

from tests.e2e.system.conftest import until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.e2e.system.conftest import DevSystem

FLAKY = """
name: shown-flaky
steps:
  flaky:
    command: 'echo first >&2; echo "oops $PENSTOCK_ATTEMPT" >&2; [ "$PENSTOCK_ATTEMPT" -gt 1 ]'
    retry: {max_attempts: 2, initial_backoff: 10ms}
  after: {command: 'echo fine', depends_on: [flaky]}
"""
BELOW = """
name: shown-below
steps:
  breaks: {command: 'echo "it is broken" >&2; exit 3'}
"""
ABOVE = """
name: shown-above
steps:
  below: {pipeline: shown-below}
"""
NOWHERE = """
name: shown-nowhere
steps:
  far: {command: 'true', queue: shown-elsewhere}
"""
GATED = """
name: shown-gated
steps:
  list: {{command: {{shell: 'echo "[0, 1, 2]"', outputs: {{all: {{stdout: true, format: json}}}}}}}}
  parts:
    command: |
      if [ $PENSTOCK_INPUT_N = 1 ]; then
        [ -e {gate} ] || {{ echo closed >&2; exit 4; }}
        until [ -e {gate}.wide ]; do sleep 0.02; done
      fi
    map: "${{steps.list.output.all}}"
    inputs: {{n: "${{item}}"}}
"""


def write(folder: Path, text: str) -> str:
    path = folder / "shown.yaml"
    path.write_text(text)
    return str(path)


def test_a_command_that_is_retried_says_why_in_each_of_its_attempts(system: DevSystem, tmp_path: Path) -> None:
    said = system.penstock("run", write(tmp_path, FLAKY))
    assert said.returncode == 0, said.stderr
    assert "flaky WAITING (ExitCode: the command ended with exit code 1: oops 1, until" in said.stdout
    run_id = said.stdout.split()[1]
    step = system.penstock("get", run_id, "flaky").stdout
    assert "ExitCode: the command ended with exit code 1: oops 1\n" in step
    assert "attempt 1:\nExitCode:" in step
    assert step.endswith("its last lines on standard error:\nfirst\noops 1\n")
    logs = system.penstock("logs", run_id, "--follow").stderr
    assert "flaky | oops 1\n" in logs
    assert "flaky (attempt 2) | oops 2\n" in logs


def test_a_failure_in_a_run_below_is_pointed_to_there(system: DevSystem, tmp_path: Path) -> None:
    assert system.penstock("apply", write(tmp_path, BELOW)).returncode == 0
    said = system.penstock("run", write(tmp_path, ABOVE))
    assert said.returncode == 1
    found = re.search(r"What failed, with its traceback: penstock get (\S+) breaks$", said.stderr, re.MULTILINE)
    assert found, said.stderr
    child, parent = found[1], said.stdout.split()[1]
    assert "exit code 3: it is broken" in system.penstock("get", child, "breaks").stdout
    assert child in system.penstock("get", parent).stdout
    assert f"below is a run of shown-below: penstock logs {child}" in system.penstock("logs", parent).stderr


def test_a_step_that_nobody_can_run_says_so(system: DevSystem, tmp_path: Path) -> None:
    assert system.penstock("apply", write(tmp_path, NOWHERE)).returncode == 0
    with system.client() as client:
        run_id = client.start("shown-nowhere").id
        until(
            lambda: 'it needs one that serves the queue "shown-elsewhere"' in system.penstock("get", run_id).stdout,
            60.0,
        )
        client.cancel(run_id)
        client.wait(run_id, 60.0)


def test_a_failure_is_shown_as_it_was_after_the_run_was_retried(system: DevSystem, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    said = system.penstock("run", write(tmp_path, GATED.format(gate=gate)), "--json")
    run_id = json.loads(said.stdout.splitlines()[-1])["id"]
    # Any of the three may be the first that ends, so what is looked at is the end of all of them.
    failed = max(int(event["number"]) for event in map(json.loads, said.stdout.splitlines()) if "number" in event)
    gate.touch()
    again = system.penstock("retry", run_id)
    assert "generation 2: 1 step runs again, 3 step runs stay COMPLETED" in again.stdout
    gate.with_name("gate.wide").touch()
    assert system.penstock("watch", run_id).returncode == 0
    then = system.penstock("get", run_id, "parts[1]", "--at", str(failed)).stdout
    assert "state      FAILED" in then
    assert "failure    ExitCode: the command ended with exit code 4: closed" in then
    lines = system.penstock("get", run_id, "--at", str(failed)).stdout.splitlines()
    row = next(line for line in lines if line.split()[:1] == ["parts"])
    assert "2 completed, 1 failed" in row
    now = system.penstock("get", run_id, "parts", "--items", "--state", "failed").stdout
    assert len(now.splitlines()) == 1


def test_a_drained_agent_of_dev_stays_away(own_system: Callable[..., DevSystem]) -> None:
    system = own_system("--agents", "2")
    assert system.penstock("agents", "drain", "agent-2").returncode == 0
    until(lambda: any("agent-2 was drained and stays away" in line for line in system.said), 60.0)
    until(lambda: "CONNECTED" not in system.penstock("agents", "get", "agent-2").stdout.splitlines()[1], 60.0)
    until(lambda: "agent-2" not in system.state["pids"], 60.0)
    assert "CONNECTED" in system.penstock("agents", "get", "agent-1").stdout.splitlines()[1]

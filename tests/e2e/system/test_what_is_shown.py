"""What a person sees of failures and waits, on a whole system, from the command line alone."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from tests.e2e.system.conftest import until

if TYPE_CHECKING:
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
    logs = system.penstock("logs", run_id).stderr
    assert "flaky | oops 1\n" in logs
    assert "flaky (attempt 2) | oops 2\n" in logs


def test_a_failure_in_a_run_below_is_pointed_to_there(system: DevSystem, tmp_path: Path) -> None:
    assert system.penstock("apply", write(tmp_path, BELOW)).returncode == 0
    said = system.penstock("run", write(tmp_path, ABOVE))
    assert said.returncode == 1
    found = re.search(r"What failed, with its traceback: penstock get (\S+) breaks$", said.stderr.strip())
    assert found, said.stderr
    child, parent = found[1], said.stdout.split()[1]
    assert "exit code 3: it is broken" in system.penstock("get", child, "breaks").stdout
    assert child in system.penstock("get", parent).stdout
    assert f"below is a run of shown-below: penstock logs {child}" in system.penstock("logs", parent).stderr


def test_a_step_that_nobody_can_run_says_so(system: DevSystem, tmp_path: Path) -> None:
    assert system.penstock("apply", write(tmp_path, NOWHERE)).returncode == 0
    with system.client() as client:
        run_id = client.start("shown-nowhere").id
        until(lambda: 'does not serve the queue "shown-elsewhere"' in system.penstock("get", run_id).stdout, 30.0)
        client.cancel(run_id)
        client.wait(run_id, 30.0)

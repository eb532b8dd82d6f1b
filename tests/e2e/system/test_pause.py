"""A run is held and let go, as people do it, also while the coordinator dies."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from tests.e2e.system.conftest import DevSystem, until

if TYPE_CHECKING:
    from pathlib import Path

FILE = """
name: held
parameters: {{n: {{type: int, default: 3}}}}
steps:
  first: {{command: 'echo first >> {ledger}; until [ -e {gate} ]; do sleep 0.05; done; echo done >> {ledger}'}}
  second: {{command: 'echo second >> {ledger}', depends_on: [first]}}
"""


def start(system: DevSystem, folder: Path) -> tuple[str, Path, Path]:
    """A run whose first step has begun, its ledger, and the file that lets the step end."""
    ledger, gate = folder / "ledger", folder / "gate"
    path = folder / "held.yaml"
    path.write_text(FILE.format(ledger=ledger, gate=gate))
    said = system.penstock("run", str(path), "--detach", "--json")
    until(ledger.exists, 60.0)
    return str(json.loads(said.stdout.splitlines()[-1])["id"]), ledger, gate


def shown(system: DevSystem, run_id: str) -> tuple[dict[str, Any], dict[str, str]]:
    """Nothing while the coordinator is away."""
    said = system.penstock("get", run_id, "--json")
    if said.returncode:
        return {}, {}
    found = json.loads(said.stdout)
    return found["run"], {step["step"]: step["state"].removeprefix("STEP_RUN_STATE_") for step in found["stepRuns"]}


def test_what_runs_goes_on_and_nothing_else_starts(system: DevSystem, tmp_path: Path) -> None:
    run_id, ledger, gate = start(system, tmp_path)
    assert system.penstock("pause", run_id, "--reason", "dinner").returncode == 0
    assert system.penstock("pause", run_id).returncode == 0
    gate.touch()
    until(lambda: shown(system, run_id)[1].get("second") == "READY", 60.0)
    run, states = shown(system, run_id)
    assert (run["state"], run["pause"]["reason"]) == ("RUN_STATE_PAUSED", "dinner")
    assert "@" in run["pause"]["requestedBy"]
    assert states == {"first": "COMPLETED", "second": "READY"}
    assert ledger.read_text().split() == ["first", "done"]
    said = system.penstock("explain", run_id, "second").stdout
    assert "The run was paused by" in said
    assert "(dinner): nothing starts before it is resumed." in said

    assert system.penstock("resume", run_id).returncode == 0
    assert system.penstock("watch", run_id).returncode == 0
    assert ledger.read_text().split() == ["first", "done", "second"]
    late = system.penstock("pause", run_id)
    assert (late.returncode, "the run is COMPLETED: it is at rest" in late.stderr) == (1, True)
    late = system.penstock("resume", run_id)
    assert (late.returncode, "the run is COMPLETED: it is at rest" in late.stderr) == (1, True)


def test_a_pause_survives_the_coordinator(mortal_system: DevSystem, tmp_path: Path) -> None:
    run_id, ledger, gate = start(mortal_system, tmp_path)
    mortal_system.penstock("pause", run_id)
    mortal_system.kill("coordinator")
    gate.touch()
    until(lambda: shown(mortal_system, run_id)[1].get("second") == "READY", 60.0)
    assert shown(mortal_system, run_id)[0]["state"] == "RUN_STATE_PAUSED"
    assert mortal_system.penstock("resume", run_id).returncode == 0
    assert mortal_system.penstock("watch", run_id).returncode == 0
    assert ledger.read_text().split() == ["first", "done", "second"]


def test_a_paused_run_can_be_cancelled(system: DevSystem, tmp_path: Path) -> None:
    run_id, _, _ = start(system, tmp_path)
    system.penstock("pause", run_id)
    assert system.penstock("cancel", run_id, "--now").returncode == 0
    system.penstock("watch", run_id)
    run, states = shown(system, run_id)
    assert (run["state"], set(states.values())) == ("RUN_STATE_CANCELLED", {"CANCELLED"})


def test_a_repeated_call_is_answered_as_the_first_one(system: DevSystem, tmp_path: Path) -> None:
    """Also when the run has ended since."""
    run_id, _, gate = start(system, tmp_path)
    with system.client() as client:
        client.pause(run_id, request_id=f"pause-{run_id}")
        client.resume(run_id, request_id=f"resume-{run_id}")
        gate.touch()
        ended = client.wait(run_id)
        assert client.pause(run_id, request_id=f"pause-{run_id}").state == ended.state
        assert client.resume(run_id, request_id=f"resume-{run_id}").state == ended.state

"""A run fails, its author mends the code, and the run goes on with the new version: what is done stays done."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from tests.e2e.system.conftest import DevSystem, until

if TYPE_CHECKING:
    from pathlib import Path

FLOW = """
import time
from pathlib import Path

from penstock import pipeline, step


def note(ledger: str, line: str) -> None:
    with Path(ledger).open("a") as file:
        file.write(line + "\\n")


@step
def one(ledger: str) -> int:
    note(ledger, "one")
    return {one}


@step
def two(before: int, ledger: str) -> int:
    note(ledger, "two")
    return before + {two}


@step
def three(before: int, ledger: str) -> int:
    note(ledger, "three")
    {three}


@step
def four(before: int, ledger: str) -> int:
    note(ledger, f"four of {{before}}")
    return before + 1


@step
def five(before: int, ledger: str) -> int:
    note(ledger, f"five of {{before}}")
    return before + 1


@pipeline
def mended(ledger: str{parameters}) -> int:
    return five(four(three(two(one(ledger), ledger), ledger), ledger), ledger)
"""
BROKEN = "raise ValueError(before)"
MENDED = "return before + 100"


def write(folder: Path, three: str, *, one: int = 1, two: int = 1, parameters: str = "") -> str:
    path = folder / "flow.py"
    path.write_text(FLOW.format(one=one, two=two, three=three, parameters=parameters))
    return str(path)


def ledger(folder: Path) -> list[str]:
    return (folder / "ledger").read_text().splitlines()


def failed(system: DevSystem, folder: Path) -> str:
    """A run whose third step failed."""
    said = system.penstock("run", write(folder, BROKEN), "-p", f"ledger={folder}/ledger", "--detach", "--json")
    assert said.returncode == 0, said.stderr
    run_id = str(json.loads(said.stdout.splitlines()[-1])["id"])
    assert system.penstock("watch", run_id).returncode == 1
    assert ledger(folder) == ["one", "two", "three"]
    return run_id


def shown(system: DevSystem, run_id: str, *more: str) -> dict[str, Any]:
    """Nothing while the coordinator is away."""
    said = system.penstock("get", run_id, "--json", *more)
    found: dict[str, Any] = {} if said.returncode else json.loads(said.stdout)
    return found


def test_what_did_not_change_does_not_run_again(system: DevSystem, tmp_path: Path) -> None:
    run_id = failed(system, tmp_path)
    before = shown(system, run_id)["run"]
    assert system.penstock("apply", write(tmp_path, MENDED)).returncode == 0
    said = system.penstock("retry", run_id, "--newest-version", "--reason", "mended")
    assert said.returncode == 0, said.stderr
    version = int(before["versionNumber"]) + 1
    assert f"generation 2: 3 steps run again, 2 steps stay COMPLETED, with version {version}" in said.stdout
    assert system.penstock("watch", run_id).returncode == 0
    assert ledger(tmp_path)[3:] == ["three", "four of 102", "five of 103"]
    found = shown(system, run_id)
    assert found["run"]["state"] == "RUN_STATE_COMPLETED"
    assert {step["state"] for step in found["stepRuns"]} == {"STEP_RUN_STATE_COMPLETED"}
    again = system.penstock("retry", run_id, "--newest-version")
    assert (again.returncode, "nothing in it failed" in again.stderr) == (1, True)


def test_all_that_comes_after_a_change_runs_again(system: DevSystem, tmp_path: Path) -> None:
    run_id = failed(system, tmp_path)
    assert system.penstock("apply", write(tmp_path, MENDED, two=10)).returncode == 0
    said = system.penstock("retry", run_id, "--newest-version")
    assert "4 steps run again, 1 step stays COMPLETED" in said.stdout
    assert system.penstock("watch", run_id).returncode == 0
    assert ledger(tmp_path)[3:] == ["two", "three", "four of 111", "five of 112"]


def test_the_new_version_survives_the_coordinator(mortal_system: DevSystem, tmp_path: Path) -> None:
    run_id = failed(mortal_system, tmp_path)
    wait = f"while not Path({str(tmp_path / 'gate')!r}).exists():\n        time.sleep(0.05)\n    {MENDED}"
    assert mortal_system.penstock("apply", write(tmp_path, wait)).returncode == 0
    assert mortal_system.penstock("retry", run_id, "--newest-version").returncode == 0
    mortal_system.kill("coordinator")
    (tmp_path / "gate").touch()
    until(lambda: shown(mortal_system, run_id).get("run", {}).get("state") == "RUN_STATE_COMPLETED", 60.0)
    assert ledger(tmp_path).count("one") == ledger(tmp_path).count("two") == 1
    assert ledger(tmp_path)[-2:] == ["four of 102", "five of 103"]
    mortal_system.kill("coordinator")
    until(lambda: bool(shown(mortal_system, run_id)), 60.0)
    assert shown(mortal_system, run_id)["run"]["generation"] == 2
    with mortal_system.client() as client:
        assert client.result(run_id, "five") == 104


def test_parameters_that_no_longer_fit_are_named(system: DevSystem, tmp_path: Path) -> None:
    run_id = failed(system, tmp_path)
    assert system.penstock("apply", write(tmp_path, MENDED, parameters=", day: str")).returncode == 0
    said = system.penstock("retry", run_id, "--newest-version")
    assert (said.returncode, "parameters.day: it is missing" in said.stderr) == (1, True)
    assert system.penstock("apply", write(tmp_path, MENDED, parameters=", day: str = 'monday'")).returncode == 0
    assert system.penstock("retry", run_id, "--newest-version").returncode == 0
    assert system.penstock("watch", run_id).returncode == 0
    assert ledger(tmp_path)[3:] == ["three", "four of 102", "five of 103"]
    assert shown(system, run_id)["run"]["parameters"]["day"] == "monday"
    assert system.penstock("retry", run_id, "--newest-version", "--version", "1").returncode == 2


def test_many_runs_go_on_with_the_newest_version(system: DevSystem, tmp_path: Path) -> None:
    folders = [tmp_path / name for name in "ab"]
    for folder in folders:
        folder.mkdir()
    runs = [failed(system, folder) for folder in folders]
    assert system.penstock("apply", write(tmp_path, MENDED)).returncode == 0
    chosen = ("--pipeline", "mended", "--state", "failed")
    said = system.penstock("bulk", "retry", *chosen, "--newest-version", "--yes", "--wait")
    assert said.returncode == 0, said.stderr
    for run_id, folder in zip(runs, folders, strict=True):
        assert system.penstock("watch", run_id).returncode == 0
        assert ledger(folder) == ["one", "two", "three", "three", "four of 102", "five of 103"]

"""New generations of runs as people open them: what is done stays done, and the rest runs again."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from tests.e2e.system.conftest import DevSystem, until

if TYPE_CHECKING:
    from pathlib import Path

FILE = """
name: again
steps:
  first: {{command: 'echo first >> {folder}/ledger; echo out of first'}}
  second: {{command: 'echo second >> {folder}/ledger; echo out of second; [ -e {folder}/mended ]', depends_on: [first]}}
  third: {{command: 'echo third >> {folder}/ledger', depends_on: [second]}}
  tidy: {{command: 'echo tidy >> {folder}/ledger', cleanup: true}}
"""


def failed(system: DevSystem, folder: Path) -> str:
    """A run whose second step failed."""
    path = folder / "again.yaml"
    path.write_text(FILE.format(folder=folder))
    said = system.penstock("run", str(path), "--detach", "--json")
    run_id = str(json.loads(said.stdout.splitlines()[-1])["id"])
    assert system.penstock("watch", run_id).returncode == 1
    assert ledger(folder) == ["first", "second", "tidy"]
    return run_id


def ledger(folder: Path) -> list[str]:
    return (folder / "ledger").read_text().split()


def shown(system: DevSystem, run_id: str) -> tuple[dict[str, Any], dict[str, str]]:
    """Nothing while the coordinator is away."""
    said = system.penstock("get", run_id, "--json")
    if said.returncode:
        return {}, {}
    found = json.loads(said.stdout)
    return found["run"], {step["step"]: step["state"].removeprefix("STEP_RUN_STATE_") for step in found["stepRuns"]}


def attempts(system: DevSystem, run_id: str, step: str) -> list[tuple[int, str]]:
    found = json.loads(system.penstock("get", run_id, step, "--json").stdout)
    return [(each["number"], each["outcome"].removeprefix("ATTEMPT_OUTCOME_")) for each in found["attempts"]]


def test_a_retry_keeps_what_is_done(system: DevSystem, tmp_path: Path) -> None:
    run_id = failed(system, tmp_path)
    (tmp_path / "mended").touch()
    said = system.penstock("retry", run_id, "--reason", "mended")
    assert said.returncode == 0
    assert "generation 2: 3 steps run again, 1 step stays COMPLETED" in said.stdout
    assert system.penstock("watch", run_id).returncode == 0
    assert ledger(tmp_path) == ["first", "second", "tidy", "second", "third", "tidy"]
    run, states = shown(system, run_id)
    assert (run["state"], run["generation"], set(states.values())) == ("RUN_STATE_COMPLETED", 2, {"COMPLETED"})
    assert attempts(system, run_id, "first") == [(1, "COMPLETED")]
    assert attempts(system, run_id, "second") == [(1, "FAILED"), (2, "COMPLETED")]
    assert system.penstock("logs", run_id, "second", "--follow").stdout.count("out of second") == 2
    late = system.penstock("retry", run_id)
    assert (late.returncode, "nothing in it failed or was cancelled" in late.stderr) == (1, True)


def test_of_two_retries_at_once_one_wins(system: DevSystem, tmp_path: Path) -> None:
    run_id = failed(system, tmp_path)
    with ThreadPoolExecutor(2) as pool:
        said = list(pool.map(lambda _: system.penstock("retry", run_id), range(2)))
    # The second one is refused, unless the first generation was at rest again before it came.
    assert 0 in {each.returncode for each in said}
    system.penstock("watch", run_id)
    generations = 1 + sum(each.returncode == 0 for each in said)
    assert shown(system, run_id)[0]["generation"] == generations
    assert ledger(tmp_path).count("second") == generations
    assert ledger(tmp_path).count("first") == 1


def test_a_retry_survives_the_coordinator(mortal_system: DevSystem, tmp_path: Path) -> None:
    run_id = failed(mortal_system, tmp_path)
    (tmp_path / "mended").touch()
    assert mortal_system.penstock("retry", run_id).returncode == 0
    mortal_system.kill("coordinator")
    until(lambda: shown(mortal_system, run_id)[0].get("state") == "RUN_STATE_COMPLETED", 60.0)
    assert shown(mortal_system, run_id)[0]["generation"] == 2
    assert ledger(tmp_path).count("first") == 1
    assert attempts(mortal_system, run_id, "second")[-1][1] == "COMPLETED"


def test_the_first_step_runs_again_with_all_that_comes_after_it(system: DevSystem, tmp_path: Path) -> None:
    (tmp_path / "mended").touch()
    path = tmp_path / "again.yaml"
    path.write_text(FILE.format(folder=tmp_path))
    said = system.penstock("run", str(path), "--json")
    assert said.returncode == 0
    with system.client() as client:
        (run,) = list(client.list_runs(pipeline="again", limit=1))
    assert system.penstock("rerun", run.id, "nowhere").returncode != 0
    assert "4 steps run again" in system.penstock("rerun", run.id, "first").stdout
    assert system.penstock("watch", run.id).returncode == 0
    assert ledger(tmp_path) == ["first", "second", "third", "tidy"] * 2
    assert attempts(system, run.id, "first") == [(1, "COMPLETED"), (2, "COMPLETED")]
    assert system.penstock("logs", run.id, "first", "--follow").stdout.count("out of first") == 2


def test_a_cancelled_run_is_retried(system: DevSystem, tmp_path: Path) -> None:
    path = tmp_path / "held.yaml"
    wait = f"echo started >> {tmp_path}/ledger; until [ -e {tmp_path}/gate ]; do sleep 0.05; done"
    path.write_text(json.dumps({"name": "held-again", "steps": {"a": {"command": wait}}}))
    said = system.penstock("run", str(path), "--detach", "--json")
    run_id = str(json.loads(said.stdout.splitlines()[-1])["id"])
    until((tmp_path / "ledger").exists, 60.0)
    early = system.penstock("retry", run_id)
    assert (early.returncode, "only a run at rest can be retried" in early.stderr) == (1, True)
    assert system.penstock("cancel", run_id, "--now").returncode == 0
    system.penstock("watch", run_id)
    (tmp_path / "gate").touch()
    assert system.penstock("retry", run_id).returncode == 0
    assert system.penstock("watch", run_id).returncode == 0
    assert ledger(tmp_path) == ["started", "started"]

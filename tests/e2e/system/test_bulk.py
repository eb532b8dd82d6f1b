"""Many runs are cancelled at once, as people do it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from tests.e2e.system.conftest import DevSystem

FILE = "name: crowd\nsteps:\n  far: {command: 'true', queue: elsewhere}\n"


def start(system: DevSystem, path: Path, label: str) -> str:
    said = system.penstock("run", str(path), "--detach", "--json", "--label", label).stdout
    return str(json.loads(said.splitlines()[-1])["id"])


def test_the_runs_of_a_label_are_cancelled_and_others_are_not(system: DevSystem, tmp_path: Path) -> None:
    path = tmp_path / "crowd.yaml"
    path.write_text(FILE)
    mine = [start(system, path, "team=mine") for _ in range(3)]
    other = start(system, path, "team=other")
    chosen = ("--pipeline", "crowd", "--label", "team=mine")

    assert system.penstock("bulk", "cancel", *chosen, "--dry-run").stdout == "3 runs would be asked to cancel\n"
    asked = system.penstock("bulk", "cancel", *chosen)
    assert (asked.returncode, "cancel 3 runs?" in asked.stderr, "add --yes" in asked.stderr) == (2, True, True)

    job = json.loads(system.penstock("bulk", "cancel", *chosen, "--now", "--yes", "--wait", "--json").stdout)
    assert (job["state"], job["seenCount"], job["doneCount"]) == ("BULK_JOB_STATE_COMPLETED", "3", "3")
    assert job["id"] in system.penstock("bulk", "list").stdout
    for run_id in mine:
        assert json.loads(system.penstock("get", run_id, "--json").stdout)["run"]["state"] == "RUN_STATE_CANCELLED"
    assert json.loads(system.penstock("get", other, "--json").stdout)["run"]["state"] == "RUN_STATE_PENDING"
    system.penstock("cancel", other, "--now")

    again = system.penstock("bulk", "cancel", *chosen, "--yes")
    assert (again.returncode, again.stdout) == (0, "There is no run to cancel.\n")
    nowhere = system.penstock("bulk", "retry", "--pipeline", "crwd", "--yes")
    assert (nowhere.returncode, "did you mean 'crowd'?" in nowhere.stderr) == (2, True)
    everything = system.penstock("bulk", "cancel", "--yes")
    assert (everything.returncode, "or take --all of them" in everything.stderr) == (2, True)
    late = system.penstock("bulk", "cancel", "--after", "soon")
    assert (late.returncode, "90m or 2d (ago)" in late.stderr) == (2, True)
    assert system.penstock("cancel", other).stdout == f"run {other} is already CANCELLED: nothing to cancel\n"
    wrong = system.penstock("bulk", "cancel", "--state", "COMPLETED", "--yes")
    assert (wrong.returncode, "RUN_STATE_COMPLETED cannot be cancelled" in wrong.stderr) == (2, True)
    unknown = system.penstock("bulk", "get", "00000000-0000-0000-0000-000000000000")
    assert (unknown.returncode, "there is no such job" in unknown.stderr) == (2, True)

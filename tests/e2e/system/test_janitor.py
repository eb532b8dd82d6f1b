"""What is old goes, on a real system: by hand, and by itself beside load and the death of the coordinator."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from tests.e2e.system.conftest import until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.e2e.system.conftest import DevSystem

FILE = "name: short\nsteps:\n  a: {command: 'echo hello'}\n"
SOON = {"PENSTOCK_RUN_RETENTION": "1s", "PENSTOCK_REQUEST_RETENTION": "1s"}
RUNS = 300
SECONDS = 200.0


def report(system: DevSystem, *arguments: str) -> dict[str, Any]:
    said = system.penstock("janitor", "run", "--json", *arguments)
    assert said.returncode == 0, said.stderr
    found: dict[str, Any] = json.loads(said.stdout)
    return found


def test_runs_are_removed_by_hand(own_system: Callable[..., DevSystem], tmp_path: Path) -> None:
    system = own_system(environment={**SOON, "PENSTOCK_JANITOR_INTERVAL": "0s"})
    path = tmp_path / "short.yaml"
    path.write_text(FILE)
    run_id = str(json.loads(system.penstock("run", str(path), "--json").stdout.splitlines()[-1])["id"])

    # What the step says may be stored after its end: it is to be counted both times.
    assert system.penstock("logs", run_id, "--follow").stdout == "a | hello\n"
    until(lambda: report(system, "--dry-run")["runs"] == "1", SECONDS)
    shown = system.penstock("janitor", "run", "--dry-run").stdout
    assert shown.splitlines()[0].split() == ["WHAT", "WOULD", "GO"]
    assert system.penstock("get", run_id).returncode == 0

    removed = system.penstock("janitor", "run").stdout
    assert removed.splitlines()[1:] == shown.splitlines()[1:]
    assert "chunks of logs" in removed
    for command in ("get", "logs", "explain", "watch", "retry"):
        answer = system.penstock(command, run_id)
        assert (answer.returncode, "the run was removed on " in answer.stderr) == (2, True), command
    assert run_id not in system.penstock("list").stdout
    assert report(system)["runs"] == "0"
    assert system.penstock("janitor", "run").stdout == "nothing was removed\n"


def test_nothing_accepted_is_lost_beside_it(own_system: Callable[..., DevSystem], tmp_path: Path) -> None:
    settings = {"PENSTOCK_JANITOR_INTERVAL": "1s", "PENSTOCK_JANITOR_BATCH": "20", "PENSTOCK_JANITOR_PAUSE": "1ms"}
    system = own_system("--agents", "2", environment={**SOON, **settings})
    ledger = tmp_path / "ledger"
    path = tmp_path / "short.yaml"
    step = f"a: {{command: 'echo $PENSTOCK_RUN_ID >> {ledger}'}}"
    path.write_text(f"name: short\nsteps:\n  {step}\n  b: {{command: 'true', depends_on: [a]}}\n")
    assert system.penstock("apply", str(path)).returncode == 0
    started: list[str] = []
    with system.client() as client:
        for part in range(3):
            handles = client.start_many("short", [{}] * (RUNS // 3))
            started += [handle.id for handle in handles]
            if part < 2:
                system.kill("coordinator")
        until(lambda: not list(client.list_runs(limit=1)), SECONDS)
    assert sorted(set(ledger.read_text().split())) == sorted(started)
    assert report(system)["runs"] == "0"

"""Budgets on a whole Penstock: what is over its budget holds or is stopped, and goes on when that is raised."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from tests.e2e.system.conftest import DevSystem, until

from penstock.v1 import run_pb2

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from penstock.client.sync import SyncClient

PATIENCE = 100.0
FILE = """
name: {name}
budget: {{slot_seconds: {limit}, per: {per}, on_exceeded: {on_exceeded}}}
steps:
  first: {{command: 'sleep {limit}.1; echo first >> {ledger}'}}
  second: {{command: 'echo second >> {ledger}', depends_on: [first]}}
  tidy: {{command: 'echo tidy >> {ledger}', cleanup: true}}
"""


def apply(
    system: DevSystem, folder: Path, name: str, *, per: str = "run", on_exceeded: str = "hold", limit: int = 1
) -> Path:
    """The pipeline, and what its steps write. The first step takes it beyond its budget of so many slot-seconds."""
    ledger, path = folder / "ledger", folder / f"{name}.yaml"
    path.write_text(FILE.format(name=name, per=per, on_exceeded=on_exceeded, ledger=ledger, limit=limit))
    said = system.penstock("apply", str(path))
    assert said.returncode == 0, said.stderr
    return ledger


def written(ledger: Path) -> list[str]:
    return ledger.read_text().split() if ledger.exists() else []


def held(client: SyncClient, run_id: str) -> bool:
    return bool(client.get_run(run_id).held_by_budget)


def state(client: SyncClient, run_id: str) -> str:
    return run_pb2.RunState.Name(client.get_run(run_id).state).removeprefix("RUN_STATE_")


def listed(system: DevSystem, run_id: str) -> dict[str, Any]:
    lines = system.penstock("list", "--json").stdout.splitlines()
    return next(run for run in map(json.loads, lines) if run["id"] == run_id)


def a_window_that_lasts() -> str:
    """Of a week and a month the one that ends later: the test does not see its end."""
    today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    week = today + timedelta(days=7 - today.weekday())
    month = (today.replace(day=1) + timedelta(days=32)).replace(day=1)
    return "week" if week > month else "month"


def test_a_run_over_its_budget_holds_and_goes_on_when_it_is_raised(mortal_system: DevSystem, tmp_path: Path) -> None:
    """Also if the coordinator dies in between."""
    ledger = apply(mortal_system, tmp_path, "holds")
    with mortal_system.client() as client:
        run = client.start("holds")
        until(lambda: held(client, run.id), PATIENCE)
        mortal_system.kill("coordinator")
        until(lambda: held(client, run.id), PATIENCE)
        assert written(ledger) == ["first"]
        assert state(client, run.id) == "RUNNING"
        use = client.get_budget(run.id).use
        assert (use.budget.slot_seconds, use.exceeded) == (1, "slot_seconds")
        costs = client.get_costs(run.id).costs.total
        assert abs(use.used_slot_seconds - costs.slot_time.ToTimedelta().total_seconds()) < 1e-5, "once each"
        assert "(budget)" in mortal_system.penstock("list").stdout
        assert "nothing more starts before the budget is raised" in listed(mortal_system, run.id)["heldByBudget"]
        assert "used up" in mortal_system.penstock("get", run.id).stdout
        why = mortal_system.penstock("explain", run.id, "second").stdout
        assert f"penstock budget raise {run.id} --slot-seconds MORE" in why

        lower = mortal_system.penstock("budget", "raise", run.id, "--slot-seconds", "0.5")
        assert (lower.returncode, "never lowered" in lower.stderr) == (1, True)
        other = mortal_system.penstock("budget", "raise", run.id, "--price", "5")
        assert "the budget has no limit on price" in other.stderr
        raised = mortal_system.penstock("budget", "raise", run.id, "--slot-seconds", "100", "--reason", "worth it")
        assert (raised.returncode, "of 100 slot-seconds" in raised.stdout) == (0, True), raised.stderr
        assert run_pb2.RunState.Name(run.wait(PATIENCE).state) == "RUN_STATE_COMPLETED"
        assert written(ledger) == ["first", "second", "tidy"]
        told = [event.type for event in run.watch()]
        assert told.count("CostBudgetExceeded") == told.count("CostBudgetRaised") == 1
        late = mortal_system.penstock("budget", "raise", run.id, "--slot-seconds", "200")
        assert (late.returncode, "at rest" in late.stderr) == (1, True)


def test_a_run_that_is_held_can_be_cancelled(system: DevSystem, tmp_path: Path) -> None:
    ledger = apply(system, tmp_path, "cancelled")
    with system.client() as client:
        run = client.start("cancelled")
        until(lambda: held(client, run.id), PATIENCE)
        assert system.penstock("cancel", run.id).returncode == 0
        assert run_pb2.RunState.Name(run.wait(PATIENCE).state) == "RUN_STATE_CANCELLED"
        assert written(ledger) == ["first", "tidy"], "cleanup steps are not held"


def test_a_run_over_its_budget_is_stopped(system: DevSystem, tmp_path: Path) -> None:
    # So much that the other two steps do not use it up, on the slowest machine.
    ledger = apply(system, tmp_path, "stops", on_exceeded="stop", limit=3)
    with system.client() as client:
        run = client.start("stops")
        ended = run.wait(PATIENCE)
        assert run_pb2.RunState.Name(ended.state) == "RUN_STATE_FAILED"
        told = re.match(r"budget: its attempts have used (\d+(?:\.\d+)?) of 3 slot-seconds", ended.reason)
        assert told, ended.reason
        assert 3.1 <= float(told[1]) <= client.get_costs(run.id).costs.total.slot_time.ToTimedelta().total_seconds()
        assert written(ledger) == ["first", "tidy"]
        # A new generation has all of it again, and what is COMPLETED stays.
        assert system.penstock("retry", run.id).returncode == 0
        assert run_pb2.RunState.Name(run.wait(PATIENCE).state) == "RUN_STATE_COMPLETED"
        assert written(ledger) == ["first", "tidy", "second", "tidy"]


def test_runs_wait_while_nothing_is_left_of_the_pipelines_budget(mortal_system: DevSystem, tmp_path: Path) -> None:
    """Those that are under way go on."""
    ledger = apply(mortal_system, tmp_path, "shared", per=a_window_that_lasts())
    with mortal_system.client() as client:
        first = client.start("shared")
        assert run_pb2.RunState.Name(first.wait(PATIENCE).state) == "RUN_STATE_COMPLETED"
        second = client.start("shared")
        assert (state(client, second.id), held(client, second.id)) == ("PENDING", True)
        mortal_system.kill("coordinator")
        until(lambda: held(client, second.id), PATIENCE)
        assert written(ledger) == ["first", "second", "tidy"]
        assert 'the runs of "shared" have used' in mortal_system.penstock("explain", second.id).stdout
        shown = mortal_system.penstock("budget", "show", "--pipeline", "shared").stdout
        assert "of 1 slot-seconds" in shown
        assert "used up" in shown
        assert client.get_budget(second.id).use == client.get_budget(pipeline="shared").use
        gone = client.start("shared")
        assert mortal_system.penstock("cancel", gone.id).returncode == 0
        assert run_pb2.RunState.Name(gone.wait(PATIENCE).state) == "RUN_STATE_CANCELLED"

        own = mortal_system.penstock("budget", "raise", second.id, "--slot-seconds", "100")
        assert "penstock budget raise --pipeline shared" in own.stderr
        raised = mortal_system.penstock("budget", "raise", "--pipeline", "shared", "--slot-seconds", "100")
        assert raised.returncode == 0, raised.stderr
        assert run_pb2.RunState.Name(second.wait(PATIENCE).state) == "RUN_STATE_COMPLETED"
        third = client.start("shared")
        assert run_pb2.RunState.Name(third.wait(PATIENCE).state) == "RUN_STATE_COMPLETED"


def test_runs_fail_at_once_while_nothing_is_left_of_the_pipelines_budget(system: DevSystem, tmp_path: Path) -> None:
    ledger = apply(system, tmp_path, "refuses", per=a_window_that_lasts(), on_exceeded="stop")
    with system.client() as client:
        first = client.start("refuses")
        assert run_pb2.RunState.Name(first.wait(PATIENCE).state) == "RUN_STATE_COMPLETED"
        ended = client.start("refuses").wait(PATIENCE)
        assert run_pb2.RunState.Name(ended.state) == "RUN_STATE_FAILED"
        assert 'the runs of "refuses" have used' in ended.reason
        assert written(ledger) == ["first", "second", "tidy"]


def test_a_price_counts_only_where_there_are_prices(own_system: Callable[..., DevSystem], tmp_path: Path) -> None:
    path = tmp_path / "priced.yaml"
    path.write_text(
        "name: priced\nbudget: {price: 2}\nsteps:\n"
        "  first: {command: 'sleep 1.1'}\n  second: {command: 'true', depends_on: [first]}\n"
    )
    system = own_system("--agents", "1", environment={"PENSTOCK_PRICE_SLOT_SECOND": "2", "PENSTOCK_CURRENCY": "EUR"})
    assert system.penstock("apply", str(path)).returncode == 0
    with system.client() as client:
        run = client.start("priced")
        until(lambda: held(client, run.id), PATIENCE)
        assert client.get_budget(run.id).use.used_price > 2
        raised = system.penstock("budget", "raise", run.id, "--price", "1000")
        assert "of 1,000 EUR" in raised.stdout, raised.stderr
        assert run_pb2.RunState.Name(run.wait(PATIENCE).state) == "RUN_STATE_COMPLETED"

"""Sagas on the whole system: what was done is undone, in order and once."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING

from tests.e2e.system import saga_flows
from tests.e2e.system.conftest import DevSystem, until

from penstock.v1 import run_pb2

if TYPE_CHECKING:
    from pathlib import Path

    from penstock.client.sync import SyncClient


def lines(ledger: Path) -> list[str]:
    return ledger.read_text().splitlines() if ledger.exists() else []


def cancelled(ledger: Path) -> list[str]:
    return [line for line in lines(ledger) if line.startswith("cancel")]


def test_a_saga_is_undone_over_the_death_of_its_coordinator(mortal_system: DevSystem, tmp_path: Path) -> None:
    ledger = tmp_path / "ledger"
    with mortal_system.client() as client:
        run = client.start(saga_flows.journey, {"ledger": str(ledger), "seconds": 1.5})
        # The first has been undone, and the second is under way.
        until(lambda: len(cancelled(ledger)) >= 1, 60.0)
        mortal_system.kill("coordinator")
        ended = run.wait(150.0)
        assert ended.state == run_pb2.RUN_STATE_ROLLED_BACK
        assert "no insurance is left" in ended.reason
        states = {each.step: run_pb2.StepRunState.Name(each.state) for each in client.list_step_runs(run.id)}
    assert lines(ledger)[:3] == ["book flight", "book hotel", "book car"]
    assert cancelled(ledger) == ["cancel car car-1 1", "cancel hotel hotel-1 1", "cancel flight flight-1 1"]
    assert len(lines(ledger)) == 6, "each was booked once and cancelled once"
    assert [states[kind] for kind in ("flight", "hotel", "car")] == ["STEP_RUN_STATE_ROLLED_BACK"] * 3
    assert states["insurance"] == "STEP_RUN_STATE_FAILED"
    assert states["dinner"] == "STEP_RUN_STATE_UPSTREAM_FAILED"


def test_a_completed_run_is_rolled_back_on_the_command_line(system: DevSystem, tmp_path: Path) -> None:
    ledger = tmp_path / "ledger"
    with system.client() as client:
        run = client.start(saga_flows.loan, {"numbers": [1, 2, 3], "ledger": str(ledger)})
        assert run.wait(60.0).state == run_pb2.RUN_STATE_COMPLETED
        asked = system.penstock("rollback", run.id)
        assert (asked.returncode, "add --yes" in asked.stderr) == (2, True), asked.stderr
        done = system.penstock("rollback", run.id, "--yes", "--reason", "the wrong numbers")
        assert done.returncode == 0, done.stderr
        assert "generation 2: 1 step will be undone" in done.stdout
        ended = run.wait(60.0)
        assert (ended.state, ended.reason) == (run_pb2.RUN_STATE_ROLLED_BACK, "the wrong numbers")
        items = list(client.list_step_runs(run.id, step="take"))
        shown = system.penstock("get", run.id).stdout
    assert [each.state for each in items] == [run_pb2.STEP_RUN_STATE_ROLLED_BACK] * 3
    assert [each.output_json for each in items] == ["10", "20", "30"], "what was done is told on"
    assert Counter(line for line in lines(ledger) if line.startswith("give")) == {
        "give back 1 10": 1,
        "give back 2 20": 1,
        "give back 3 30": 1,
    }
    assert "ROLLED_BACK" in shown
    watched = system.penstock("watch", run.id)
    assert (watched.returncode, f"What was undone: penstock get {run.id}" in watched.stderr) == (1, True), (
        watched.stderr
    )
    assert "undo_take[0] COMPLETED" in watched.stdout
    again = system.penstock("rollback", run.id, "--yes")
    assert again.returncode != 0
    assert "ROLLED_BACK already" in again.stderr


def test_a_rollback_that_failed_is_gone_on_with(system: DevSystem, client: SyncClient, tmp_path: Path) -> None:
    ledger, broken = tmp_path / "ledger", tmp_path / "broken"
    broken.touch()
    run = client.start(saga_flows.loan, {"numbers": [1, 2], "ledger": str(ledger), "broken": str(broken)})
    assert run.wait(60.0).state == run_pb2.RUN_STATE_COMPLETED
    run.rollback(reason="a test")
    ended = run.wait(60.0)
    assert ended.state == run_pb2.RUN_STATE_FAILED
    assert ended.reason.startswith('not all is undone: step "undo_take[')
    broken.unlink()
    done = system.penstock("retry", run.id)
    assert "generation 3: the rollback goes on: 1 step will be undone" in done.stdout, done.stderr
    assert run.wait(60.0).state == run_pb2.RUN_STATE_ROLLED_BACK
    assert sorted(line for line in lines(ledger) if line.startswith("give")) == ["give back 1 10", "give back 2 20"]


def test_letters_of_a_run_that_is_undone_name_the_retry_and_refuse_a_requeue(
    system: DevSystem, client: SyncClient, tmp_path: Path
) -> None:
    run = client.start(saga_flows.journey, {"ledger": str(tmp_path / "ledger")})
    assert run.wait(60.0).state == run_pb2.RUN_STATE_ROLLED_BACK
    chosen = ("--run", run.id)
    letter = json.loads(system.penstock("dead-letters", "list", *chosen, "--json").stdout)
    shown = system.penstock("dead-letters", "show", letter["id"]).stdout
    assert f"penstock retry {run.id}" in shown
    assert "dead-letters requeue" not in shown
    for options in ((), ("--json",)):
        many = system.penstock("dead-letters", "requeue", *chosen, "--yes", "--wait", *options)
        assert many.returncode == 1, many.stderr
        assert "the run is ROLLED_BACK, and what it did is undone: retry it" in many.stdout
    left = system.penstock("dead-letters", "requeue", *chosen, "--yes")
    assert (left.returncode, "what refused: penstock bulk get " in left.stdout) == (0, True), left.stderr

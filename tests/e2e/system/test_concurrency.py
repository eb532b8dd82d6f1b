"""Limits on concurrency and run keys on a whole Penstock, judged by what the steps wrote themselves."""

from __future__ import annotations

import json
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, NamedTuple

import pytest
from tests.e2e.system import limited_flows as flows
from tests.e2e.system.conftest import DevSystem, until

from penstock.errors import AlreadyExistsError
from penstock.v1 import run_pb2

if TYPE_CHECKING:
    from pathlib import Path

    from penstock.client.sync import SyncRunHandle

PATIENCE = 100.0


class Entry(NamedTuple):
    word: str
    run: str
    step: str
    item: str


def entries(ledger: Path) -> list[Entry]:
    """In the order in which they were written."""
    if not ledger.exists():
        return []
    lines = sorted((line.split() for line in ledger.read_text().splitlines()), key=lambda line: int(line[4]))
    return [Entry(*line[:4]) for line in lines]


def most_at_once(ledger: Path) -> int:
    """How many were under way at the same time."""
    most = now = 0
    for entry in entries(ledger):
        now += 1 if entry.word == "begin" else -1
        most = max(most, now)
    return most


def begun(ledger: Path, count: int = 1) -> bool:
    return sum(entry.word == "begin" for entry in entries(ledger)) >= count


def states(runs: list[SyncRunHandle]) -> list[str]:
    return [run_pb2.RunState.Name(run.wait(PATIENCE).state).removeprefix("RUN_STATE_") for run in runs]


def parameters(ledger: Path, **more: object) -> dict[str, object]:
    return {"ledger": str(ledger), **more}


def test_twenty_runs_three_at_once(system: DevSystem, tmp_path: Path) -> None:
    ledger, gate = tmp_path / "ledger", tmp_path / "gate"
    with system.client() as client:
        runs = client.start_many(flows.three_at_once, [parameters(ledger, gate=str(gate))] * 20)
        until(lambda: begun(ledger, 3), PATIENCE)
        gate.touch()
        assert states(runs) == ["COMPLETED"] * 20
        steps = [client.get_step_run(run.id, "work").step_run for run in runs]
    assert most_at_once(ledger) == 3
    assert sorted(entry.run for entry in entries(ledger) if entry.word == "begin") == sorted(run.id for run in runs)
    let_in = [step.ready_time.ToMicroseconds() for step in steps]
    assert let_in == sorted(let_in), "in the order of their starts"


def test_held_runs_and_who_holds_them(system: DevSystem, tmp_path: Path) -> None:
    ledger = tmp_path / "ledger"
    with system.client() as client:
        runs = [client.start(flows.three_at_once, parameters(ledger, seconds=240)) for _ in range(4)]
        held = runs[3].get()
        assert held.state == run_pb2.RUN_STATE_PENDING
        assert held.held_by_key == "pipeline:three_at_once"
        said = system.penstock("explain", held.id).stdout
        assert "three_at_once" in said
        assert all(run.id in said for run in runs[:3])
        for run in reversed(runs):
            run.cancel(now=True)
        assert states(runs) == ["CANCELLED"] * 4


def test_the_newest_run_goes(system: DevSystem, tmp_path: Path) -> None:
    ledger, gate = tmp_path / "ledger", tmp_path / "gate"
    with system.client() as client:
        first = client.start(flows.newest_goes, parameters(ledger, who="x", gate=str(gate)))
        until(lambda: begun(ledger), PATIENCE)
        second = client.start(flows.newest_goes, parameters(ledger, who="x"))
        other = client.start(flows.newest_goes, parameters(ledger, who="y"))
        assert states([second, other]) == ["CANCELLED", "COMPLETED"]
        gate.touch()
        assert states([first]) == ["COMPLETED"]
        assert first.id in second.get().reason


def test_the_oldest_run_goes(system: DevSystem, tmp_path: Path) -> None:
    ledger = tmp_path / "ledger"
    with system.client() as client:
        first = client.start(flows.oldest_goes, parameters(ledger, seconds=240))
        until(lambda: begun(ledger), PATIENCE)
        second = client.start(flows.oldest_goes, parameters(ledger, seconds=0.1))
        assert states([first, second]) == ["CANCELLED", "COMPLETED"]
    assert most_at_once(ledger) == 1


def test_items_of_a_map_two_at_once(system: DevSystem, tmp_path: Path) -> None:
    ledger, gate = tmp_path / "ledger", tmp_path / "gate"
    with system.client() as client:
        run = client.start(flows.two_of_a_map, parameters(ledger, items=list(range(30)), gate=str(gate)))
        until(lambda: begun(ledger, 2), PATIENCE)
        gate.touch()
        assert states([run]) == ["COMPLETED"]
    assert most_at_once(ledger) == 2
    assert len(entries(ledger)) == 60


def test_keyed_steps_of_many_runs_take_turns(system: DevSystem, tmp_path: Path) -> None:
    ledger = tmp_path / "ledger"
    with system.client() as client:
        runs = client.start_many(flows.keyed_step, [parameters(ledger)] * 10)
        assert states(runs) == ["COMPLETED"] * 10
    assert most_at_once(ledger) == 1
    assert len(entries(ledger)) == 20


def test_the_newest_step_goes(system: DevSystem, tmp_path: Path) -> None:
    ledger, gate = tmp_path / "ledger", tmp_path / "gate"
    with system.client() as client:
        first = client.start(flows.newest_step_goes, parameters(ledger, gate=str(gate)))
        until(lambda: begun(ledger), PATIENCE)
        second = client.start(flows.newest_step_goes, parameters(ledger))
        assert states([second]) == ["FAILED"]
        gate.touch()
        assert states([first]) == ["COMPLETED"]
        step = client.get_step_run(second.id, "work").step_run
        assert step.state == run_pb2.STEP_RUN_STATE_CANCELLED
        assert step.failure.reason == "Displaced"


def test_the_oldest_step_goes(system: DevSystem, tmp_path: Path) -> None:
    ledger = tmp_path / "ledger"
    with system.client() as client:
        first = client.start(flows.oldest_step_goes, parameters(ledger, seconds=240))
        until(lambda: begun(ledger), PATIENCE)
        second = client.start(flows.oldest_step_goes, parameters(ledger, seconds=0.1))
        assert states([first, second]) == ["FAILED", "COMPLETED"]
        assert "Displaced" in first.get().reason
    assert most_at_once(ledger) == 1


def test_nothing_is_lost_when_the_coordinator_dies(mortal_system: DevSystem, tmp_path: Path) -> None:
    """Runs are held, and a step holds a key that others wait for."""
    runs_ledger, steps_ledger = tmp_path / "runs", tmp_path / "steps"
    with mortal_system.client() as client:
        limited = client.start_many(flows.three_at_once, [parameters(runs_ledger, seconds=0.4)] * 15)
        keyed = [client.start(flows.keyed_step, parameters(steps_ledger, seconds=3))]
        until(lambda: begun(steps_ledger), PATIENCE)
        keyed += client.start_many(flows.keyed_step, [parameters(steps_ledger)] * 5)
        for count in (4, 9):
            until(lambda count=count: begun(runs_ledger, count), PATIENCE)  # type: ignore[misc]  # bound at once
            mortal_system.kill("coordinator")
        assert states(limited) == ["COMPLETED"] * 15
        assert states(keyed) == ["COMPLETED"] * 6
    assert most_at_once(runs_ledger) <= 3
    assert most_at_once(steps_ledger) == 1
    for ledger, count in ((runs_ledger, 15), (steps_ledger, 6)):
        ran = Counter(entry.run for entry in entries(ledger) if entry.word == "end")
        assert len(ran) == count
        assert set(ran.values()) == {1}


def test_two_clients_with_one_run_key_are_one_run(system: DevSystem, tmp_path: Path) -> None:
    ledger, gate = tmp_path / "ledger", tmp_path / "gate"
    values = parameters(ledger, gate=str(gate))

    def start(_: int) -> tuple[str, bool]:
        with system.client() as client:
            handle = client.start("plain", values, run_key="daily", run_key_conflict="use_existing")
            return handle.id, handle.existing

    with system.client() as client:
        client.create_pipeline(flows.plain)
        with ThreadPoolExecutor(4) as pool:
            answers = list(pool.map(start, range(4)))
        (run_id,) = {run_id for run_id, _ in answers}
        assert [existing for _, existing in answers].count(False) == 1
        with pytest.raises(AlreadyExistsError) as caught:
            client.start("plain", values, run_key="daily")
        assert caught.value.metadata["run_id"] == run_id
        gate.touch()
        assert client.run(run_id).wait(PATIENCE).state == run_pb2.RUN_STATE_COMPLETED
        assert [run.id for run in client.list_runs(run_key="daily")] == [run_id]
    assert len(entries(ledger)) == 2


def test_run_keys_on_the_command_line(system: DevSystem, tmp_path: Path) -> None:
    ledger = tmp_path / "ledger"
    with system.client() as client:
        client.create_pipeline(flows.plain)
    words = ["start", "plain", "-p", f"ledger={ledger}", "-p", "seconds=0", "--run-key", "cli", "--json"]
    first = system.penstock(*words)
    assert first.returncode == 0, first.stderr
    again = system.penstock(*words, "--run-key-reuse", "after_failure")
    assert again.returncode == 2
    assert "COMPLETED" in again.stderr
    listed = system.penstock("list", "--run-key", "cli", "--json").stdout.splitlines()
    assert [json.loads(line)["runKey"] for line in listed] == ["cli"]
    wrong = system.penstock("start", "plain", "--use-existing")
    assert wrong.returncode == 2
    assert "--run-key" in wrong.stderr

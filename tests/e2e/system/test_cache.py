"""Values that are computed once: by ten runs at once, whoever dies meanwhile, and by the runs that come later."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from tests.e2e.system import cache_flows as flows
from tests.e2e.system.conftest import DevSystem, until

from penstock.v1 import run_pb2

if TYPE_CHECKING:
    from pathlib import Path

    from penstock.client.sync import SyncClient, SyncRunHandle

THREE_STEPS = """
from pathlib import Path

from penstock import pipeline, step

LEDGER = Path({ledger!r})


def ran(name: str) -> None:
    with LEDGER.open("a") as ledger:
        ledger.write(name + "\\n")


@step(cache=True)
def load(rows: int) -> list[int]:
    ran("load")
    return list(range(rows))


@step(cache=True)
def features(rows: list[int]) -> list[int]:
    ran("features")
    return {features}


@step(cache=True)
def train(rows: list[int]) -> int:
    ran("train")
    return sum(rows)


@pipeline
def three_steps(rows: int = 5):
    return train(features(load(rows)))
"""


class Race:
    """Ten runs that need the same value, and the gate before it."""

    def __init__(self, client: SyncClient, folder: Path, value: int) -> None:
        self._client = client
        self._ledger, self._gate = folder / "ledger", folder / "gate"
        self._runs: list[SyncRunHandle] = [
            client.start(flows.costly, {"value": value, "ledger": str(self._ledger), "gate": str(self._gate)})
            for _ in range(10)
        ]
        until(lambda: len(self.waiting()) == 9 and self.begun, 100.0)

    @property
    def begun(self) -> bool:
        return self._gate.with_name("gate.begun").exists()

    def begin_again(self) -> None:
        self._gate.with_name("gate.begun").unlink()

    def step(self, run: SyncRunHandle) -> run_pb2.StepRun:
        return self._client.get_step_run(run.id, "dear").step_run

    def waiting(self) -> list[str]:
        """Runs that are told who computes."""
        reasons = [(run.id, self._client.explain(run.id, "dear").steps[0].reasons) for run in self._runs]
        return [run_id for run_id, found in reasons if any("which dear of the run" in each.message for each in found)]

    def holder(self) -> run_pb2.StepRun:
        (found,) = [each for each in map(self.step, self._runs) if each.state == run_pb2.STEP_RUN_STATE_RUNNING]
        return found

    def leave(self) -> None:
        """Nothing of it goes on when the test is over."""
        self._gate.touch()
        for run in self._runs:
            run.wait(90)

    def end(self, output: int) -> None:
        self._gate.touch()
        assert [run.output(timeout=90) for run in self._runs] == [output] * 10
        assert len(self._ledger.read_text().splitlines()) == 1, "it was computed once"
        steps = [self.step(run) for run in self._runs]
        (source,) = [each for each in steps if not each.cached]
        assert {each.cache_source.run_id for each in steps if each.cached} == {source.run_id}
        assert all(each.attempt_count == 0 for each in steps if each.cached)


def test_ten_runs_compute_it_once(client: SyncClient, tmp_path: Path) -> None:
    Race(client, tmp_path, 7).end(71)


def test_its_agent_may_die(mortal_system: DevSystem, tmp_path: Path) -> None:
    with mortal_system.client() as client:
        race = Race(client, tmp_path, 8)
        holder = race.holder()
        race.begin_again()
        mortal_system.kill(holder.agent_id)
        until(lambda: race.begun, 60.0)
        assert race.holder().run_id == holder.run_id, "the one that began it goes on"
        race.end(81)


def test_its_coordinator_may_die(mortal_system: DevSystem, tmp_path: Path) -> None:
    with mortal_system.client() as client:
        race = Race(client, tmp_path, 9)
        mortal_system.kill("coordinator")
        until(lambda: len(race.waiting()) == 9, 60.0)
        race.end(91)


def test_who_computes_it_may_be_cancelled(client: SyncClient, tmp_path: Path) -> None:
    race = Race(client, tmp_path, 10)
    first = race.holder()
    race.begin_again()
    client.cancel(first.run_id, now=True)
    client.wait(first.run_id, 60.0)
    until(lambda: race.begun and len(race.waiting()) == 8, 60.0)
    assert race.holder().run_id != first.run_id
    race.leave()


def test_a_change_of_one_step_runs_it_and_what_its_output_changes(system: DevSystem, tmp_path: Path) -> None:
    ledger, file = tmp_path / "ledger", tmp_path / "three.py"

    def run(features: str, *options: str) -> list[str]:
        """The steps that ran."""
        ledger.write_text("")
        file.write_text(THREE_STEPS.format(ledger=str(ledger), features=features))
        done = system.penstock("run", str(file), *options)
        assert done.returncode == 0, done.stdout + done.stderr
        return ledger.read_text().split()

    assert run("[row * 2 for row in rows]") == ["load", "features", "train"]
    assert run("[row * 2 for row in rows]") == []
    assert run("[row + row for row in rows]") == ["features"], "its output is equal: what comes after it is known"
    assert run("[row * 3 for row in rows]") == ["features", "train"]
    assert run("[row * 3 for row in rows]", "-p", "rows=6") == ["load", "features", "train"]
    assert run("[row * 3 for row in rows]", "--no-cache") == ["load", "features", "train"]
    assert run("[row * 3 for row in rows]", "--refresh-cache") == ["load", "features", "train"]
    assert run("[row * 3 for row in rows]") == []


def test_the_cache_is_shown_and_emptied(system: DevSystem, client: SyncClient, tmp_path: Path) -> None:
    (tmp_path / "gate").touch()
    given = {"value": 20, "ledger": str(tmp_path / "ledger"), "gate": str(tmp_path / "gate")}
    first = client.start(flows.costly, given)
    assert first.output(timeout=60) == 201
    second = client.start(flows.costly, given)
    assert second.output(timeout=60) == 201
    shown = system.penstock("get", second.id, "dear").stdout
    assert f"dear of run {first.id}" in shown
    watched = system.penstock("watch", second.id).stdout
    assert f"from the cache: dear of run {first.id}" in watched

    def listed() -> list[dict[str, Any]]:
        said = system.penstock("cache", "list", "--run", first.id, "--json")
        assert said.returncode == 0, said.stderr
        return [json.loads(line) for line in said.stdout.splitlines()]

    (entry,) = listed()
    assert (entry["pipeline"], entry["displayName"], entry["runId"]) == ("costly", "dear", first.id)
    assert "200" in system.penstock("cache", "show", entry["id"]).stdout
    assert next(iter(client.cache.list(key=entry["key"][:12]))).id == entry["id"]
    refused = system.penstock("cache", "delete")
    assert refused.returncode != 0
    assert "--all" in refused.stderr
    deleted = system.penstock("cache", "delete", entry["id"])
    assert "1 value was deleted" in deleted.stdout + deleted.stderr
    assert listed() == []
    third = client.start(flows.costly, given)
    third.wait(60)
    assert not client.get_step_run(third.id, "dear").step_run.cached

"""kill -9 of the coordinator in the middle of a run of 200 steps."""

from __future__ import annotations

from collections import Counter
from functools import partial
from typing import TYPE_CHECKING

from tests.e2e.system import flows
from tests.e2e.system.conftest import DevSystem, until

from penstock.v1 import run_pb2

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

PARTS = 98


def entries(ledger: Path) -> list[tuple[str, str, int]]:
    """(step, item, attempt) of everything that ran to its end."""
    if not ledger.exists():
        return []
    lines = (line.split() for line in ledger.read_text().splitlines())
    return [(step, item, int(attempt)) for step, item, attempt, _ in lines]


def reached(ledger: Path, count: int) -> bool:
    return len(entries(ledger)) >= count


def test_a_run_survives_the_death_of_its_coordinator(mortal_system: DevSystem, tmp_path: Path) -> None:
    ledger = tmp_path / "ledger"
    with mortal_system.client() as client:
        run = client.start(flows.two_hundred, {"ledger": str(ledger), "items": list(range(PARTS)), "long_seconds": 6.0})
        for done in (20, 90):
            until(partial(reached, ledger, done), 60.0)
            mortal_system.kill("coordinator")
        ended = run.wait(150.0)
        assert ended.state == run_pb2.RUN_STATE_COMPLETED, ended.reason
        assert run.result("total") == PARTS + 100 + 1
    ran = Counter((step, item) for step, item, _ in entries(ledger))
    assert len(ran) == 199
    assert set(ran.values()) == {1}, "nothing that was committed, and nothing that went on, ran a second time"
    assert ("long", "None") in ran
    assert {attempt for _, _, attempt in entries(ledger)} == {1}, (
        "what ran went on under its agent, and no number was spent"
    )


def test_a_run_survives_the_death_of_an_agent(mortal_system: DevSystem, tmp_path: Path) -> None:
    ledger = tmp_path / "ledger"
    with mortal_system.client() as client:
        run = client.start(flows.two_hundred, {"ledger": str(ledger), "items": list(range(PARTS)), "long_seconds": 0.1})
        until(lambda: len(entries(ledger)) >= 60, 60.0)
        mortal_system.kill("agent-1")
        ended = run.wait(150.0)
        assert ended.state == run_pb2.RUN_STATE_COMPLETED, ended.reason
        steps = list(client.list_step_runs(run.id))
        assert all(step.state == run_pb2.STEP_RUN_STATE_COMPLETED for step in steps)
    ran = Counter((step, item) for step, item, _ in entries(ledger))
    assert len(ran) == 199
    again = [entry for entry in entries(ledger) if entry[2] > 1]
    assert len(again) <= 4 + 64, "only what the dead agent held ran again"


def test_a_run_survives_the_death_of_the_database(mortal_system: DevSystem, tmp_path: Path) -> None:
    ledger = tmp_path / "ledger"
    with mortal_system.client() as client:
        run = client.start(flows.two_hundred, {"ledger": str(ledger), "items": list(range(PARTS)), "long_seconds": 0.1})
        until(lambda: len(entries(ledger)) >= 60, 60.0)
        mortal_system.kill("postgres")
        ended = run.wait(150.0)
        assert ended.state == run_pb2.RUN_STATE_COMPLETED, ended.reason
    ran = Counter((step, item) for step, item, _ in entries(ledger))
    assert len(ran) == 199
    assert set(ran.values()) == {1}


def test_nothing_is_left_when_dev_stops(own_system: Callable[..., DevSystem]) -> None:
    system = own_system("--agents", "1")
    pids = list(system.state["pids"].values())
    system.stop()
    until(lambda: not any(alive(pid) for pid in pids), 60.0)


def alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as found:  # noqa: PTH123  # a line of the kernel's
            return found.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False

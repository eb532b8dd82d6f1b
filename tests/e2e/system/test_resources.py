"""Steps that want more memory than they have, and what they cost, on a whole system."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tests.e2e.system import hungry_flows

from penstock.v1 import run_pb2

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.e2e.system.conftest import DevSystem

    from penstock.client.sync import SyncClient

MIB = 1 << 20


def test_an_attempt_that_ran_out_of_memory_is_followed_by_one_with_more(client: SyncClient) -> None:
    run = client.start(hungry_flows.hungry, {})
    assert run.wait(150.0).state == run_pb2.RUN_STATE_COMPLETED
    assert run.result("eats") == 200 * MIB
    first, second = client.get_step_run(run.id, "eats").attempts
    assert first.failure.reason == "OutOfMemory"
    assert "of 96 MiB" in first.failure.message
    assert first.peak_memory_bytes > 96 * MIB
    assert second.outcome == run_pb2.ATTEMPT_OUTCOME_COMPLETED
    assert "MemoryRaised" in [event.type for event in run.watch()]


def test_without_a_factor_it_fails_and_says_why(client: SyncClient) -> None:
    run = client.start(hungry_flows.greedy, {})
    assert run.wait(150.0).state == run_pb2.RUN_STATE_FAILED
    assert run.result("fine") == "fine", "its neighbour is not touched"
    step = client.get_step_run(run.id, "eats_too_much").step_run
    assert step.failure.reason == "OutOfMemory"
    assert "retry.memory_factor" in step.failure.message


def test_every_attempt_costs_once_also_when_the_coordinator_dies(own_system: Callable[..., DevSystem]) -> None:
    system = own_system("--agents", "1", environment={"PENSTOCK_PRICE_SLOT_SECOND": "2", "PENSTOCK_CURRENCY": "EUR"})
    client = system.client()
    run = client.start(hungry_flows.hungry, {}, labels={"team": "a"})
    assert run.wait(150.0).state == run_pb2.RUN_STATE_COMPLETED
    before = client.get_costs(run.id)
    system.kill("coordinator")
    after = client.get_costs(run.id)
    assert after == before
    by_step = {step.step: step.costs for step in after.steps}
    assert (by_step["eats"].total.attempts, by_step["eats"].wasted.attempts) == (2, 1)
    assert by_step["eats"].total.peak_memory_bytes > 200 * MIB
    assert by_step["fine"].wasted.attempts == 0
    slots = after.costs.total.slot_time.ToTimedelta().total_seconds()
    assert slots > 3.0, "the second attempt alone slept for so long"
    assert after.costs.total.price == pytest.approx(2 * slots)
    assert client.get_run(run.id).costs == after.costs
    assert client.get_step_run(run.id, "eats").step_run.costs == by_step["eats"]
    (team,) = client.list_costs(group_by="label", label="team").groups
    assert (team.name, team.costs) == ("a", after.costs)
    steps = client.list_costs(group_by="step", pipeline="hungry")
    assert [group.name for group in steps.groups] == ["eats", "fine"], "what took most comes first"
    assert (steps.groups[0].costs, steps.costs) == (by_step["eats"], after.costs)
    by_name = system.penstock("cost", "--by", "step", "--pipeline", "hungry", "--days", "1")
    assert "eats" in by_name.stdout, by_name.stderr
    unnamed = system.penstock("cost", "--by", "step")
    assert (unnamed.returncode, "--pipeline" in unnamed.stderr) == (2, True)
    shown = system.penstock("cost", run.id)
    assert shown.returncode == 0, shown.stderr
    assert "eats" in shown.stdout
    assert "EUR" in shown.stdout
    assert "wasted" in system.penstock("get", run.id).stdout
    assert system.penstock("cost", "--by", "day", "--json").returncode == 0
    client.close()

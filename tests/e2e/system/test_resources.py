"""Steps that want more memory than they have, on a whole system."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.e2e.system import hungry_flows

from penstock.v1 import run_pb2

if TYPE_CHECKING:
    from penstock.client.sync import SyncClient

MIB = 1 << 20


def test_an_attempt_that_ran_out_of_memory_is_followed_by_one_with_more(client: SyncClient) -> None:
    run = client.start(hungry_flows.hungry, {})
    assert run.wait(100.0).state == run_pb2.RUN_STATE_COMPLETED
    assert run.result("eats") == 200 * MIB
    first, second = client.get_step_run(run.id, "eats").attempts
    assert first.failure.reason == "OutOfMemory"
    assert "of 96 MiB" in first.failure.message
    assert first.peak_memory_bytes > 96 * MIB
    assert second.outcome == run_pb2.ATTEMPT_OUTCOME_COMPLETED
    assert "MemoryRaised" in [event.type for event in run.watch()]


def test_without_a_factor_it_fails_and_says_why(client: SyncClient) -> None:
    run = client.start(hungry_flows.greedy, {})
    assert run.wait(100.0).state == run_pb2.RUN_STATE_FAILED
    assert run.result("fine") == "fine", "its neighbour is not touched"
    step = client.get_step_run(run.id, "eats_too_much").step_run
    assert step.failure.reason == "OutOfMemory"
    assert "retry.memory_factor" in step.failure.message

"""A coordinator that was stopped for longer than leases live (a paused machine, SIGSTOP) hears first what was said
meanwhile, before it gives anything up."""

from __future__ import annotations

import signal

from tests.e2e.outages import outage_flows as flows
from tests.e2e.outages.conftest import BACK_SECONDS, RUNS, Whole, entries
from tests.e2e.outages.test_outages import last
from tests.rig.parts import send, thaw, until

from penstock.v1 import run_pb2

FROZEN_SECONDS = 4.0
"""More than twice as long as a lease lives (conftest.SHORT_TIMES)."""


def test_what_ended_while_the_coordinator_was_frozen_does_not_run_again(system: Whole) -> None:
    ledger = system.ledger("frozen-coordinator")
    sets = [{"ledger": str(ledger), "seconds": 0.3} for _ in range(RUNS)]
    runs = system.client.start_many(flows.five_steps, sets)
    until(lambda: sum(entries(ledger, "end").values()) >= RUNS, 90.0, "some work")
    pid = system.coordinator.pid
    send(pid, signal.SIGSTOP)
    try:
        last(FROZEN_SECONDS)
    finally:
        thaw(pid)
    for run in runs:
        assert run.wait(BACK_SECONDS).state == run_pb2.RUN_STATE_COMPLETED
    ran = entries(ledger, "begin")
    assert {key: count for key, count in ran.items() if count > 1} == {}
    assert len(ran) == 5 * RUNS

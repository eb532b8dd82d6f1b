"""The time of day of a machine is set by a day while leases live: nothing is lost, and nothing runs again."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
from tests.e2e.protocol.away_flows import steps_that_take
from tests.e2e.protocol.conftest import System
from tests.e2e.protocol.ledger import Ledger, instant, now

from penstock.v1 import run_pb2

DAY = 86_400
JUMP = """
import signal, sys, time

set_by = 0

def jump(*_):
    global set_by
    set_by = {days} * 86_400

def shifted(clock, unit):
    return lambda: clock() + set_by * unit

time.time = shifted(time.time, 1)
time.time_ns = shifted(time.time_ns, 10**9)
signal.signal(signal.SIGUSR2, jump)
sys.argv[0] = "{module}"
import runpy
runpy.run_module("{module}", run_name="__main__", alter_sys=True)
"""


def code(days: int) -> str:
    return JUMP.replace("{days}", str(days))


@pytest.mark.parametrize(("here", "there"), [(1, -1), (-1, 1)], ids=["forward", "backward"])
async def test_clocks_that_jump_apart_by_two_days(system: System, tmp_path: Path, here: int, there: int) -> None:
    system.settings |= {"PENSTOCK_LEASE_TTL": "6s", "PENSTOCK_EXPIRY_MARGIN": "1s"}
    ledger = Ledger(tmp_path / "ledger")
    coordinator = await system.coordinator(code=code(here))
    agent = await system.agent("agent-1", code=code(there))
    async with system.client() as client:
        run = await client.start(steps_that_take(ledger.path, 8.5))
        await ledger.has("begin", 1)
        coordinator.send(signal.SIGUSR2)
        agent.send(signal.SIGUSR2)
        # Longer than a lease lives that nobody renews.
        await instant(now() + 7.5)
        ended = await run.wait(60.0)
        assert ended.state == run_pb2.RUN_STATE_COMPLETED
        assert abs((ended.end_time.ToSeconds() - ended.create_time.ToSeconds()) - here * DAY) < 60, "it did jump"
        again = await client.start(steps_that_take(ledger.path, 0.1))
        assert (await again.wait(60.0)).state == run_pb2.RUN_STATE_COMPLETED
    assert [each.attempt for each in ledger.of("begin")] == [1, 1]

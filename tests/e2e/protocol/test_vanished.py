"""An agent's machine vanishes: a namespace of the network whose link is taken down, and put up again."""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from tests.e2e.protocol.away_flows import steps_that_take
from tests.e2e.protocol.conftest import CONNECTED, System
from tests.e2e.protocol.ledger import Ledger, now
from tests.waiting import until

from penstock import Client
from penstock.v1 import agent_admin_service_pb2 as admin
from penstock.v1 import run_pb2

TTL, MARGIN = 3.0, 0.5
NOBODY = "02:00:00:00:00:01"


class Machine:
    """A namespace; `near` is the address of the machine that the test runs on, as seen from it."""

    def __init__(self) -> None:
        number = os.getpid() % 65_536
        self.name = f"penstock{number}"
        self._link = f"pn{number}"
        subnet = f"10.{64 + number // 256 % 64}.{number % 256}"
        self.near, self._far = f"{subnet}.1", f"{subnet}.2"

    def make(self) -> None:
        _ip("netns", "add", self.name)
        _ip("link", "add", self._link, "type", "veth", "peer", "name", "far", "netns", self.name)
        _ip("addr", "add", f"{self.near}/24", "dev", self._link)
        _ip("link", "set", self._link, "up")
        for command in (("addr", "add", f"{self._far}/24", "dev", "far"), ("link", "set", "far", "up")):
            _ip("-n", self.name, *command)
        _ip("-n", self.name, "link", "set", "lo", "up")

    def remove(self) -> None:
        subprocess.run(["ip", "netns", "del", self.name], stderr=subprocess.DEVNULL, check=False)
        subprocess.run(["ip", "link", "del", self._link], stderr=subprocess.DEVNULL, check=False)

    def vanish(self) -> None:
        """Packets are lost in both directions, and nobody is told: they go to a hardware address that nobody has."""
        for side, address, device in self._ways():
            _ip(*side, "neigh", "replace", address, "lladdr", NOBODY, "dev", device, "nud", "permanent")

    def come_back(self) -> None:
        for side, address, device in self._ways():
            _ip(*side, "neigh", "del", address, "dev", device)

    def _ways(self) -> list[tuple[list[str], str, str]]:
        """In and out: whose kernel sends, to which address, by which device."""
        return [(["-n", self.name], self.near, "far"), ([], self._far, self._link)]


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True)


@contextlib.contextmanager
def machine() -> Iterator[Machine]:
    made = Machine()
    made.make()
    try:
        yield made
    finally:
        made.remove()


async def last_grant(client: Client, run_id: str) -> float:
    """When the last attempt was granted, on the clock of the ledger."""
    since_start = time.time() - now()
    steps = [await client.get_step_run(run_id, f"step{number}") for number in range(2)]
    return max(step.attempts[-1].start_time.ToMicroseconds() / 1e6 for step in steps) - since_start


async def test_steps_of_a_machine_that_vanished_run_elsewhere_in_time(system: System, tmp_path: Path) -> None:
    system.settings |= {"PENSTOCK_LEASE_TTL": f"{TTL:g}s", "PENSTOCK_EXPIRY_MARGIN": f"{MARGIN:g}s"}
    ledger, gate = Ledger(tmp_path / "ledger"), tmp_path / "gate"
    with machine() as far:
        system.listen_on = far.near
        await system.coordinator()
        lost = await system.agent("agent-1", "", "ip", "netns", "exec", far.name)
        async with system.client() as client:
            run = await client.start(steps_that_take(ledger.path, 0.1, TTL + 1, gate=gate))
            await ledger.has("begin", 2)
            await system.agent("agent-2")
            far.vanish()
            gate.touch()
            heard_at = now() - (await client.get_agent("agent-1")).heartbeat_age.ToNanoseconds() / 1e9
            # One ends while the machine is away, the other one is killed by the agent when the lease is over.
            again = await ledger.has("begin", 4)
            began = max(each.at for each in again) - heard_at
            assert sorted((each.number, each.attempt) for each in again) == [(0, 1), (0, 2), (1, 1), (1, 2)]
            ended = await run.wait(60.0)
            assert ended.state == run_pb2.RUN_STATE_COMPLETED
            took = await last_grant(client, run.id) - heard_at
            far.come_back()
            await lost.says(CONNECTED, 2)

            async def counted() -> bool:
                return bool((await client.get_agent("agent-1")).discarded_results == 2)

            await until(counted, 60.0)
            back = await client.get_agent("agent-1")
            assert (back.state, back.leases) == (admin.AGENT_STATE_CONNECTED, 0)
            assert [each.attempt for each in ledger.of("end", 1)] == [2], "the agent killed what it was not to run"
    print(f"granted elsewhere {took:.2f} s, begun {began:.2f} s after the last heartbeat")
    assert took <= TTL + MARGIN + 1.0

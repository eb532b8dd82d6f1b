"""Agents that cannot reach the owner, on machines of their own: one of them, all of them, in one direction."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.e2e.outages import outage_flows as flows
from tests.e2e.outages.conftest import entries
from tests.e2e.ownership.conftest import PATIENCE
from tests.rig.far import Far, Near
from tests.rig.parts import Agent, Coordinator, until

from penstock.client.sync import SyncClient, SyncRunHandle
from penstock.dev.postgres import EmbeddedPostgres
from penstock.errors import PenstockError
from penstock.v1 import agent_admin_service_pb2 as admin
from penstock.v1 import coordinator_service_pb2 as pb
from penstock.v1 import run_pb2

TIMES = {
    "PENSTOCK_OWNERSHIP_LEASE": "30s",
    "PENSTOCK_HEARTBEAT_INTERVAL": "500ms",
    "PENSTOCK_LEASE_TTL": "60s",
}
"""Nobody takes over, no lease runs out, and a way that is lost is noticed soon."""
NAMES = ("c1", "c2", "c3")


class Apart:
    """Three coordinators here, and two agents far away."""

    def __init__(self, folder: Path, database_url: str, near: Near, machines: list[Far]) -> None:
        self.folder = folder
        self.machines = machines
        self.coordinators: dict[str, Coordinator] = {}
        for name, address in zip(NAMES, near.addresses, strict=True):
            (folder / name).mkdir()
            (folder / name / "coordinator-id").write_text(f"{name}\n")
            self.coordinators[name] = Coordinator(folder, database_url, TIMES, name=name, reached_at=address)
        self.addresses = ",".join(each.address for each in self.coordinators.values())
        self.agents = [
            Agent(f"agent-{number}", folder, self.addresses, slots=4, prefix=machine.prefix)
            for number, machine in enumerate(machines, 1)
        ]
        self.client = SyncClient(self.addresses)

    @property
    def owner(self) -> str:
        """The first one owns for as long as this lasts."""
        return self.coordinators["c1"].reached_at

    def vias(self) -> list[str] | None:
        """Of both agents, if both are connected."""
        try:
            agents = list(self.client.list_agents())
        except PenstockError:
            return None
        connected = [each.via for each in agents if each.state == admin.AGENT_STATE_CONNECTED]
        return connected if len(connected) == len(self.machines) else None

    def all_direct(self) -> bool:
        return self.vias() == ["", ""]

    def all_relayed(self, *, without: str = "") -> bool:
        vias = self.vias()
        return vias is not None and "" not in vias and without not in vias

    def relayed_by(self) -> dict[str, int]:
        """As it is on the board."""
        return {each.id: each.relayed_agents for each in self.client.list_coordinators() if each.relayed_agents}

    def begin(self, name: str, count: int) -> list[SyncRunHandle]:
        """Runs that are under way for some time."""
        sets = [{"ledger": str(self.folder / name), "seconds": 0.4} for _ in range(count)]
        runs = self.client.start_many(flows.twenty_steps, sets)
        until(lambda: sum(entries(self.folder / name, "end").values()) >= count, PATIENCE, "some work")
        return runs

    def ended(self, name: str) -> int:
        return sum(entries(self.folder / name, "end").values())

    def goes_on(self, name: str) -> None:
        before = self.ended(name)
        until(lambda: self.ended(name) >= before + 10, PATIENCE, "more steps")

    def all_ran_once(self, name: str, runs: list[SyncRunHandle]) -> None:
        for run in runs:
            ended = run.wait(PATIENCE)
            assert ended.state == run_pb2.RUN_STATE_COMPLETED, ended.reason
        ran = entries(self.folder / name, "begin")
        assert set(ran.values()) == {1}
        assert len(ran) == 20 * len(runs)
        assert entries(self.folder / name, "end") == ran


@pytest.fixture(scope="module")
def apart(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Apart]:
    folder = tmp_path_factory.mktemp("apart")
    with contextlib.ExitStack() as stack:
        server = EmbeddedPostgres(folder / "postgres")
        server.start()
        stack.callback(server.stop)
        near = stack.enter_context(Near(len(NAMES)))
        machines = [stack.enter_context(Far(near, number)) for number in range(2)]
        made = Apart(folder, server.dsn, near, machines)
        for coordinator in made.coordinators.values():
            coordinator.start()
            stack.callback(coordinator.stop)
            if coordinator.name == NAMES[0]:
                coordinator.wait_ready()
        for agent in made.agents:
            agent.start()
            stack.callback(agent.stop)
        stack.callback(made.client.__exit__, None, None, None)
        until(made.all_direct, PATIENCE, "both agents at the owner")
        yield made


def said_by(*command: str) -> str:
    argv = [sys.executable, "-m", "penstock", *command]
    return subprocess.run(argv, check=True, capture_output=True, text=True, timeout=PATIENCE).stdout


def test_an_agent_that_alone_cannot_reach_the_owner_works_by_another_coordinator(apart: Apart) -> None:
    runs = apart.begin("alone", 4)
    with apart.machines[0].cut_off(apart.owner):
        until(lambda: sorted(map(bool, apart.vias() or ())) == [False, True], PATIENCE, "one agent by another one")
        relay = "".join(apart.vias() or ())
        assert relay in ("c2", "c3")
        until(lambda: apart.relayed_by() == {relay: 1}, PATIENCE, "its word to the others")
        apart.goes_on("alone")
        assert relay in said_by("agents", "--address", apart.addresses).splitlines()[1]
        assert "relays 1 agent" in said_by("coordinators", "--address", apart.addresses)
    until(apart.all_direct, PATIENCE, "the direct way again")
    until(lambda: apart.relayed_by() == {}, PATIENCE, "its word to the others")
    apart.all_ran_once("alone", runs)


def test_all_agents_are_cut_off_in_one_direction_each_and_the_relays_die(apart: Apart) -> None:
    runs = apart.begin("all", 4)
    deaf, mute = apart.machines
    with deaf.cut_off(apart.owner, says=False), mute.cut_off(apart.owner, hears=False):
        until(apart.all_relayed, PATIENCE, "all agents by others")
        relay = (apart.vias() or [""])[0]
        with apart.coordinators[relay].down():
            until(lambda: apart.all_relayed(without=relay), PATIENCE, "all agents by the one that is left")
            apart.goes_on("all")
        roles = {each.id: each.role for each in apart.client.list_coordinators()}
        assert roles["c1"] == pb.COORDINATOR_ROLE_OWNER, "nobody took over"
    until(apart.all_direct, PATIENCE, "the direct way again")
    apart.all_ran_once("all", runs)

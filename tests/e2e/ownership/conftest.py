"""Several coordinators on one database, and two agents that know all of them, as processes of their own."""

from __future__ import annotations

import contextlib
import json
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import pytest
from prometheus_client.parser import text_string_to_metric_families
from tests.chaos import writers
from tests.clusters import prepared
from tests.e2e.outages import outage_flows as flows
from tests.e2e.outages.conftest import entries
from tests.rig.link import Link
from tests.rig.parts import Agent, Coordinator, until
from tests.valkey import ValkeyServer, running_valkey

from penstock.client.sync import SyncClient, SyncRunHandle
from penstock.dev.postgres import EmbeddedPostgres
from penstock.v1 import coordinator_service_pb2 as pb
from penstock.v1 import run_pb2

LEASE = 3.0
"""Seconds of ownership."""
TIMES = {
    "PENSTOCK_OWNERSHIP_LEASE": "3s",
    "PENSTOCK_HEARTBEAT_INTERVAL": "1s",
    "PENSTOCK_LEASE_TTL": "20s",
    "PENSTOCK_EXPIRY_MARGIN": "2s",
}
PATIENCE = 120.0


class Group:
    def __init__(
        self, folder: Path, database_url: str, links: list[Link], valkey: ValkeyServer, more: Mapping[str, str] = {}
    ) -> None:
        """Each coordinator reaches the database by a link of its own, and all the same Redis; all with `more`
        settings."""
        self.valkey = valkey
        self.folder = folder
        self.database_url = database_url
        self.coordinators: dict[str, Coordinator] = {}
        self.links: dict[str, Link] = {}
        for number, link in enumerate(links, 1):
            place = folder / f"c{number}"
            (place / "coordinator").mkdir(parents=True)
            (place / "coordinator" / "coordinator-id").write_text(f"c{number}\n")
            parts = urlsplit(database_url)
            through = parts._replace(netloc=f"{parts.username}:{parts.password}@127.0.0.1:{link.port}")
            self.links[f"c{number}"] = link
            self.coordinators[f"c{number}"] = Coordinator(
                place, urlunsplit(through), {**TIMES, "PENSTOCK_REDIS_URL": valkey.url, **more}
            )
        self.addresses = ",".join(each.address for each in self.coordinators.values())
        self.agents = [Agent(f"agent-{number}", folder, self.addresses, slots=8) for number in (1, 2)]
        self.client = SyncClient(self.addresses)

    def seen_by(self, name: str) -> dict[str, pb.Coordinator]:
        """All coordinators by id, as one of them sees them; none if it does not answer."""
        with (
            contextlib.suppress(Exception),
            SyncClient(self.coordinators[name].address, deadline=2.0, retry_for=0.0) as client,
        ):
            return {each.id: each for each in client.list_coordinators()}
        return {}

    def owner(self) -> str:
        """The one that owns the runs by its own word; "" while there is none."""
        for name in self.coordinators:
            own = self.seen_by(name).get(name)
            if own is not None and own.role == pb.COORDINATOR_ROLE_OWNER:
                return name
        return ""

    def role_of(self, name: str) -> int:
        """By its own word; 0 if it does not answer."""
        own = self.seen_by(name).get(name)
        return 0 if own is None else own.role

    def follows(self, name: str) -> bool:
        return self.role_of(name) == pb.COORDINATOR_ROLE_FOLLOWER

    def members(self) -> list[str]:
        """By their own words."""
        return [name for name in self.coordinators if self.role_of(name) == pb.COORDINATOR_ROLE_MEMBER]

    def others(self, name: str) -> list[str]:
        return [each for each in self.coordinators if each != name]

    def roles(self) -> tuple[str, str]:
        """The owner, and the one that follows."""
        owner = self.owner()
        return owner, self.others(owner)[0]

    def said(self, name: str) -> list[dict[str, Any]]:
        """Its lines of log."""
        lines = []
        for line in self.coordinators[name].log.read_text(errors="replace").splitlines():
            with contextlib.suppress(ValueError):
                lines.append(json.loads(line))
        return lines

    def hot_state(self, name: str) -> dict[str, Any]:
        """By what the others hear of it, as it says itself; empty if it does not answer."""
        url = f"http://127.0.0.1:{self.coordinators[name].http_port}/readyz"
        try:
            with urllib.request.urlopen(url, timeout=2.0) as answer:
                told = json.loads(answer.read())
        except urllib.error.HTTPError as refusal:
            told = json.loads(refusal.read())
        except OSError:
            return {}
        found: dict[str, Any] = told["hot_state"]
        return found

    def is_on(self, name: str, medium: str) -> bool:
        return self.hot_state(name).get("medium") == medium

    def database_up(self, name: str) -> float:
        """What it tells Prometheus: 1, or 0 if the database does not answer it; -1 if the page does not come."""
        try:
            with urllib.request.urlopen(
                f"http://127.0.0.1:{self.coordinators[name].http_port}/metrics", timeout=5.0
            ) as page:
                families = text_string_to_metric_families(page.read().decode())
        except OSError:
            return -1
        told = next(each for each in families if each.name == "penstock_dependency_up")
        return next(each.value for each in told.samples if each.labels == {"dependency": "postgresql"})

    def ledger(self, name: str) -> Path:
        return self.folder / f"{name}.ledger"

    def start(self, name: str, count: int, seconds: float = 0.05) -> list[SyncRunHandle]:
        sets = [{"ledger": str(self.ledger(name)), "seconds": seconds} for _ in range(count)]
        return self.client.start_many(flows.five_steps, sets)

    def begin(self, name: str, count: int, seconds: float = 0.4) -> list[SyncRunHandle]:
        """So many runs of five steps, of which some are under way."""
        runs = self.start(name, count, seconds)
        until(lambda: sum(entries(self.ledger(name), "end").values()) >= 20, PATIENCE, "some work")
        return runs

    def all_ran_once(self, name: str, runs: list[SyncRunHandle]) -> None:
        for run in runs:
            ended = run.wait(PATIENCE)
            assert ended.state == run_pb2.RUN_STATE_COMPLETED, ended.reason
        ran = entries(self.ledger(name), "begin")
        assert {key: count for key, count in ran.items() if count > 1} == {}
        assert len(ran) == 5 * len(runs)
        assert entries(self.ledger(name), "end") == ran


@contextlib.contextmanager
def running_group(folder: Path, count: int, more: Mapping[str, str] = {}) -> Iterator[Group]:
    """So many coordinators and two agents, until the end; the first coordinator owns the runs."""
    with contextlib.ExitStack() as stack:
        server = EmbeddedPostgres(prepared(folder / "postgres"))
        server.start()
        stack.callback(server.stop)
        links = [stack.enter_context(Link(("127.0.0.1", server.port))) for _ in range(count)]
        valkey = stack.enter_context(running_valkey(folder / "valkey"))
        made = Group(folder, server.dsn, links, valkey, more)
        for name, coordinator in made.coordinators.items():
            coordinator.start()
            stack.callback(coordinator.stop)
            if name == "c1":
                coordinator.wait_ready()
                writers.install(server.dsn)
        for agent in made.agents:
            agent.start()
            stack.callback(agent.stop)
        stack.callback(made.client.__exit__, None, None, None)
        yield made


@pytest.fixture(scope="module")
def several(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Group]:
    with running_group(tmp_path_factory.mktemp("ownership"), 2) as made:
        yield made


@pytest.fixture
def group(several: Group) -> Group:
    """With an owner, one that follows it, and two agents."""
    until(lambda: (owner := several.owner()) and all(map(several.follows, several.others(owner))), PATIENCE, "roles")
    until(lambda: len(list(several.client.list_agents())) == 2, PATIENCE, "two agents")
    return several

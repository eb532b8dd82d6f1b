"""The whole system of the chaos test: PostgreSQL, coordinators, agents, a client, each a process, and the links."""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import sys
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit, urlunsplit

from tests.chaos import writers
from tests.chaos.places import Place, far_address, names, near_address
from tests.rig.link import Link
from tests.rig.parts import Agent, Coordinator, Part, until
from tests.rig.small_disk import SmallDisk
from tests.seaweed import ACCESS_KEY, SECRET_KEY, SeaweedServer, running_seaweed
from tests.valkey import ValkeyServer

from penstock.client.sync import SyncClient
from penstock.dev.postgres import EmbeddedPostgres, StopMode

OWNERSHIP = 4.0
"""Seconds that a coordinator owns without a renewal, where there are several."""


@dataclass(frozen=True, slots=True)
class Times:
    """Seconds. Shorter than usual, so that leases do end in a freeze of some seconds."""

    heartbeat: float = 0.5
    ttl: float = 4.0
    margin: float = 1.0

    def settings(self) -> dict[str, str]:
        return {
            "PENSTOCK_HEARTBEAT_INTERVAL": f"{self.heartbeat:g}s",
            "PENSTOCK_LEASE_TTL": f"{self.ttl:g}s",
            "PENSTOCK_EXPIRY_MARGIN": f"{self.margin:g}s",
            "PENSTOCK_RESULT_RESEND_INTERVAL": "1s",
            "PENSTOCK_OWNERSHIP_LEASE": f"{OWNERSHIP:g}s",
        }


ALONE = Times()
SEVERAL = Times(heartbeat=1.0, ttl=16.0)
"""Leases outlast a take-over, as they should."""
ALONE_NAME = "coordinator"
DISK_BYTES = 64 << 20
SMALL_FLOOR = {"PENSTOCK_AGENT_DISK_FLOOR_BYTES": str(8 << 20)}


class World:
    """Use it as a context manager.

    One coordinator: agents 1 and 2 are behind links, agents 3 and 4 in namespaces if there are any, else behind links
    too; the data of agent 1 are on a small disk if one can be mounted. Several: each has a link of its own to
    PostgreSQL and to Redis, and a namespace of its own if there are any; agents are where the test is.

    `build` is the environment of processes that are to run the code of another build.
    """

    def __init__(
        self,
        folder: Path,
        slots: int,
        agents: int = 4,
        coordinators: int = 1,
        build: Mapping[str, str] | None = None,
        *,
        members: bool = False,
    ) -> None:
        """`members`: coordinators that do not own join the one that does."""
        self.folder = folder
        self.members = members
        self._build = dict(build or {})
        self.slots = slots
        self.several = coordinators > 1
        self.times = SEVERAL if self.several else ALONE
        self._stack = contextlib.ExitStack()
        self._names = [f"agent-{number}" for number in range(1, agents + 1)]
        self._coordinators = [f"c{number}" for number in range(1, coordinators + 1)] if self.several else [ALONE_NAME]
        places = self._coordinators if self.several else self._names[agents - len(names()) :]
        self.places = {name: Place(each, i) for i, (name, each) in enumerate(zip(places, names(), strict=False), 1)}
        self.links: dict[str, Link] = {}
        """Of agents."""
        self.database_links: dict[str, Link] = {}
        self.redis_links: dict[str, Link] = {}
        """Both of coordinators."""
        self.agents: dict[str, Agent] = {}
        self.coordinators: dict[str, Coordinator] = {}
        self.disks: dict[str, SmallDisk] = {}
        self.server = EmbeddedPostgres(folder / "postgres")
        self.redis = ValkeyServer(folder / "redis")
        self._server_lock = threading.Lock()

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            self.server.start()
            stack.callback(self.server.stop)
            if self.several:
                self.redis.start()
                stack.callback(self.redis.kill)
            if self.members:
                self._s3 = stack.enter_context(running_seaweed(self.folder / "s3"))
            for name in self._coordinators:
                self._start_coordinator(stack, name)
            for coordinator in self.coordinators.values():
                coordinator.wait_ready()
            if self.several:
                writers.install(self.server.dsn)
            for name in self._names:
                self._start_agent(stack, name)
            self.client = stack.enter_context(SyncClient(self.addresses))
            until(lambda: len(self.connected()) == len(self._names), 180.0, "all agents")
            self.starter = Starter(self.folder, self.addresses)
            stack.callback(self.starter.stop)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def _start_coordinator(self, stack: contextlib.ExitStack, name: str) -> None:
        # In a namespace of the test's own, all addresses are the test's own.
        host = "0.0.0.0" if self.places else "127.0.0.1"
        near, far, prefix = "127.0.0.1", "127.0.0.1", list[str]()
        if self.several and (place := self.places.get(name)):
            near, far, prefix = near_address(place.number), far_address(place.number), place.prefix
        link = self.database_links[name] = stack.enter_context(Link(("127.0.0.1", self.server.port), host))
        parts = urlsplit(self.server.dsn)
        through = urlunsplit(parts._replace(netloc=f"{parts.username}:{parts.password}@{near}:{link.port}"))
        settings = {**self.times.settings(), **self._build}
        if self.several:
            link = self.redis_links[name] = stack.enter_context(Link(("127.0.0.1", self.redis.port), host))
            settings["PENSTOCK_REDIS_URL"] = f"redis://{near}:{link.port}/0"
        if self.members:
            port = urlsplit(self._s3.endpoint).port
            assert port is not None
            link = stack.enter_context(Link(("127.0.0.1", port), host))
            settings |= {
                "PENSTOCK_JOIN": "auto",
                # Whose artifacts are on a local disk never joins.
                "PENSTOCK_ARTIFACTS_URL": SeaweedServer(f"http://{near}:{link.port}").url("chaos"),
                "AWS_ACCESS_KEY_ID": ACCESS_KEY,
                "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
                "AWS_EC2_METADATA_DISABLED": "true",
            }
        coordinator = self.coordinators[name] = Coordinator(
            self.folder, through, settings, far if self.several else host, name=name, reached_at=far, prefix=prefix
        )
        if self.several:
            coordinator.data.mkdir(parents=True)
            (coordinator.data / "coordinator-id").write_text(f"{name}\n")
        coordinator.start()
        stack.callback(coordinator.stop)

    @property
    def addresses(self) -> str:
        """Of all coordinators, as clients and agents are given them."""
        return ",".join(each.address for each in self.coordinators.values())

    def _start_agent(self, stack: contextlib.ExitStack, name: str) -> None:
        place, environment = self.places.get(name), self._build
        if self.several:
            address = self.addresses
        elif place is None:
            link = self.links[name] = stack.enter_context(Link(("127.0.0.1", self.coordinators[ALONE_NAME].port)))
            address = f"127.0.0.1:{link.port}"
        else:
            address = f"{near_address(place.number)}:{self.coordinators[ALONE_NAME].port}"
        if self.places and name == "agent-1" and not self.several:
            self.disks[name] = stack.enter_context(SmallDisk(self.folder / name, DISK_BYTES))
            environment = {**environment, **SMALL_FLOOR}
        agent = self.agents[name] = Agent(
            name, self.folder, address, self.slots, environment=environment, prefix=place.prefix if place else ()
        )
        agent.start()
        stack.callback(agent.stop)

    @property
    def parts(self) -> list[Part]:
        return [*self.coordinators.values(), *self.agents.values()]

    def connected(self) -> list[Any]:
        return [agent for agent in self.client.list_agents() if agent.state == 1]

    def sessions_by_a_hop(self) -> int:
        """Of agents that could not reach the owner: so many since the start, by the logs of owners."""
        logs = (each.log.read_text(errors="replace").splitlines() for each in self.coordinators.values())
        return sum('"session_opened"' in line and '"via"' in line for lines in logs for line in lines)

    # --- the server

    def crash_server(self) -> None:
        with self._server_lock:
            self.server.stop(StopMode.IMMEDIATE)

    def raise_server(self) -> None:
        """Start it if it does not run."""
        with self._server_lock:
            if not self.server.is_running:
                self.server.stop()
                self.server.start()

    def heal(self) -> None:
        """All links, disks and namespaces as new, and the server up. Who is frozen is whoever froze him's to thaw."""
        for link in (*self.links.values(), *self.database_links.values(), *self.redis_links.values()):
            link.heal()
        for disk in self.disks.values():
            disk.free()
        for place in self.places.values():
            place.heal()
        self.raise_server()
        if self.several:
            self.redis.thaw()

    def keep_logs(self, place: Path) -> None:
        place.mkdir(parents=True, exist_ok=True)
        for path in [
            *self.folder.glob("*.log"),
            *self.folder.glob("*.ledger"),
            self.folder / "postgres" / "server.log",
        ]:
            if path.exists():
                shutil.copy(path, place / path.name)


class Starter:
    """The client process."""

    def __init__(self, folder: Path, address: str) -> None:
        self._log = (folder / "starter.log").open("ab")
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.chaos.starter", address],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
        )
        self._orders = 0
        self._done = 0
        self._ready = threading.Event()
        threading.Thread(target=self._listen, daemon=True).start()
        assert self._ready.wait(60.0), (folder / "starter.log").read_text()[-2_000:]

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith("ready"):
                self._ready.set()
            else:
                self._done += 1

    def start(self, **order: object) -> None:
        assert self._process.stdin is not None
        self._orders += 1
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()

    @property
    def busy(self) -> bool:
        assert self._process.poll() is None, "the client has ended: see starter.log"
        return self._done < self._orders

    def stop(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(5.0)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._log.close()

"""A coordinator with two agents that reaches its database over a link, and a database that can be taken away."""

from __future__ import annotations

import contextlib
import os
import time
import uuid
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import pytest
from tests.clusters import prepared
from tests.e2e.outages import outage_flows as flows
from tests.rig.link import Link
from tests.rig.parts import Agent, Coordinator, Part, until
from tests.sharing import shared

from penstock.client.sync import SyncClient, SyncRunHandle
from penstock.dev.postgres import EmbeddedPostgres
from penstock.errors import ResourceExhaustedError, UnavailableError
from penstock.v1 import run_pb2

ALL = "PENSTOCK_OUTAGE_SECONDS" in os.environ
SECONDS = float(os.environ.get("PENSTOCK_OUTAGE_SECONDS", "5"))
"""How long each outage lasts."""
SHORT_TIMES = {
    "PENSTOCK_HEARTBEAT_INTERVAL": "300ms",
    "PENSTOCK_LEASE_TTL": "1500ms",
    "PENSTOCK_EXPIRY_MARGIN": "500ms",
    "PENSTOCK_RESULT_RESEND_INTERVAL": "500ms",
}
"""So that an outage of 5 s is three times as long as a lease lives unheard of."""
TIMES = SHORT_TIMES if SECONDS < 60 else {}
ANSWERED_SECONDS = 8.0
"""PENSTOCK_COMMIT_PATIENCE, and what a busy machine adds."""
BACK_SECONDS = 30.0
"""Within so many seconds after an outage all is as before."""
RUNS = 10


@dataclass
class Whole:
    """Parts that are not to be started again, whatever becomes of the database."""

    folder: Path
    server: EmbeddedPostgres
    link: Link
    coordinator: Coordinator
    agents: list[Agent]
    agent_links: list[Link]
    """Of each agent, to the coordinator."""
    client: SyncClient

    @property
    def parts(self) -> list[Part]:
        return [self.coordinator, *self.agents]

    @property
    def coordinator_id(self) -> str:
        return (self.folder / "coordinator" / "coordinator-id").read_text().strip()

    def move(self, server: EmbeddedPostgres) -> None:
        self.server = server
        self.link.aim(("127.0.0.1", server.port))

    def ledger(self, name: str) -> Path:
        return self.folder / f"{name}.ledger"

    def told(self) -> str:
        return self.coordinator.log.read_text(errors="replace")


def entries(ledger: Path, word: str) -> Counter[tuple[str, str]]:
    """How often each step of each run said the word."""
    lines = ledger.read_text().splitlines() if ledger.exists() else []
    return Counter((run, step) for said, run, step, *_ in map(str.split, lines) if said == word)


@contextlib.contextmanager
def whole(folder: Path, server: EmbeddedPostgres, times: Mapping[str, str] = TIMES) -> Iterator[Whole]:
    with contextlib.ExitStack() as stack:
        stack.callback(lambda: made.server.stop())
        server.start()
        link = stack.enter_context(Link(("127.0.0.1", server.port)))
        parts = urlsplit(server.dsn)
        through = urlunsplit(parts._replace(netloc=f"{parts.username}:{parts.password}@127.0.0.1:{link.port}"))
        coordinator = Coordinator(folder, through, times)
        links = [stack.enter_context(Link(("127.0.0.1", coordinator.port))) for _ in range(2)]
        agents = [
            Agent(f"agent-{number}", folder, f"127.0.0.1:{each.port}", slots=4) for number, each in enumerate(links, 1)
        ]
        client = SyncClient(coordinator.address)
        made = Whole(folder, server, link, coordinator, agents, links, client)
        for part in (coordinator, *agents):
            part.start()
            stack.callback(part.stop)
        stack.callback(client.__exit__, None, None, None)
        coordinator.wait_ready()
        until(lambda: len(list(client.list_agents())) == 2, 90.0, "two agents")
        yield made


SHARED = pytest.StashKey[Whole]()


@pytest.fixture(scope="module")
def system(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Whole:
    """Shared by the tests of the folder, each of which takes its database away and gives it back."""

    def start() -> contextlib.AbstractContextManager[Whole]:
        folder = tmp_path_factory.mktemp("outages")
        settings = {"superuser_reserved_connections": "0"}
        return whole(folder, EmbeddedPostgres(prepared(folder / "postgres"), settings=settings))

    return shared(request, SHARED, start)


class Load:
    """Work that is under way when an outage begins, and a start that is asked for during it."""

    def __init__(self, system: Whole, name: str, seconds: float) -> None:
        self._system = system
        self._seconds = seconds
        self.ledger = system.ledger(name)
        self._starter = ThreadPoolExecutor(1)
        sets = [{"ledger": str(self.ledger), "seconds": 0.3} for _ in range(RUNS)]
        long = {"ledger": str(self.ledger)}
        self.long = [
            system.client.start(flows.one_long_step, {**long, "seconds": length})
            for length in (seconds / 2, seconds + 1)
        ]
        self.runs = [*self.long, *system.client.start_many(flows.five_steps, sets)]
        until(lambda: sum(entries(self.ledger, "end").values()) >= 10, 90.0, "some work")
        self._repeated, self._is_repeated = f"{name}-{uuid.uuid4()}", False
        self._pids = [part.pid for part in system.parts]
        self._asked: Future[SyncRunHandle] | None = None

    def ask_for_a_run(self) -> None:
        """In the background: it may be refused, or it is acknowledged, now or when the database is back."""
        ledger = {"ledger": str(self.ledger), "seconds": 0.0}
        self._asked = self._starter.submit(self._system.client.start, "five_steps", ledger)

    def is_answered(self) -> None:
        """A start that is not tried again hears within a bounded time that it may be, and how soon. The same request
        comes again when the database is back."""
        ledger = {"ledger": str(self.ledger), "seconds": 0.0}
        began = time.monotonic()
        with (
            SyncClient(self._system.coordinator.address, deadline=30.0, retry_for=0.0) as client,
            pytest.raises((UnavailableError, ResourceExhaustedError)) as refused,
        ):
            client.start("five_steps", ledger, request_id=self._repeated)
        assert time.monotonic() - began < ANSWERED_SECONDS
        assert refused.value.reason in {"DATABASE_UNAVAILABLE", "OUTCOME_UNKNOWN", "OVERLOADED"}
        assert refused.value.retry_after is not None
        self._is_repeated = True

    @property
    def acknowledged(self) -> bool:
        return self._asked is not None and self._asked.done() and self._asked.exception() is None

    def goes_on(self) -> None:
        """Everything that was accepted ends, nothing ran twice, nobody was started again, and new work is done."""
        system = self._system
        until(system.coordinator.is_ready, BACK_SECONDS, "a coordinator that is ready again")
        if self._asked is not None:
            with contextlib.suppress(Exception):  # refused: nothing was promised
                self.runs.append(self._asked.result(BACK_SECONDS))
        self.runs.append(system.client.start(flows.five_steps, {"ledger": str(self.ledger), "seconds": 0.0}))
        if self._is_repeated:
            again = {"ledger": str(self.ledger), "seconds": 0.0}
            once, twice = (system.client.start("five_steps", again, request_id=self._repeated) for _ in range(2))
            assert once.id == twice.id
            self.runs.append(once)
        for run in self.runs:
            ended = run.wait(BACK_SECONDS)
            assert ended.state == run_pb2.RUN_STATE_COMPLETED, ended.reason
        assert [part.pid for part in system.parts] == self._pids
        ran = entries(self.ledger, "begin")
        assert set(ran.values()) == {1}, [key for key, count in ran.items() if count > 1]
        assert entries(self.ledger, "end") == ran
        steps = {(str(run.id), f"step{number}") for run in self.runs if run not in self.long for number in range(5)}
        assert steps <= set(ran)

"""A real Prometheus looks at a whole system and finds all that dashboards, rules and runbooks ask for. An outage of the
database wakes somebody by a real Alertmanager."""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import asyncpg
import pytest
from aiohttp import web
from tests import waiting
from tests.clusters import prepared
from tests.e2e.monitoring import watch_flows as flows
from tests.e2e.monitoring.watching import Prometheus, hurried, running_alertmanager, running_prometheus
from tests.rig.parts import Agent, Coordinator, until
from tests.unit.monitoring import monitoring_files as files
from tests.unit.monitoring.monitoring_files import Query
from tests.valkey import running_valkey

from penstock.client.sync import SyncClient
from penstock.dev.ports import take_port
from penstock.dev.postgres import EmbeddedPostgres
from penstock.errors import NotFoundError, ServiceError

PATIENCE = 90.0
AWAY = "PenstockDatabaseAway"
NO_STATE = 99
"""Of a dead letter."""


@dataclass
class Woken:
    """Who hears of alerts: names of those that fire and that are over, by the path that they were sent to."""

    firing: dict[str, set[str]] = field(default_factory=dict)
    over: set[str] = field(default_factory=set)

    async def hears_of(self, alert: str, path: str) -> None:
        async def heard() -> bool:
            return alert in self.firing.get(path, ())

        await waiting.until(heard, PATIENCE)

    async def hears_that_it_is_over(self, alert: str) -> None:
        async def heard() -> bool:
            return alert in self.over

        await waiting.until(heard, PATIENCE)

    async def hear(self, request: web.Request) -> web.Response:
        for alert in (await request.json())["alerts"]:
            name = alert["labels"]["alertname"]
            if alert["status"] == "firing":
                self.firing.setdefault(request.path, set()).add(name)
            else:
                self.over.add(name)
        return web.Response()


@dataclass
class Watched:
    server: EmbeddedPostgres
    prometheus: Prometheus
    client: SyncClient
    woken: Woken
    since: float


@pytest.fixture
async def receiver() -> AsyncIterator[tuple[Woken, str]]:
    woken = Woken()
    application = web.Application()
    application.router.add_post("/{path}", woken.hear)
    runner = web.AppRunner(application)
    await runner.setup()
    port = take_port(0, "")
    await web.TCPSite(runner, "127.0.0.1", port).start()
    yield woken, f"http://127.0.0.1:{port}"
    await runner.cleanup()


@pytest.fixture
async def watched(tmp_path: Path, receiver: tuple[Woken, str]) -> AsyncIterator[Watched]:
    woken, url = receiver
    with contextlib.ExitStack() as stack:
        yield await asyncio.to_thread(_start, stack, tmp_path, woken, url)
        await asyncio.to_thread(stack.close)


def _start(stack: contextlib.ExitStack, folder: Path, woken: Woken, url: str) -> Watched:
    server = EmbeddedPostgres(prepared(folder / "postgres"))
    server.start()
    stack.callback(server.stop)
    valkey = stack.enter_context(running_valkey(folder / "valkey"))
    coordinator = Coordinator(
        folder,
        server.dsn,
        {
            "PENSTOCK_REDIS_URL": valkey.url,
            "PENSTOCK_PRICE_SLOT_SECOND": "0.01",
            "PENSTOCK_JANITOR_INTERVAL": "5s",
        },
    )
    agent_http = take_port(0, "")
    agent = Agent(
        "agent-1",
        folder,
        coordinator.address,
        slots=4,
        environment={"PENSTOCK_AGENT_HTTP_LISTEN": f"127.0.0.1:{agent_http}"},
    )
    alertmanager = stack.enter_context(running_alertmanager(folder / "alertmanager", url))
    targets = {
        "penstock-coordinators": [f"127.0.0.1:{coordinator.http_port}"],
        "penstock-agents": [f"127.0.0.1:{agent_http}"],
    }
    prometheus = stack.enter_context(running_prometheus(folder / "prometheus", targets, alertmanager))
    since = time.time()
    for part in (coordinator, agent):
        part.start()
        stack.callback(part.stop)
    coordinator.wait_ready()
    client = SyncClient(coordinator.address)
    stack.callback(client.__exit__, None, None, None)
    until(lambda: len(list(client.list_agents())) == 1, PATIENCE, "an agent")
    return Watched(server, prometheus, client, woken, since)


async def test_prometheus_finds_what_is_asked_for_and_an_outage_wakes_somebody(watched: Watched) -> None:
    await asyncio.to_thread(_work, watched)
    await _fault(watched)
    await _outage(watched)
    await asyncio.to_thread(_find_everything, watched)


def _work(watched: Watched) -> None:
    """Until Prometheus has seen the ends of all runs."""
    client = watched.client
    for flow in (flows.tried_again, flows.in_vain, flows.with_artifact, flows.tried_again):
        client.start(flow).wait(PATIENCE)
    with pytest.raises(NotFoundError):
        client.start("nobody-knows-it")
    ended = "sum(penstock_runs_ended_total)"
    until(lambda: watched.prometheus.value(ended) == 4, PATIENCE, "a scrape of the ends of four runs")


async def _fault(watched: Watched) -> None:
    """A call ends with INTERNAL, as a row is there that nobody could have written."""
    letters = watched.client.dead_letters
    (letter,) = await asyncio.to_thread(lambda: list(letters.list()))
    connection = await asyncpg.connect(watched.server.dsn)
    try:
        for state in (NO_STATE, letter.state):
            await connection.execute("update dead_letters set state = $1", state)
            if state == NO_STATE:
                with pytest.raises(ServiceError) as caught:
                    await asyncio.to_thread(letters.get, letter.id)
                assert caught.value.code == "INTERNAL"
    finally:
        await connection.close()
    asked = 'sum(penstock_rpc_requests_total{code="INTERNAL"})'

    async def scraped() -> bool:
        return await asyncio.to_thread(watched.prometheus.value, asked) == 1

    await waiting.until(scraped, PATIENCE)


async def _outage(watched: Watched) -> None:
    woken = watched.woken
    await woken.hears_of("PenstockWatchdog", "/watchdog")
    assert AWAY not in woken.firing.get("/pages", ())
    await asyncio.to_thread(watched.server.stop)
    await woken.hears_of(AWAY, "/pages")
    await asyncio.to_thread(watched.server.start)
    await woken.hears_that_it_is_over(AWAY)


def _find_everything(watched: Watched) -> None:
    open_letters = "penstock_dead_letters_open"
    until(lambda: watched.prometheus.value(open_letters) == 1, PATIENCE, "an open dead letter")
    missing = [
        f"{query.where}: {query.expr}"
        for query in _queries()
        if not watched.prometheus.samples(query.expr, watched.since, time.time())
    ]
    assert not missing, "nothing is found for\n" + "\n".join(missing)


def _queries() -> Iterator[Query]:
    """All that is asked for, of what has happened here."""
    for query in (*files.queries_of_dashboards(), *files.queries_of_rules(), *files.queries_of_runbooks()):
        yield Query(query.where, without_threshold(hurried(query.expr)))


def without_threshold(expr: str) -> str:
    """Has a value whenever all of its parts have, whether the alert would fire or not."""
    expr = re.sub(r"(?<=\s)(==|!=|>=|<=|>|<)(?=\s)", r"\1 bool", expr)
    for written, asked in (("absent(", "("), ("unless", "and")):
        expr = expr.replace(written, asked)
    return expr


def test_what_is_asked_for_is_what_is_written_without_its_thresholds() -> None:
    assert without_threshold("sum by (queue) (a) > 0 unless b == 2") == "sum by (queue) (a) > bool 0 and b == bool 2"
    assert without_threshold("absent(penstock_owner)") == "(penstock_owner)"
    assert hurried("max_over_time(count(a)[6h:1m]) + rate(b[$__rate_interval])") == (
        "max_over_time(count(a)[15s:1s]) + rate(b[15s])"
    )

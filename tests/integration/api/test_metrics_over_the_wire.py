"""The page /metrics of a coordinator that runs."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable

import aiohttp
import grpc
import pytest
from prometheus_client.openmetrics import parser as open_parser
from prometheus_client.parser import text_string_to_metric_families as families
from tests.integration.api.answers import refused
from tests.integration.api.conftest import PATIENCE, Edge, on_both_kinds_of_stores, spec
from tests.waiting import until

from penstock.v1 import run_service_pb2 as runs_pb
from penstock_coordinator.api.metrics.declared import COORDINATOR
from penstock_coordinator.api.metrics.queues import MOST_QUEUES
from penstock_coordinator.core.counts.live import LiveCounts
from penstock_coordinator.core.run.losses import CAUSES

RETRIED = spec(
    {"name": "a", "retry": {"max_attempts": 2, "initial_backoff": "0.001s"}}, labels={"slo_tier": "critical"}
)
OPEN_METRICS = "application/openmetrics-text; version=1.0.0"


class Scraped:
    """The samples of one page."""

    def __init__(self, text: str) -> None:
        self.families = {family.name: family for family in families(text)}
        self._samples = {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in self.families.values()
            for sample in family.samples
        }

    def __call__(self, name: str, **labels: str) -> float:
        return self._samples["penstock_" + name, frozenset(labels.items())]

    def by(self, name: str, label: str) -> dict[str, float]:
        return {
            dict(labels)[label]: value
            for (found, labels), value in self._samples.items()
            if found == f"penstock_{name}"
        }


async def page(edge: Edge, accept: str = "") -> tuple[str, str]:
    headers = {"Accept": accept} if accept else {}
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"http://{edge.server.http_address}/metrics", headers=headers) as answer,
    ):
        assert answer.status == 200
        return await answer.text(), answer.headers["Content-Type"]


async def scrape(edge: Edge) -> Scraped:
    return Scraped((await page(edge))[0])


async def known(edge: Edge, name: str) -> bool:
    return bool((await scrape(edge)).families[f"penstock_{name}"].samples)


def at_rest(edge: Edge) -> Callable[[], Awaitable[bool]]:
    async def asked() -> bool:
        return not edge.backend.supervisor.live_runs

    return asked


def walked(edge: Edge) -> LiveCounts:
    """What a look at every run would find."""
    supervisor, found = edge.backend.supervisor, LiveCounts()
    for run_id in supervisor.live_run_ids(1_000_000):
        actor = supervisor.actor(run_id)
        assert actor is not None
        found.enter(actor.run)
    return found


def same(one: LiveCounts, other: LiveCounts) -> bool:
    return (one.runs, one.ready, one.running, one.waiting) == (other.runs, other.ready, other.running, other.waiting)


@on_both_kinds_of_stores
async def test_a_run_with_a_retry_and_one_with_a_dead_letter_are_counted(edge: Edge) -> None:
    agent = await edge.agent()
    run = await edge.start(RETRIED)
    await agent.fail(await agent.grant())
    await agent.succeed(await agent.grant())
    await edge.watch(run)
    run = await edge.start(spec({"name": "a"}, name="q"))
    grant = await agent.grant()
    for asked in ("dead_letters_open", "database_bytes", "retention_overdue_seconds"):
        await until(functools.partial(known, edge, asked))
    found = await scrape(edge)
    assert (found("runs", state="RUNNING"), found("steps", state="RUNNING"), found("leases")) == (1, 1, 1)
    assert (found("queue_running", queue="default"), found("queue_slots", queue="default")) == (1, 4)
    assert (found("agents", state="CONNECTED"), found("slots"), found("slots_used")) == (1, 4, 1)
    await agent.fail(grant)
    await edge.watch(run)
    await until(at_rest(edge))

    found = await scrape(edge)
    assert {metric.name.removesuffix("_total") for metric in COORDINATOR} <= set(found.families)
    assert found.by("runs_started_total", "slo_tier") == {"critical": 1, "default": 1, "non-critical": 0}
    assert found("runs_ended_total", state="COMPLETED", slo_tier="critical", cause="none") == 1
    assert found("runs_ended_total", state="FAILED", slo_tier="default", cause="user") == 1
    assert found("runs_ended_total", state="FAILED", slo_tier="default", cause="infrastructure") == 0
    assert (found("steps_ended_total", state="COMPLETED"), found("steps_ended_total", state="FAILED")) == (1, 1)
    assert found.by("retries_total", "reason") == {"user": 1, "infrastructure": 0, "poison": 0}
    assert (found("dead_letters_total", reason="user"), found("dead_letters_open")) == (1, 0), (
        "it was looked at just before"
    )
    assert found("dispatch_wait_seconds_count", slo_tier="critical") == 2
    assert found("submissions_total", slo_tier="critical", outcome="ok") == 1
    assert found("rpc_requests_total", service="penstock.v1.RunService", method="Start", code="OK") == 2
    assert found("rpc_duration_seconds_count", service="penstock.v1.RunService", method="Start") == 2
    assert found("commit_duration_seconds_count") == found("commit_records_count") > 0
    assert found("journal_records_total") == found("commit_records_sum") > 0 < found("journal_bytes_total")
    assert set(found.by("runs", "state").values()) == set(found.by("steps", "state").values()) == {0}
    assert (found("mailbox_depth"), found("owner"), found("ready"), found("leases")) == (0, 1, 1, 0)
    assert found("dependency_up", dependency="journal") == 1
    assert found("breaker_state", dependency="journal", state="closed") == 1
    assert (found("database_bytes") > 0, found("retention_overdue_seconds")) == (True, 0)
    assert found("janitor_interval_seconds") == 600
    assert found("disk_size_bytes", folder="data") > found("disk_free_bytes", folder="data") > 0
    assert list(found.by("disk_free_bytes", "folder")) == ["data"], "what is not there is not told of"


async def test_streams_and_failed_calls_are_counted_without_their_duration(edge: Edge) -> None:
    run = await edge.start()
    await edge.agent()
    request = runs_pb.WatchRunRequest(run_id=run.id)
    call = edge.runs.Watch(request, timeout=PATIENCE)
    await call.read()
    found = await scrape(edge)
    assert found("rpc_in_flight", service="penstock.v1.RunService", method="Watch") == 1
    call.cancel()
    assert (await refused(edge.runs.Start(runs_pb.StartRunRequest(pipeline="nix")))).code is grpc.StatusCode.NOT_FOUND
    watched = {"service": "penstock.v1.RunService", "method": "Watch"}

    async def ended() -> bool:
        return (await scrape(edge))("rpc_in_flight", **watched) == 0

    await until(ended)
    found = await scrape(edge)
    assert found("rpc_requests_total", **watched, code="CANCELLED") == 1
    assert "Watch" not in found.by("rpc_duration_seconds_count", "method")
    assert found("rpc_requests_total", service=watched["service"], method="Start", code="NOT_FOUND") == 1
    assert found("submissions_total", slo_tier="default", outcome="refused") == 1
    assert found("rpc_in_flight", service="penstock.agent.v1.AgentService", method="Connect") == 1


async def test_who_takes_open_metrics_gets_it(edge: Edge) -> None:
    text, content_type = await page(edge, OPEN_METRICS)
    assert content_type.startswith("application/openmetrics-text")
    names = {each.name for each in open_parser.text_string_to_metric_families(text)}  # type: ignore[no-untyped-call]
    assert {metric.name.removesuffix("_total") for metric in COORDINATOR} <= names
    _, content_type = await page(edge)
    assert content_type.startswith("text/plain; version=0.0.4")


async def test_of_150_queues_100_are_told_apart_and_the_rest_is_one(edge: Edge) -> None:
    steps = [{"name": f"s{number}", "queue": f"q{number:03}"} for number in range(150)]
    await edge.start(spec(*steps))
    found = await scrape(edge)
    depths = found.by("queue_depth", "queue")
    assert len(depths) == MOST_QUEUES + 1
    assert (depths["q000"], depths["other"], found("steps", state="READY")) == (1, 50, 150)


async def test_what_is_kept_up_is_what_a_look_at_every_run_would_find(edge: Edge) -> None:
    supervisor = edge.backend.supervisor
    agent = await edge.agent(slots=2, credits=2)
    mapped = spec(
        {"name": "m", "map": {"values": [1, 2, 3]}}, {"name": "b", "depends_on": ["m"]}, {"name": "c", "cleanup": True}
    )
    run = await edge.start(mapped)
    other = await edge.start(spec({"name": "a"}, name="q"))
    first = await agent.grant()
    assert same(supervisor.live, walked(edge))
    assert supervisor.live.running == 2
    await agent.fail(first)
    await edge.runs.Cancel(runs_pb.CancelRunRequest(run_id=other.id), timeout=PATIENCE)
    await edge.runs.Pause(runs_pb.PauseRunRequest(run_id=run.id), timeout=PATIENCE)
    assert same(supervisor.live, walked(edge))
    await edge.runs.Cancel(runs_pb.CancelRunRequest(run_id=run.id, mode=runs_pb.CANCEL_MODE_NOW), timeout=PATIENCE)
    assert same(supervisor.live, walked(edge))


@pytest.mark.parametrize("tier", ["gold", "", "Critical"])
async def test_a_tier_that_there_is_not_is_refused_with_the_field(edge: Edge, tier: str) -> None:
    answer = await refused(edge.create(spec({"name": "a"}, labels={"slo_tier": tier})))
    assert answer.code is grpc.StatusCode.INVALID_ARGUMENT
    (said,) = answer.violations.values()
    assert list(answer.violations) == ["labels[slo_tier]"]
    assert "critical, default, non-critical" in said


async def test_causes_of_lost_leases_are_of_a_bounded_set(edge: Edge) -> None:
    agent = await edge.agent()
    await edge.start()
    await agent.hand_back(await agent.grant())

    async def told() -> bool:
        return any((await scrape(edge)).by("leases_lost_total", "cause").values())

    await until(told)
    assert set((await scrape(edge)).by("leases_lost_total", "cause")) == {*CAUSES, "rejected", "other"}

"""What a whole system tells Prometheus: an owner, one that follows, and an agent, after runs of all sorts."""

from __future__ import annotations

import json
from pathlib import Path

import aiohttp
from prometheus_client.parser import text_string_to_metric_families as families
from tests.clusters import prepared
from tests.waiting import until

from penstock import Client, Retry, command, pipeline, step
from penstock.dev.cluster import DevCluster
from penstock.dev.ports import take_port
from penstock.v1 import coordinator_service_pb2 as pb
from penstock_agent.runtime.metrics import AGENT
from penstock_coordinator.api.metrics.declared import COORDINATOR


class Page:
    def __init__(self, text: str) -> None:
        self.families = {family.name: family for family in families(text)}

    def __call__(self, name: str, **labels: str) -> float:
        """The sum of the samples with these labels."""
        samples = [sample for family in self.families.values() for sample in family.samples if sample.name == name]
        assert samples, name
        return sum(each.value for each in samples if labels.items() <= each.labels.items())


async def scrape(address: str) -> Page:
    async with aiohttp.ClientSession() as session, session.get(f"http://{address}/metrics") as answer:
        assert answer.status == 200
        return Page(await answer.text())


@step(cache=True)
def computed(number: int) -> int:
    return number + 1


@pipeline(labels={"slo_tier": "critical"})
def cached(number: int) -> int:
    return computed(number)


@pipeline
def retried(marker: str) -> None:
    script = 'test -e "$PENSTOCK_INPUT_MARKER" || { touch "$PENSTOCK_INPUT_MARKER"; exit 1; }'
    command("once", shell=script, inputs={"marker": marker}, retry=Retry(max_attempts=2, initial_backoff=0.01))


@pipeline
def dead() -> None:
    command("never", shell="exit 3")


@pipeline(labels={"slo_tier": "non-critical"})
def endless() -> None:
    command("wait", shell="exec sleep 1000")


async def roles(client: Client) -> dict[str, str]:
    """By role, where it is scraped; once there are an owner and one that follows."""

    async def asked() -> dict[str, str] | None:
        found = {pb.CoordinatorRole.Name(each.role): each.http_address for each in await client.list_coordinators()}
        return found if len(found) == 2 else None

    found = await until(asked)
    assert found is not None
    return {role.removeprefix("COORDINATOR_ROLE_"): url.removeprefix("http://") for role, url in found.items()}


async def test_every_metric_is_there_and_says_what_happened(tmp_path: Path) -> None:
    port = take_port(0, "")
    prepared(tmp_path / "data" / "postgres")
    environment = {"PENSTOCK_AGENT_HTTP_LISTEN": f"127.0.0.1:{port}", "PENSTOCK_PRICE_SLOT_SECOND": "1"}
    async with (
        DevCluster(tmp_path / "data", agents=1, slots=2, coordinators=2, environment=environment) as cluster,
        Client(cluster.address) as client,
    ):
        for _ in range(2):
            await (await client.start(cached, {"number": 1})).wait(150, raise_on_failure=True)
        await (await client.start(retried, {"marker": str(tmp_path / "marker")})).wait(150, raise_on_failure=True)
        await (await client.start(dead)).wait(150)
        run = await client.start(endless)
        where = await roles(client)

        async def running() -> bool:
            return (await scrape(where["OWNER"]))("penstock_steps", state="RUNNING") == 1

        await until(running)
        agent = await scrape(f"127.0.0.1:{port}")
        await run.cancel()
        await run.wait(150)

        async def ended() -> bool:
            page = await scrape(where["OWNER"])
            return page("penstock_runs") == 0 and bool(page.families["penstock_dead_letters_open"].samples)

        await until(ended)
        owner, follower = await scrape(where["OWNER"]), await scrape(where["FOLLOWER"])

    for page in (owner, follower):
        assert {metric.name.removesuffix("_total") for metric in COORDINATOR} <= set(page.families)
        assert page("penstock_ready") == page("penstock_build_info") == 1
        assert page("penstock_dependency_up", dependency="postgresql") == 1
        assert page("process_resident_memory_bytes") > 1e6
    assert (owner("penstock_owner"), follower("penstock_owner")) == (1, 0)
    assert owner("penstock_role", role="head") == follower("penstock_role", role="follower") == 1
    # Each call and each run is counted by one of them.
    told = {}
    for name, labels in (
        ("penstock_runs_started_total", {"slo_tier": "critical"}),
        ("penstock_runs_ended_total", {"state": "COMPLETED", "slo_tier": "critical"}),
        ("penstock_runs_ended_total", {"state": "FAILED", "cause": "user"}),
        ("penstock_runs_ended_total", {"state": "CANCELLED", "slo_tier": "non-critical"}),
        ("penstock_runs_ended_total", {"cause": "infrastructure"}),
        ("penstock_steps_ended_total", {"state": "COMPLETED"}),
        ("penstock_submissions_total", {"outcome": "ok"}),
        ("penstock_submissions_total", {"outcome": "failed"}),
        ("penstock_rpc_requests_total", {"method": "Start", "code": "OK"}),
        ("penstock_retries_total", {"reason": "user"}),
        ("penstock_dead_letters_total", {"reason": "user"}),
        ("penstock_cache_lookups_total", {"result": "hit"}),
        ("penstock_cache_lookups_total", {"result": "miss"}),
        ("penstock_dispatch_wait_seconds_count", {}),
        ("penstock_leases", {}),
        ("penstock_slots", {}),
        ("penstock_queue_slots", {"queue": "default"}),
    ):
        told[f"{name} {json.dumps(labels)}"] = owner(name, **labels) + (
            follower(name, **labels)
            if follower.families[name.removesuffix("_total").removesuffix("_count")].samples
            else 0
        )
    assert list(told.values()) == [2, 2, 1, 1, 0, 3, 5, 0, 5, 1, 1, 1, 1, 5, 0, 2, 2], told
    assert owner("penstock_journal_records_total") > 0 < owner("penstock_commit_duration_seconds_count")
    assert owner("penstock_cost_total") == owner("penstock_slot_seconds_total") > 0
    assert owner("penstock_hot_state", medium="postgresql") == 1
    assert {metric.name.removesuffix("_total") for metric in AGENT} <= set(agent.families)
    assert (agent("penstock_agent_connected"), agent("penstock_agent_slots_used")) == (1, 1)
    assert (
        agent("penstock_agent_attempts_total", result="ok"),
        agent("penstock_agent_attempts_total", result="failed"),
    ) == (2, 2)

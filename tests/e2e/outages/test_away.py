"""A coordinator that is away for half a lease's ttl, agents that are cut off while the database is away, and one whose
machine vanishes for longer than that."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.chaos.journal import Reader, RunStory
from tests.clusters import prepared
from tests.e2e.outages import outage_flows as flows
from tests.e2e.outages.conftest import BACK_SECONDS, Whole, entries, whole
from tests.e2e.outages.test_outages import last
from tests.rig.parts import until

from penstock.client.sync import SyncRunHandle
from penstock.dev.postgres import EmbeddedPostgres, StopMode
from penstock.v1 import run_pb2

USUAL_TTL = 30.0
STEPS = 8
"""As many as there are slots."""
TTL, MARGIN = 5.0, 1.0
SHORT = {
    "PENSTOCK_HEARTBEAT_INTERVAL": "500ms",
    "PENSTOCK_LEASE_TTL": f"{TTL:g}s",
    "PENSTOCK_EXPIRY_MARGIN": f"{MARGIN:g}s",
    "PENSTOCK_RESULT_RESEND_INTERVAL": "500ms",
}
LOOKS_EVERY = 1.0
"""Seconds between two looks for leases that ran out."""
BUSY_SECONDS = 1.5
"""What two busy cores may add."""


@pytest.fixture
def patient(tmp_path: Path) -> Iterator[Whole]:
    with whole(tmp_path, EmbeddedPostgres(prepared(tmp_path / "postgres")), {}) as made:
        yield made


@pytest.fixture
def hasty(tmp_path: Path) -> Iterator[Whole]:
    with whole(tmp_path, EmbeddedPostgres(prepared(tmp_path / "postgres")), SHORT) as made:
        yield made


def begun(ledger: Path, count: int) -> None:
    until(lambda: sum(entries(ledger, "begin").values()) >= count, 90.0, "the begin of every step")


def all_complete(runs: list[SyncRunHandle]) -> None:
    for run in runs:
        ended = run.wait(BACK_SECONDS)
        assert ended.state == run_pb2.RUN_STATE_COMPLETED, ended.reason


def test_a_coordinator_away_for_half_a_leases_ttl_leaves_every_step_running(patient: Whole) -> None:
    """With the times that are usual."""
    ledger, ready = patient.ledger("half"), patient.folder / "ready"
    given = {"ledger": str(ledger), "path": str(ready), "seconds": 2 * USUAL_TTL}
    runs = patient.client.start_many(flows.one_that_waits, [given] * STEPS)
    begun(ledger, STEPS)
    with patient.coordinator.down():
        last(USUAL_TTL / 4)
    patient.coordinator.wait_ready(USUAL_TTL / 4 * 3)
    assert not entries(ledger, "end")
    ready.touch()
    all_complete(runs)
    assert set(entries(ledger, "begin").values()) == {1}
    assert len(entries(ledger, "end")) == STEPS


def test_an_agent_whose_machine_vanishes_and_comes_back(hasty: Whole) -> None:
    ledger, ready = hasty.ledger("vanished"), hasty.folder / "ready"
    given = {"ledger": str(ledger), "path": str(ready), "seconds": 240.0}
    runs = hasty.client.start_many(flows.one_that_waits, [given] * (STEPS // 2))
    begun(ledger, STEPS // 2)
    vanished_at = time.time()
    hasty.agent_links[0].drop(requests=True, answers=True)
    # They end while the machine is away, and well before their leases do.
    ready.touch()
    all_complete(runs)
    stories = asyncio.run(_stories(hasty, runs))
    gone = [
        grants
        for story in stories
        for (_, step, _), grants in story.grants.items()
        if step == "waits" and grants[0].agent == "agent-1"
    ]
    assert gone, "none of the steps was on the agent that vanished"
    assert {grants[-1].agent for grants in gone} == {"agent-2"}
    moved = max(grants[1].at for grants in gone) / 1e6 - vanished_at
    assert moved < TTL + MARGIN + LOOKS_EVERY + BUSY_SECONDS

    late = sum(1 for line in ledger.read_text().splitlines() if line.startswith("end") and " waits 1 agent-1 " in line)
    assert late == len(gone), "they ended there too, before their leases did"
    assert _discarded(hasty) == 0
    hasty.agent_links[0].heal()
    until(lambda: _discarded(hasty) >= late, BACK_SECONDS, "an answer to every late result")
    assert [story.outputs for story in asyncio.run(_stories(hasty, runs))] == [story.outputs for story in stories]
    until(lambda: all(agent.state == 1 and not agent.leases for agent in hasty.client.list_agents()), BACK_SECONDS)


async def _stories(system: Whole, runs: list[SyncRunHandle]) -> list[RunStory]:
    async with Reader(system.server.dsn) as reader:
        return await reader.stories([run.id for run in runs])


def _discarded(system: Whole) -> int:
    return sum(agent.discarded_results for agent in system.client.list_agents() if agent.id == "agent-1")


def test_an_agent_that_is_cut_off_while_the_database_is_away_goes_on(hasty: Whole) -> None:
    """Also for longer than a lease lives: the coordinator renews, although it can commit no session."""
    ledger, ready = hasty.ledger("cut"), hasty.folder / "ready"
    given = {"ledger": str(ledger), "path": str(ready), "seconds": 60.0}
    runs = hasty.client.start_many(flows.one_that_waits, [given] * STEPS)
    begun(ledger, STEPS)
    hasty.server.stop(StopMode.IMMEDIATE)
    until(lambda: hasty.coordinator.readiness(), BACK_SECONDS, "a coordinator that says that it is not ready")
    for link in hasty.agent_links:
        link.cut()
    last(TTL + MARGIN + LOOKS_EVERY)
    assert hasty.told().count("session_goes_on") >= len(hasty.agent_links)
    hasty.server.start()
    until(hasty.coordinator.is_ready, BACK_SECONDS, "a coordinator that is ready again")
    ready.touch()
    all_complete(runs)
    ran = entries(ledger, "begin")
    assert len(ran) == STEPS
    assert set(ran.values()) == {1}
    assert entries(ledger, "end") == ran
    stories = asyncio.run(_stories(hasty, runs))
    assert {len(grants) for story in stories for grants in story.grants.values()} == {1}
    after = hasty.client.start(flows.five_steps, {"ledger": str(ledger), "seconds": 0.0})
    all_complete([after])

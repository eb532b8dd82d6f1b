"""Streams between agents and coordinators of former builds: with one side of this build, the other side is served as it
was."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.integration.runtime.conftest import World
from tests.replay.playing_the_agent import PlayedAgent
from tests.replay.playing_the_coordinator import PlayedCoordinator
from tests.replay.stories import Agents, House
from tests.replay.tapes import STREAMS, load

TAPES = sorted(STREAMS.glob("*/*.json"))


def name_of(path: Path) -> str:
    return f"{path.parent.name}/{path.stem}"


def test_everything_that_is_said_on_a_stream_is_on_the_tapes() -> None:
    said = {(line.who, line.body) for path in TAPES for line in load(path).lines if line.cue is None}
    assert {body for who, body in said if who == "agent"} == {
        "hello", "credits", "leases_accepted", "leases_rejected", "heartbeat", "results", "returned", "draining",
        "goodbye",
    }  # fmt: skip
    assert {body for who, body in said if who == "coordinator"} >= {
        "welcome", "lease_verdicts", "lease_grants", "heartbeat_ack", "result_acks", "cancel", "return_leases",
        "drain", "goaway",
    }  # fmt: skip


@pytest.mark.parametrize("path", TAPES, ids=name_of)
async def test_this_coordinator_serves_that_agent(path: Path) -> None:
    house = House(World())
    await house.raise_coordinator()
    agent = PlayedAgent(load(path), house)
    try:
        await agent.play()
    finally:
        await agent.close()
        await house.world.close()


@pytest.mark.parametrize("path", TAPES, ids=name_of)
async def test_this_agent_serves_that_coordinator(path: Path, tmp_path: Path) -> None:
    tape = load(path)
    coordinator = PlayedCoordinator(tape)
    await coordinator.start()
    coordinator.agents = Agents(coordinator.address, tmp_path / "agent", tape.slots)
    try:
        await coordinator.agents.start()
        await coordinator.play()
        coordinator.check()
    finally:
        await coordinator.agents.close()
        await coordinator.stop()

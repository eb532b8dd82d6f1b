"""Why a step is not running, on the real wire: what the coordinator knows of agents, and of runs that are at rest."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tests.integration.runtime.test_runs import spec

from penstock_coordinator.core.run.events import WHOLE
from penstock_coordinator.runtime.explaining import explain_steps
from penstock_coordinator.runtime.views import UnknownRun, UnknownStepRun

if TYPE_CHECKING:
    from tests.integration.runtime.conftest import Coordinator, World

    from penstock_coordinator.ports import RunId

PICKY: dict[str, object] = {"name": "a", "queue": "gpu", "labels": {"zone": "eu"}, "resources": {"gpu": 2}}


async def reasons(coordinator: Coordinator, run_id: RunId, step: int = 0, item: int = WHOLE) -> list[tuple[str, str]]:
    found = await explain_steps(coordinator.supervisor, run_id, step, item)
    return [(reason.kind, reason.message) for each in found.steps for reason in each.reasons]


async def test_without_agents_the_answer_says_what_is_needed(world: World) -> None:
    coordinator = await world.coordinator()
    run_id = await coordinator.start(spec(PICKY))
    ((kind, message),) = await reasons(coordinator, run_id)
    assert kind == "NoAgent"
    needed = 'serves the queue "gpu", has the label zone=eu and has 2 of gpu'
    assert message == f"No agent is connected. It needs an agent that {needed}."


async def test_an_agent_that_cannot_serve_is_named_with_what_it_lacks(world: World) -> None:
    coordinator = await world.coordinator()
    run_id = await coordinator.start(spec(PICKY))
    agent = coordinator.agent("a1")
    agent.queues, agent.labels, agent.resources = ["default", "gpu"], {"zone": "us"}, {"gpu": 1.0}
    await agent.connect(credits=4)
    ((kind, message),) = await reasons(coordinator, run_id)
    assert kind == "NoAgent"
    assert "a1 has zone=us, not zone=eu and has 1 of gpu, not 2" in message


async def test_a_busy_agent_is_named_and_who_runs_is_running(world: World) -> None:
    coordinator = await world.coordinator()
    agent = coordinator.agent("a1", slots=1)
    await agent.connect(credits=1)
    run_id = await coordinator.start(spec({"name": "a"}, {"name": "b"}))
    await agent.grant()
    assert [kind for kind, _ in await reasons(coordinator, run_id, 0)] == ["Running"]
    ((kind, message),) = await reasons(coordinator, run_id, 1)
    assert (kind, "a1 (1 under way, 1 slot)" in message) == ("AgentsBusy", True)


async def test_a_run_at_rest_tells_how_its_steps_came_to_it(world: World) -> None:
    coordinator = await world.coordinator()
    skipped: dict[str, object] = {"name": "a", "when": "params.n > 3"}
    run_id = await coordinator.start(
        spec(skipped, {"name": "b", "depends_on": ["a"]}, parameters=[{"name": "n", "type": "PARAMETER_TYPE_INT"}]),
        b'{"n": 2}',
    )
    await coordinator.ended(run_id)
    assert await reasons(coordinator, run_id, 0) == [
        ("AtRest", "It is SKIPPED."),
        ("When", "Its condition was false: params.n > 3 (params.n is 2)."),
    ]
    found = await explain_steps(coordinator.supervisor, run_id, None, WHOLE)
    assert ([reason.kind for reason in found.reasons], found.steps) == (["AtRest"], [])


async def test_what_is_not_there_is_said_to_be_so(world: World) -> None:
    coordinator = await world.coordinator()
    run_id = await coordinator.start(spec({"name": "a"}))
    with pytest.raises(UnknownStepRun):
        await explain_steps(coordinator.supervisor, run_id, 0, 3)
    with pytest.raises(UnknownRun):
        await explain_steps(coordinator.supervisor, bytes(16), 0, WHOLE)


async def test_a_step_run_that_failed_tells_why(world: World) -> None:
    coordinator = await world.coordinator()
    agent = coordinator.agent("a1")
    await agent.connect(credits=4)
    run_id = await coordinator.start(spec({"name": "a"}, {"name": "m", "map": {"values": [1]}}))
    for _ in range(2):
        await agent.fail(await agent.grant(), "Odd")
    await coordinator.ended(run_id)
    ((kind, message),) = await reasons(coordinator, run_id)
    assert (kind, message.startswith("It is FAILED: ")) == ("AtRest", True)
    (_, whole), (_, counts) = await reasons(coordinator, run_id, 1)
    assert "m[0]" in whole
    assert counts == "Its 1 item: 1 FAILED."


async def test_a_secret_that_nobody_keeps_is_named_with_the_remedy(world: World) -> None:
    coordinator = await world.coordinator()
    named: dict[str, object] = {"name": "a", "secrets": [{"name": "api-key"}, {"name": "kept"}]}
    await coordinator.stores.secrets.put("kept", "k1", b"sealed", 1)
    run_id = await coordinator.start(spec(named, {"name": "b"}))
    (secret,) = [message for kind, message in await reasons(coordinator, run_id) if kind == "Secret"]
    assert 'It names the secret "api-key", which the coordinator does not keep' in secret
    assert "PENSTOCK_SECRET_API_KEY" in secret
    assert "`penstock secrets set api-key`" in secret
    assert "Secret" not in [kind for kind, _ in await reasons(coordinator, run_id, 1)]
    await coordinator.stores.secrets.put("api-key", "k1", b"sealed", 2)
    assert "Secret" not in [kind for kind, _ in await reasons(coordinator, run_id)]
    await coordinator.stores.secrets.delete("api-key")
    agent = coordinator.agent("a1")
    await agent.connect(credits=4)
    await agent.grant()
    assert [kind for kind, _ in await reasons(coordinator, run_id)] == ["Running"], "the agent has said what it has"

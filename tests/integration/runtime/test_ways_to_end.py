"""How steps, items and runs come to their end when something on the way ends badly: clocks, losses, lists, rules."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from typing import TYPE_CHECKING, Any

from google.protobuf import json_format
from tests.integration.runtime.test_runs import spec, states

from penstock.agent.v1 import agent_service_pb2 as wire
from penstock.v1.pipeline_pb2 import PipelineSpec
from penstock_coordinator.core.run.states import RunState, StepState

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.integration.runtime.conftest import Coordinator, World
    from tests.integration.runtime.scripted_agent import ScriptedAgent

_STATUSES = {
    "timeout": wire.RESULT_STATUS_TIMED_OUT,
    "expired": wire.RESULT_STATUS_LEASE_EXPIRED,
    "stopped": wire.RESULT_STATUS_CANCELLED,
}
HANG = "hang"
"""The attempt goes on until it is stopped."""


class Playing:
    """An agent's part: what each step run gives, attempt by attempt; null, where nothing is said."""

    def __init__(self, agent: ScriptedAgent, parts: dict[str, list[str]]) -> None:
        self._agent = agent
        self._parts = {name: deque(part) for name, part in parts.items()}

    async def work(self) -> None:
        while True:
            await self._agent.until(lambda: bool(self._agent.grants or self._to_stop()))
            for lease in self._to_stop():
                await self._end(lease, "stopped")
            if self._agent.grants:
                grant = await self._agent.grant()
                part = self._parts.get(grant.display_name)
                await self._play(grant, part.popleft() if part else "null")

    def _to_stop(self) -> list[wire.LeaseRef]:
        held = [each.lease for each in self._agent.held]
        return [cancel.lease for cancel in self._agent.cancels if cancel.lease in held]

    async def _play(self, grant: wire.LeaseGrant, part: str) -> None:
        if part == "fail":
            await self._agent.fail(grant)
        elif part in _STATUSES:
            await self._end(grant.lease, part)
        elif part != HANG:
            await self._agent.succeed(grant, part.encode())

    async def _end(self, lease: wire.LeaseRef, how: str) -> None:
        self._agent.held = [each for each in self._agent.held if each.lease != lease]
        result = wire.StepResult(lease=lease, result_id=lease.token.to_bytes(16, "big"), status=_STATUSES[how])
        result.error.reason, result.error.message = how.title(), "as it was told to"
        await self._agent.say(results=wire.Results(results=[result]))


@contextlib.asynccontextmanager
async def playing(coordinator: Coordinator, **parts: list[str]) -> AsyncIterator[None]:
    agent = coordinator.agent(slots=100)
    await agent.connect(credits=1_000)
    work = asyncio.create_task(Playing(agent, parts).work())
    try:
        yield
    finally:
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)


async def outcome(world: World, made: PipelineSpec, parts: dict[str, list[str]]) -> tuple[RunState, list[StepState]]:
    coordinator = await world.coordinator()
    async with playing(coordinator, **parts):
        run_id = await coordinator.start(made)
        ended = await coordinator.ended(run_id)
    return RunState(ended.row.state), await states(coordinator, run_id)


def pipeline(*steps: dict[str, Any], **fields: Any) -> PipelineSpec:
    return spec(*steps, **fields)


def after(*names: str, **more: Any) -> dict[str, Any]:
    return {"dependsOn": list(names), **more}


RETRIED = {"retry": {"maxAttempts": 3, "initialBackoff": "0.020s"}}


async def test_an_attempt_waits_for_its_turn_after_a_failure(world: World) -> None:
    made = pipeline({"name": "a", **RETRIED}, {"name": "b", **after("a")})
    assert await outcome(world, made, {"a": ["fail", "timeout", "1"]}) == (
        RunState.COMPLETED,
        [StepState.COMPLETED] * 2,
    )


async def test_the_last_attempt_decides(world: World) -> None:
    made = pipeline({"name": "a", **RETRIED}, {"name": "b", **after("a")})
    state, steps = await outcome(world, made, {"a": ["fail", "expired", "fail", "fail"]})
    assert (state, steps) == (RunState.FAILED, [StepState.FAILED, StepState.UPSTREAM_FAILED])


async def test_a_step_has_a_time_for_all_its_attempts(world: World) -> None:
    made = pipeline({"name": "a", "timeouts": {"overall": "0.100s"}, "allowFailure": True}, {"name": "b", **after("a")})
    state, steps = await outcome(world, made, {"a": [HANG]})
    assert (state, steps) == (RunState.COMPLETED, [StepState.FAILED, StepState.COMPLETED])


async def test_a_run_has_a_time_for_all_its_steps(world: World) -> None:
    made = pipeline({"name": "a"}, {"name": "c", "cleanup": True}, timeout="0.200s", stopGrace="1s")
    assert await outcome(world, made, {"a": [HANG]}) == (RunState.FAILED, [StepState.CANCELLED, StepState.COMPLETED])


async def test_the_first_failure_ends_the_others(world: World) -> None:
    made = pipeline(
        {"name": "a"}, {"name": "b"}, {"name": "c", **after("b")}, {"name": "d", "cleanup": True}, failFast=True
    )
    state, steps = await outcome(world, made, {"a": ["fail"], "b": [HANG]})
    assert state is RunState.FAILED
    assert steps == [StepState.FAILED, StepState.CANCELLED, StepState.CANCELLED, StepState.COMPLETED]


async def test_items_end_in_every_way(world: World) -> None:
    items = {"name": "m", "map": {"values": [1, 2, 3]}}
    along = {"name": "n", "map": {"step": {"step": "m"}}, "inputs": {"i": {"item": {}}}, "when": "item != 2"}
    made = pipeline(
        items, along,
        {"name": "o", "map": {"step": {"step": "n"}}},
        {"name": "p", **after("n"), "triggerRule": "TRIGGER_RULE_ALL_DONE"},
    )  # fmt: skip
    state, steps = await outcome(world, made, {"m[0]": ["fail"], "m[1]": ["2"], "m[2]": ["3"]})
    assert state is RunState.FAILED
    assert (steps[0], steps[-1]) == (StepState.FAILED, StepState.COMPLETED)


async def test_lists_are_of_every_kind(world: World) -> None:
    over = {"map": {"step": {"step": "m"}, "nested": {}}}
    made = pipeline(
        {"name": "m", "map": {"values": [1, 2, 3, 4]}, "allowFailure": True},
        {"name": "n", **over},
        {"name": "o", **over, "when": "item == 7"},
        {"name": "p", "map": {"step": {"step": "empty"}}},
        {"name": "empty"},
        {"name": "q", "map": {"step": {"step": "none"}}, "allowFailure": True},
        {"name": "none"},
        {"name": "r", "map": {"values": [1]}, "when": "1 == 2"},
    )
    parts = {"m[0]": ["[7, 8]"], "m[1]": ["[]"], "m[2]": ["fail"], "m[3]": ["5"], "empty": ["[]"], "none": ["5"]}
    state, _ = await outcome(world, made, parts)
    assert state is RunState.FAILED


CHILD = pipeline({"name": "work"}, name="child")


async def test_runs_below_end_badly_and_are_tried_again(world: World) -> None:
    coordinator = await world.coordinator()
    await coordinator.create(CHILD)
    top = {"name": "top", "steps": [{"name": "c", "pipeline": {"name": "child"}, **RETRIED}]}
    async with playing(coordinator, work=["fail", "fail", "1"]):
        run_id = await coordinator.start(json_format.ParseDict(top, PipelineSpec()))
        assert (await coordinator.ended(run_id)).row.state == RunState.COMPLETED


async def test_a_held_run_and_a_new_generation_begin_their_clocks_anew(world: World) -> None:
    coordinator = await world.coordinator()
    made = pipeline({"name": "a"}, maxActiveRuns=1, timeout="100s")
    first, second = [await coordinator.start(made) for _ in range(2)]
    async with playing(coordinator, a=["1", "fail", "1"]):
        await coordinator.ended(first)
        assert (await coordinator.ended(second)).row.state == RunState.FAILED
        await coordinator.engine.retry_run(second, "ann", "", None, 0)
        assert (await coordinator.ended(second)).row.state == RunState.COMPLETED


async def test_who_waits_in_between_is_found_by_the_next_coordinator(world: World) -> None:
    coordinator = await world.coordinator()
    waiting = {"retry": {"maxAttempts": 2, "initialBackoff": "2s"}}
    made = pipeline({"name": "a", **waiting}, {"name": "m", "map": {"values": [1, 2]}, **waiting}, timeout="100s")
    agent = coordinator.agent()
    await agent.connect(credits=100)
    run_id = await coordinator.start(made)
    for _ in range(2):
        await agent.acked(await agent.fail(await agent.grant()))
    await agent.grant()
    await coordinator.kill()
    again = await world.coordinator()
    back = again.agent()
    back.held = agent.held
    await back.connect(credits=100)
    await back.fail(wire.LeaseGrant(lease=agent.held[0].lease, attempt=1))
    for _ in range(3):
        await back.succeed(await back.grant())
    assert (await again.ended(run_id)).row.state == RunState.COMPLETED

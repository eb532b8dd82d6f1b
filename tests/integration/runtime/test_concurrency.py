"""Limits on concurrency through the runtime: held runs, keyed steps, their policies, and restarts in between."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from tests.integration.runtime.test_runs import spec, states

from penstock.agent.v1 import agent_service_pb2 as wire
from penstock_coordinator.core.run.states import RunState, StepState
from penstock_coordinator.ports import Origin, Repeated, RequestKey
from penstock_coordinator.runtime.views import RunRequest

if TYPE_CHECKING:
    import pytest
    from tests.integration.runtime.conftest import Coordinator, World
    from tests.integration.runtime.scripted_agent import ScriptedAgent

    from penstock_coordinator.ports import RunId

ONE_STEP: dict[str, object] = {"name": "a"}


async def _state(coordinator: Coordinator, run_id: RunId) -> RunState:
    return RunState((await coordinator.engine.run(run_id)).row.state)


async def _stopped(agent: ScriptedAgent, lease: wire.LeaseRef) -> None:
    """The agent is asked to stop the attempt, and does."""
    await agent.until(lambda: any(cancel.lease == lease for cancel in agent.cancels))
    result = wire.StepResult(lease=lease, attempt=1, result_id=b"r" * 16, status=wire.RESULT_STATUS_CANCELLED)
    agent.held = [held for held in agent.held if held.lease != lease]
    await agent.say(results=wire.Results(results=[result]))


async def _no_grant(agent: ScriptedAgent) -> None:
    """Whatever was to be granted has been sent before the answer to a heartbeat."""
    await agent.beat()
    assert not agent.grants


# --- runs


async def test_max_active_runs_holds_the_others_in_order(world: World) -> None:
    coordinator = await world.coordinator()
    agent = coordinator.agent(slots=10)
    await agent.connect(credits=100)
    runs = [await coordinator.start(spec(ONE_STEP, max_active_runs=2)) for _ in range(5)]
    await agent.until(lambda: len(agent.grants) == 2)
    assert [await _state(coordinator, run) for run in runs] == [RunState.RUNNING] * 2 + [RunState.PENDING] * 3
    explanation = await coordinator.engine.explain(runs[3], None, -1)
    assert [reason.kind for reason in explanation.reasons] == ["RunHeld"]
    assert explanation.reasons[0].details["key"] == "pipeline:p"
    assert explanation.reasons[0].details["ahead"] == 1
    assert len(explanation.reasons[0].details["holders"]) == 2
    order = []
    for _ in runs:
        grant = await agent.grant()
        order.append(grant.lease.run_id)
        await agent.acked(await agent.succeed(grant))
        assert len(agent.held) <= 2
    assert order == runs
    for run in runs:
        assert (await coordinator.ended(run)).row.state == RunState.COMPLETED


async def test_a_held_run_can_be_cancelled(world: World) -> None:
    coordinator = await world.coordinator()
    first, second, third = [await coordinator.start(spec(ONE_STEP, max_active_runs=1)) for _ in range(3)]
    await coordinator.engine.cancel_run(second, False, "enough", None)
    assert (await coordinator.ended(second)).row.state == RunState.CANCELLED
    await coordinator.engine.cancel_run(first, False, "enough", None)
    await coordinator.ended(first)
    agent = coordinator.agent()
    await agent.connect()
    assert (await agent.grant()).lease.run_id == third


async def test_priority_comes_before_the_order_of_starts(world: World) -> None:
    coordinator = await world.coordinator()
    made = spec(ONE_STEP, max_active_runs=1)
    first = await coordinator.start(made)
    late = [await coordinator.start(made, origin=Origin(priority=priority)) for priority in (0, 7, 3)]
    agent = coordinator.agent()
    await agent.connect(credits=100)
    order = []
    for _ in range(4):
        grant = await agent.grant()
        order.append(grant.lease.run_id)
        await agent.succeed(grant)
    assert order == [first, late[1], late[2], late[0]]


def _keyed(policy: str, limit: int = 1, **fields: object) -> dict[str, object]:
    return {"concurrency": {"key": "k", "limit": limit, "policy": f"CONCURRENCY_POLICY_{policy}"}, **fields}


async def test_cancel_newest_ends_the_newcomer_in_its_first_record(world: World) -> None:
    coordinator = await world.coordinator()
    made = spec(ONE_STEP, {"name": "tidy", "cleanup": True}, **_keyed("CANCEL_NEWEST"))
    first = await coordinator.start(made)
    second = await coordinator.start(made)
    view = await coordinator.ended(second)
    assert view.row.state == RunState.CANCELLED
    assert 'the limit of 1 under the key "k" is reached' in view.row.reason
    assert len(await coordinator.stores.journal.read(second)) == 1
    assert await _state(coordinator, first) == RunState.PENDING
    assert (await coordinator.engine.run(first)).counts.ready == 1


async def test_cancel_oldest_makes_place_for_the_newcomer(world: World) -> None:
    coordinator = await world.coordinator()
    agent = coordinator.agent(slots=10)
    await agent.connect(credits=100)
    made = spec(ONE_STEP, **_keyed("CANCEL_OLDEST"))
    first = await coordinator.start(made)
    grant = await agent.grant()
    second, third = await coordinator.start(made), await coordinator.start(made)
    assert (await coordinator.ended(second)).row.state == RunState.CANCELLED
    await _no_grant(agent)
    await _stopped(agent, grant.lease)
    view = await coordinator.ended(first)
    assert view.row.state == RunState.CANCELLED
    assert "newer run" in view.row.reason
    last = await agent.grant()
    assert last.lease.run_id == third
    await agent.succeed(last)
    assert (await coordinator.ended(third)).row.state == RunState.COMPLETED


async def test_a_key_of_the_parameters_is_shared_by_those_that_have_it(world: World) -> None:
    coordinator = await world.coordinator()
    made = spec(
        ONE_STEP,
        parameters=[{"name": "tenant", "type": "PARAMETER_TYPE_STRING"}],
        concurrency={"key_expression": "'tenant-' + params.tenant"},
    )
    runs = [await coordinator.start(made, b'{"tenant": "%s"}' % tenant) for tenant in (b"x", b"y", b"x")]
    held = [(await coordinator.engine.run(run)).counts.pending for run in runs]
    assert held == [0, 0, 1]


async def test_held_runs_and_their_limit_survive_a_crash(world: World) -> None:
    first = await world.coordinator()
    agent = first.agent(slots=10)
    await agent.connect(credits=100)
    runs = [await first.start(spec(ONE_STEP, max_active_runs=2)) for _ in range(6)]
    grants = [await agent.grant(), await agent.grant()]
    held = agent.held
    await first.kill()
    second = await world.coordinator()
    back = second.agent(slots=10)
    back.held = held
    await back.connect(credits=100)
    await back.until(lambda: len(back.verdicts) == 2)
    await _no_grant(back)
    for grant in grants:
        await back.succeed(grant)
    for _ in range(4):
        grant = await back.grant()
        await back.acked(await back.succeed(grant))
        assert len(back.held) <= 2
    for run in runs:
        assert (await second.ended(run)).row.state == RunState.COMPLETED


async def test_the_oldest_is_cancelled_after_a_crash_too(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The newcomer is in the journal, and the cancel that it asks for is not."""
    first = await world.coordinator()
    agent = first.agent(slots=10)
    await agent.connect(credits=100)
    made = spec(ONE_STEP, **_keyed("CANCEL_OLDEST"))
    oldest = await first.start(made)
    grant = await agent.grant()
    held = agent.held
    monkeypatch.setattr(first.supervisor.limits, "started", lambda _: None)
    newest = await first.start(made)
    await first.kill()
    second = await world.coordinator()
    back = second.agent(slots=10)
    back.held = held
    await back.connect(credits=100)
    await _stopped(back, grant.lease)
    assert (await second.ended(oldest)).row.state == RunState.CANCELLED
    await back.succeed(await back.grant())
    assert (await second.ended(newest)).row.state == RunState.COMPLETED


async def test_a_paused_run_keeps_its_place(world: World) -> None:
    coordinator = await world.coordinator()
    made = spec(ONE_STEP, max_active_runs=1)
    first, second = await coordinator.start(made), await coordinator.start(made)
    for run in (first, second):
        await coordinator.engine.pause_run(run, "ann", "lunch", None)
    agent = coordinator.agent()
    await agent.connect(credits=10)
    await _no_grant(agent)
    assert (await coordinator.engine.run(second)).held_by_key == "pipeline:p"
    await coordinator.engine.resume_run(second, "ann", None)
    await _no_grant(agent)
    await coordinator.engine.resume_run(first, "ann", None)
    for run in (first, second):
        grant = await agent.grant()
        assert grant.lease.run_id == run
        await agent.succeed(grant)
        await coordinator.ended(run)


async def test_a_repeated_start_takes_no_place(world: World) -> None:
    coordinator = await world.coordinator()
    made = spec(ONE_STEP, max_active_runs=2)
    key = RequestKey("", "start", "one", b"same")
    await coordinator.start(made, request=key)
    version = await coordinator.create(made)
    plan = await coordinator.engine.plan(version.digest)
    request = RunRequest(plan, version, b"{}", (), (), key)
    (again,) = await coordinator.engine.start_runs([request])
    assert isinstance(again, Repeated)
    agent = coordinator.agent(slots=10)
    await agent.connect(credits=100)
    await coordinator.start(made)
    await agent.grant()
    await agent.grant()


async def test_a_thousand_held_runs_are_accepted_fast(world: World) -> None:
    coordinator = await world.coordinator()
    made = spec(ONE_STEP, max_active_runs=10)
    version = await coordinator.create(made)
    plan = await coordinator.engine.plan(version.digest)
    async with asyncio.timeout(60):
        runs = await coordinator.engine.start_runs([RunRequest(plan, version, b"{}", (), (), None)] * 1_000)
    agent = coordinator.agent(slots=100)
    await agent.connect(credits=10_000)
    order = []
    for _ in range(1_000):
        grant = await agent.grant()
        order.append(grant.lease.run_id)
        await agent.succeed(grant)
        assert len(agent.held) <= 10
    assert sorted(order) == sorted(runs)  # type: ignore[type-var]  # none is a repetition
    for run in runs:
        assert isinstance(run, bytes)
        await coordinator.ended(run)


# --- steps


def _step(policy: str = "QUEUE", limit: int = 1, **fields: object) -> dict[str, object]:
    return {"name": "a", **_keyed(policy, limit), **fields}


async def test_steps_of_different_runs_share_a_key(world: World) -> None:
    coordinator = await world.coordinator()
    agent = coordinator.agent(slots=10)
    await agent.connect(credits=100)
    made = spec(_step(limit=2), {"name": "free"})
    runs = [await coordinator.start(made) for _ in range(4)]
    names: dict[str, list[wire.LeaseGrant]] = {"a": [], "free": []}
    for _ in range(6):
        grant = await agent.grant()
        names[grant.step_name].append(grant)
    await _no_grant(agent)
    assert len(names["a"]) == 2
    assert len(names["free"]) == 4
    waiting = next(run for run in runs if run not in {grant.lease.run_id for grant in names["a"]})
    explanation = await coordinator.engine.explain(waiting, 0, -1)
    (reason,) = [reason for reason in explanation.steps[0].reasons if reason.kind == "Concurrency"]
    assert reason.details["key"] == "k"
    assert [holder["step"] for holder in reason.details["holders"]] == ["a", "a"]
    for grant in names["free"]:
        await agent.succeed(grant)
    for number in range(4):
        grant = names["a"].pop(0)
        await agent.acked(await agent.succeed(grant))
        if number < 2:
            names["a"].append(await agent.grant())
    for run in runs:
        assert (await coordinator.ended(run)).row.state == RunState.COMPLETED


async def test_items_of_a_map_share_the_key_of_their_step(world: World) -> None:
    coordinator = await world.coordinator()
    agent = coordinator.agent(slots=10)
    await agent.connect(credits=100)
    made = spec(_step(limit=3, map={"values": list(range(20))}))
    run_id = await coordinator.start(made)
    for _ in range(20):
        grant = await agent.grant()
        assert len(agent.held) <= 3
        await agent.acked(await agent.succeed(grant))
    assert (await coordinator.ended(run_id)).row.state == RunState.COMPLETED


async def test_who_waits_for_agents_keeps_nobody_from_a_key(world: World) -> None:
    coordinator = await world.coordinator()
    await coordinator.start(spec(_step(queue="gpu")))
    agent = coordinator.agent()
    await agent.connect(credits=10)
    other = await coordinator.start(spec(_step()))
    grant = await agent.grant()
    assert grant.lease.run_id == other
    gpu = coordinator.agent("gpu-1")
    gpu.queues = ["gpu"]
    await gpu.connect(credits=10)
    await _no_grant(gpu)
    await agent.succeed(grant)
    await gpu.succeed(await gpu.grant())


async def test_a_step_in_backoff_holds_nothing(world: World) -> None:
    coordinator = await world.coordinator()
    agent = coordinator.agent()
    await agent.connect(credits=10)
    made = spec(_step(retry={"max_attempts": 2, "initial_backoff": "3600s"}))
    first = await coordinator.start(made)
    await agent.fail(await agent.grant())
    second = await coordinator.start(made)
    assert (await agent.grant()).lease.run_id == second
    assert await states(coordinator, first) == [StepState.WAITING]


async def test_cancel_newest_displaces_what_finds_no_place(world: World) -> None:
    coordinator = await world.coordinator()
    agent = coordinator.agent(slots=10)
    await agent.connect(credits=100)
    holder = await coordinator.start(spec(_step()))
    grant = await agent.grant()
    plain = spec(_step("CANCEL_NEWEST"), {"name": "after", "depends_on": ["a"]})
    view = await coordinator.ended(await coordinator.start(plain))
    assert view.row.state == RunState.FAILED
    assert "Displaced" in view.row.reason
    step, _ = await coordinator.engine.step_run(view.row.run_id, 0, -1)
    assert step.state == StepState.CANCELLED
    assert step.failure is not None
    assert step.failure.reason == "Displaced"
    allowed = spec(_step("CANCEL_NEWEST", allow_failure=True), {"name": "after", "depends_on": ["a"]})
    run_id = await coordinator.start(allowed)
    after = await agent.grant()
    assert after.step_name == "after"
    await agent.succeed(after)
    assert (await coordinator.ended(run_id)).row.state == RunState.COMPLETED
    await agent.succeed(grant)
    assert (await coordinator.ended(holder)).row.state == RunState.COMPLETED


async def test_cancel_newest_waits_for_agents_and_not_for_places(world: World) -> None:
    coordinator = await world.coordinator()
    made = spec(_step("CANCEL_NEWEST"))
    first, second = await coordinator.start(made), await coordinator.start(made)
    assert await states(coordinator, first) == await states(coordinator, second) == [StepState.READY]
    agent = coordinator.agent()
    await agent.connect(credits=10)
    grant = await agent.grant()
    other = second if grant.lease.run_id == first else first
    assert (await coordinator.ended(other)).row.state == RunState.FAILED
    await agent.succeed(grant)


async def test_cancel_oldest_stops_the_holder(world: World) -> None:
    coordinator = await world.coordinator()
    agent = coordinator.agent(slots=10)
    await agent.connect(credits=100)
    made = spec(_step("CANCEL_OLDEST"))
    first = await coordinator.start(made)
    grant = await agent.grant()
    second = await coordinator.start(made)
    await agent.until(lambda: bool(agent.cancels))
    await _no_grant(agent)
    await _stopped(agent, grant.lease)
    newer = await agent.grant()
    assert newer.lease.run_id == second
    assert (await coordinator.ended(first)).row.state == RunState.FAILED
    await agent.succeed(newer)
    assert (await coordinator.ended(second)).row.state == RunState.COMPLETED


async def test_a_step_that_holds_a_key_holds_it_after_a_crash(world: World) -> None:
    first = await world.coordinator()
    agent = first.agent(slots=10)
    await agent.connect(credits=100)
    runs = [await first.start(spec(_step())) for _ in range(3)]
    grant = await agent.grant()
    held = agent.held
    await first.kill()
    second = await world.coordinator()
    fresh = second.agent("agent-2", slots=10)
    await fresh.connect(credits=100)
    await _no_grant(fresh)
    back = second.agent(slots=10)
    back.held = held
    await back.connect(credits=0)
    await back.succeed(grant)
    for _ in range(2):
        await fresh.acked(await fresh.succeed(await fresh.grant()))
        assert len(fresh.held) <= 1
    for run in runs:
        assert (await second.ended(run)).row.state == RunState.COMPLETED


async def test_a_displaced_step_is_stopped_after_a_crash(world: World) -> None:
    first = await world.coordinator()
    agent = first.agent(slots=10)
    await agent.connect(credits=100)
    made = spec(_step("CANCEL_OLDEST"))
    oldest = await first.start(made)
    grant = await agent.grant()
    await first.start(made)
    await agent.until(lambda: bool(agent.cancels))
    held = agent.held
    await first.kill()
    second = await world.coordinator()
    back = second.agent(slots=10)
    back.held = held
    await back.connect(credits=100)
    await _stopped(back, grant.lease)
    assert (await second.ended(oldest)).row.state == RunState.FAILED
    await back.succeed(await back.grant())


async def test_a_lost_append_loses_no_place(world: World) -> None:
    """The turn that leased the step is thrown away: its place is for whoever is next, once."""
    coordinator = await world.coordinator()
    runs = [await coordinator.start(spec(_step())) for _ in range(3)]
    refused: list[RunId] = []

    def refuse(record: object) -> str | None:
        if not refused and getattr(record, "first_seq", 0) > 1:
            refused.append(record.run_id)  # type: ignore[attr-defined]  # a record
            return "a fault"
        return None

    coordinator.stores.faults.refuse = refuse
    agent = coordinator.agent(slots=10)
    await agent.connect(credits=100)
    for _ in range(3):
        grant = await agent.grant()
        assert len(agent.held) == 1
        await agent.acked(await agent.succeed(grant))
    assert refused
    for run in runs:
        assert (await coordinator.ended(run)).row.state == RunState.COMPLETED

"""Runs through the runtime: from a start to results, through losses and restarts."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

import grpc
import pytest
from google.protobuf import json_format

from penstock.agent.v1 import agent_service_pb2 as wire
from penstock.v1.pipeline_pb2 import PipelineSpec
from penstock_coordinator.core.run.decide import decide
from penstock_coordinator.core.run.events import Charge, LeaseLost, StepsLeased
from penstock_coordinator.core.run.states import RunState, StepState
from penstock_coordinator.ports import Fenced, RequestKey
from penstock_coordinator.runtime import actor as actor_module
from penstock_coordinator.runtime.supervisor import Timing
from penstock_coordinator.runtime.views import Stopping

if TYPE_CHECKING:
    from tests.integration.runtime.conftest import Coordinator, World

    from penstock_coordinator.core.run.ledger import Ledger
    from penstock_coordinator.core.run.messages import Message
    from penstock_coordinator.core.run.state import Run


def spec(*steps: dict[str, object], **fields: object) -> PipelineSpec:
    made = [{"command": {"argv": ["true"]}, **step} for step in steps]
    return json_format.ParseDict({"name": "p", "steps": made, **fields}, PipelineSpec())


CHAIN = spec(
    {"name": "a"},
    {"name": "b", "inputs": {"x": {"step": {"step": "a", "path": ["v"]}}}},
    {"name": "c", "inputs": {"y": {"step": {"step": "b"}}}},
)


async def states(coordinator: Coordinator, run_id: bytes) -> list[StepState]:
    views = await coordinator.engine.step_runs(run_id, None, frozenset(), None, 100)
    return [StepState(view.state) for view in views]


async def test_a_chain_hands_outputs_on(world: World) -> None:
    coordinator = await world.coordinator()
    agent = coordinator.agent()
    await agent.connect(credits=10)
    run_id = await coordinator.start(CHAIN)
    first = await agent.grant()
    assert first.step_name == "a"
    assert first.attempt == 1
    ack = await agent.acked(await agent.succeed(first, b'{"v": 7}'))
    assert ack.status == wire.RESULT_ACK_STATUS_COMMITTED
    second = await agent.grant()
    assert dict(second.inputs) == {"x": b"7"}
    await agent.succeed(second, b"[1,2]")
    third = await agent.grant()
    assert dict(third.inputs) == {"y": b"[1,2]"}
    await agent.succeed(third)
    view = await coordinator.ended(run_id)
    assert view.row.state == RunState.COMPLETED
    assert view.counts.completed == 3
    detail, attempts = await coordinator.engine.step_run(run_id, 1, -1)
    assert detail.output == b"[1,2]"
    assert [attempt.number for attempt in attempts] == [1]


async def test_a_result_and_the_next_lease_are_one_record(world: World) -> None:
    coordinator = await world.coordinator()
    agent = coordinator.agent()
    await agent.connect(credits=10)
    await agent.beat()
    run_id = await coordinator.start(CHAIN)
    await agent.acked(await agent.succeed(await agent.grant(), b'{"v": 1}'))
    await agent.grant()
    records = await coordinator.stores.journal.read(run_id)
    assert len(records) == 2, "StartRun with the first lease, then the result with the second"


async def test_a_map_runs_its_items_and_joins_their_outputs(world: World) -> None:
    coordinator = await world.coordinator()
    agent = coordinator.agent(slots=8)
    await agent.connect(credits=100)
    mapped = spec(
        {"name": "m", "map": {"values": [10, 20, 30]}, "inputs": {"i": {"item": {}}}},
        {"name": "j", "inputs": {"all": {"step": {"step": "m"}}}},
    )
    run_id = await coordinator.start(mapped)
    grants = [await agent.grant() for _ in range(3)]
    assert sorted(grant.display_name for grant in grants) == ["m[0]", "m[1]", "m[2]"]
    for grant in reversed(grants):
        await agent.succeed(grant, grant.inputs["i"] + b"0")
    join = await agent.grant()
    assert json.loads(join.inputs["all"]) == [100, 200, 300]
    await agent.succeed(join)
    assert (await coordinator.ended(run_id)).row.state == RunState.COMPLETED


async def test_a_run_waits_for_an_agent_and_starts_when_one_comes(world: World) -> None:
    coordinator = await world.coordinator()
    run_id = await coordinator.start(spec({"name": "a"}))
    assert (await coordinator.engine.run(run_id)).row.state == RunState.PENDING
    agent = coordinator.agent()
    await agent.connect()
    await agent.succeed(await agent.grant())
    view = await coordinator.ended(run_id)
    assert view.row.state == RunState.COMPLETED
    assert view.row.start_time is not None


async def test_grants_never_pass_the_credit(world: World) -> None:
    coordinator = await world.coordinator()
    agent = coordinator.agent()
    await agent.connect(credits=2)
    run_id = await coordinator.start(spec({"name": "m", "map": {"values": list(range(5))}}))
    first, second = await agent.grant(), await agent.grant()
    await agent.acked(await agent.succeed(first))
    await agent.beat()
    assert not agent.grants
    await agent.more(3)
    third = await agent.grant()
    await agent.more(5)
    for grant in (second, third, await agent.grant(), await agent.grant()):
        await agent.succeed(grant)
    assert (await coordinator.ended(run_id)).row.state == RunState.COMPLETED


async def test_a_stream_that_breaks_leaves_the_step_with_its_agent(world: World) -> None:
    coordinator = await world.coordinator()
    agent = coordinator.agent()
    await agent.connect()
    run_id = await coordinator.start(spec({"name": "a"}))
    grant = await agent.grant()
    await agent.vanish()
    back = coordinator.agent()
    back.held = agent.held
    await back.connect()
    await back.until(lambda: bool(back.verdicts))
    assert back.verdicts[0].verdict == wire.VERDICT_CONTINUE
    ack = await back.acked(await back.succeed(grant))
    assert ack.status == wire.RESULT_ACK_STATUS_COMMITTED
    await coordinator.ended(run_id)
    _, attempts = await coordinator.engine.step_run(run_id, 0, -1)
    assert len(attempts) == 1


async def test_a_grant_that_never_arrived_costs_no_attempt(world: World) -> None:
    coordinator = await world.coordinator()
    agent = coordinator.agent()
    await agent.connect()
    run_id = await coordinator.start(spec({"name": "a"}))
    await agent.until(lambda: bool(agent.grants))
    await agent.vanish()
    back = coordinator.agent()
    await back.connect()
    again = await back.grant()
    assert again.attempt == 1
    await back.succeed(again)
    await coordinator.ended(run_id)


async def test_an_agent_that_crashed_is_charged_to_the_infrastructure(world: World) -> None:
    coordinator = await world.coordinator()
    agent = coordinator.agent()
    await agent.connect()
    run_id = await coordinator.start(spec({"name": "a"}))
    await agent.grant()
    await agent.beat()
    await coordinator.forgets(agent)
    back = coordinator.agent(boot_id="boot-2")
    await back.connect()
    again = await back.grant()
    assert again.attempt == 2
    await back.succeed(again)
    assert (await coordinator.ended(run_id)).row.state == RunState.COMPLETED
    _, attempts = await coordinator.engine.step_run(run_id, 0, -1)
    assert [attempt.outcome for attempt in attempts] == [5, 1]


async def test_a_silent_agent_loses_its_lease_and_its_late_result_is_stale(world: World) -> None:
    coordinator = await world.coordinator()
    agent = coordinator.agent()
    await agent.connect()
    run_id = await coordinator.start(spec({"name": "a"}))
    grant = await agent.grant()
    await agent.vanish()
    other = coordinator.agent("agent-2")
    await other.connect()
    world.clock.move(Timing().lease_ttl + Timing().expiry_margin)
    await other.beat()
    coordinator.supervisor.run_periodic()
    again = await other.grant()
    back = coordinator.agent()
    back.held = []
    await back.connect()
    ack = await back.acked(await back.succeed(grant))
    assert ack.status == wire.RESULT_ACK_STATUS_STALE
    await other.succeed(again)
    assert (await coordinator.ended(run_id)).row.state == RunState.COMPLETED


async def test_a_restart_leaves_running_steps_running(world: World) -> None:
    first = await world.coordinator()
    agent = first.agent()
    await agent.connect()
    run_id = await first.start(CHAIN)
    grant = await agent.grant()
    held = agent.held
    await first.kill()
    second = await world.coordinator()
    assert second.supervisor.epoch > first.supervisor.epoch
    back = second.agent()
    back.held = held
    await back.connect()
    await back.until(lambda: bool(back.verdicts))
    assert back.verdicts[0].verdict == wire.VERDICT_CONTINUE
    await back.acked(await back.succeed(grant, b'{"v": 1}'))
    await back.more(10)
    await back.succeed(await back.grant())
    await back.succeed(await back.grant())
    assert (await second.ended(run_id)).row.state == RunState.COMPLETED
    leased = [event async for page in second.engine.watch(run_id, 1) for _, event in page if type(event) is StepsLeased]
    assert sum(len(event.leases) for event in leased) == 3, "each step was leased once"


async def test_outputs_are_read_again_after_a_restart(world: World) -> None:
    first = await world.coordinator()
    agent = first.agent()
    await agent.connect(credits=1)
    run_id = await first.start(CHAIN)
    await agent.acked(await agent.succeed(await agent.grant(), b'{"v": 42}'))
    await first.kill()
    second = await world.coordinator()
    back = second.agent()
    await back.connect(credits=10)
    grant = await back.grant()
    assert grant.step_name == "b"
    assert dict(grant.inputs) == {"x": b"42"}
    await back.succeed(grant)
    await back.succeed(await back.grant())
    assert (await second.ended(run_id)).row.state == RunState.COMPLETED


async def test_cancel_stops_what_runs_and_starts_nothing(world: World) -> None:
    coordinator = await world.coordinator()
    agent = coordinator.agent()
    await agent.connect(credits=10)
    run_id = await coordinator.start(CHAIN)
    grant = await agent.grant()
    await coordinator.engine.cancel_run(run_id, False, "enough", None)
    await agent.until(lambda: bool(agent.cancels))
    assert agent.cancels[0].lease == grant.lease
    assert agent.cancels[0].grace.seconds == 10
    await agent.say(
        results=wire.Results(
            results=[
                wire.StepResult(lease=grant.lease, attempt=1, result_id=b"r" * 16, status=wire.RESULT_STATUS_CANCELLED)
            ]
        )
    )
    view = await coordinator.ended(run_id)
    assert view.row.state == RunState.CANCELLED
    assert await states(coordinator, run_id) == [StepState.CANCELLED] * 3


async def test_a_cancel_is_said_again_until_the_result_comes(world: World) -> None:
    coordinator = await world.coordinator()
    agent = coordinator.agent()
    await agent.connect()
    run_id = await coordinator.start(spec({"name": "a"}))
    await agent.grant()
    await coordinator.engine.cancel_run(run_id, True, "", None)
    await agent.beat()
    await agent.until(lambda: len(agent.cancels) >= 2)
    assert agent.cancels[-1].grace.seconds == 0


async def test_a_failure_is_kept_with_its_reason(world: World) -> None:
    coordinator = await world.coordinator()
    agent = coordinator.agent()
    await agent.connect(credits=10)
    run_id = await coordinator.start(CHAIN)
    await agent.fail(await agent.grant())
    view = await coordinator.ended(run_id)
    assert view.row.state == RunState.FAILED
    assert '"a"' in view.row.reason
    assert await states(coordinator, run_id) == [
        StepState.FAILED,
        StepState.UPSTREAM_FAILED,
        StepState.UPSTREAM_FAILED,
    ]
    detail, _ = await coordinator.engine.step_run(run_id, 0, -1)
    assert detail.failure is not None
    assert detail.failure.error_class == "builtins.ValueError"


async def test_an_input_that_leads_nowhere_fails_the_step_without_a_retry(world: World) -> None:
    coordinator = await world.coordinator()
    agent = coordinator.agent()
    await agent.connect(credits=10)
    run_id = await coordinator.start(CHAIN)
    await agent.succeed(await agent.grant(), b'{"w": 1}')
    view = await coordinator.ended(run_id)
    assert view.row.state == RunState.FAILED
    detail, _ = await coordinator.engine.step_run(run_id, 1, -1)
    assert detail.failure is not None
    assert detail.failure.reason == "Input"
    await agent.beat()
    assert coordinator.supervisor.fleet.session(agent.welcome.session_epoch).capacity.leases == 0  # type: ignore[union-attr]  # connected


async def test_the_same_request_id_is_the_same_run(world: World) -> None:
    coordinator = await world.coordinator()
    key = RequestKey("", "Start", "once", b"digest")
    first = await coordinator.start(spec({"name": "a"}), request=key)
    version = await coordinator.create(spec({"name": "a"}))
    from penstock_coordinator.core.plan.compile import compile_plan
    from penstock_coordinator.ports import Repeated
    from penstock_coordinator.runtime.views import RunRequest

    plan = compile_plan(spec({"name": "a"}), version.digest)
    (again,) = await coordinator.engine.start_runs([RunRequest(plan, version, b"{}", (), (), key)])
    assert again == Repeated(True, first)
    other = RequestKey("", "Start", "once", b"other")
    (refused,) = await coordinator.engine.start_runs([RunRequest(plan, version, b"{}", (), (), other)])
    assert refused == Repeated(False, first)
    assert coordinator.supervisor.live_runs == 1


async def test_a_drained_agent_gets_nothing_new(world: World) -> None:
    coordinator = await world.coordinator()
    agent = coordinator.agent()
    await agent.connect(credits=10)
    await coordinator.engine.drain_agent("agent-1", 1_000_000)
    run_id = await coordinator.start(spec({"name": "a"}))
    await agent.beat()
    assert not agent.grants
    await agent.goodbye()
    other = coordinator.agent("agent-2")
    await other.connect()
    await other.succeed(await other.grant())
    assert (await coordinator.ended(run_id)).row.state == RunState.COMPLETED


async def test_a_goodbye_hands_everything_back_at_once(world: World) -> None:
    coordinator = await world.coordinator()
    agent = coordinator.agent()
    await agent.connect()
    run_id = await coordinator.start(spec({"name": "a"}))
    await agent.until(lambda: bool(agent.grants))
    await agent.goodbye()
    other = coordinator.agent("agent-2")
    await other.connect()
    grant = await other.grant()
    assert grant.attempt == 1
    await other.succeed(grant)
    await coordinator.ended(run_id)


async def test_a_second_stream_of_an_agent_supersedes_the_first(world: World) -> None:
    coordinator = await world.coordinator()
    agent = coordinator.agent()
    await agent.connect()
    again = coordinator.agent()
    await again.connect()
    await agent.until(lambda: bool(agent.goaways))
    assert agent.goaways[0].reason == "superseded"
    assert list(coordinator.engine.agents()) == ["agent-1"]


async def test_a_twin_is_refused_while_the_first_agent_lives(world: World) -> None:
    world.clock.stop()  # however busy the machine: it is not silent
    coordinator = await world.coordinator()
    agent = coordinator.agent()
    await agent.connect(credits=10)
    run_id = await coordinator.start(spec({"name": "a"}))
    grant = await agent.grant()
    code, details = await coordinator.agent(boot_id="boot-2").refused()
    assert code is grpc.StatusCode.ALREADY_EXISTS
    assert "PENSTOCK_AGENT_ID" in details
    assert not agent.goaways
    await agent.acked(await agent.succeed(grant))
    assert (await coordinator.ended(run_id)).row.state == RunState.COMPLETED


async def test_an_agent_that_is_started_again_comes_back_at_once(world: World) -> None:
    coordinator = await world.coordinator()
    agent = coordinator.agent()
    await agent.connect()
    await coordinator.forgets(agent)
    await coordinator.agent(boot_id="boot-2").connect()


async def test_a_silent_twin_makes_room_and_its_attempts_pay_no_loss(world: World) -> None:
    coordinator = await world.coordinator()
    agent = coordinator.agent()
    await agent.connect(credits=10)
    run_id = await coordinator.start(spec({"name": "a"}))
    await agent.grant()
    await agent.beat()
    (session,) = coordinator.supervisor.fleet.sessions()
    session.holder.heard_at -= 8_000_000
    again = coordinator.agent(boot_id="boot-2")
    await again.connect(credits=10)
    second = await again.grant()
    assert second.attempt == 2
    await again.acked(await again.succeed(second))
    await coordinator.ended(run_id)
    events = [event async for page in coordinator.engine.watch(run_id, 1) for _, event in page]
    assert [event.charge for event in events if isinstance(event, LeaseLost)] == [Charge.STARTED]


async def test_a_watcher_sees_every_event_once_and_in_order(world: World) -> None:
    coordinator = await world.coordinator()
    agent = coordinator.agent()
    await agent.connect(credits=10)
    run_id = await coordinator.start(CHAIN)

    async def watch(from_seq: int) -> list[int]:
        return [seq async for page in coordinator.engine.watch(run_id, from_seq) for seq, _ in page]

    watching = [asyncio.create_task(watch(number)) for number in (1, 3)]
    await agent.succeed(await agent.grant(), b'{"v": 1}')
    await agent.succeed(await agent.grant())
    await agent.succeed(await agent.grant())
    view = await coordinator.ended(run_id)
    async with asyncio.timeout(60):
        assert await watching[0] == list(range(1, view.row.last_seq + 1))
        assert await watching[1] == list(range(3, view.row.last_seq + 1))
    assert await watch(1) == list(range(1, view.row.last_seq + 1)), "from the journal, now that it is at rest"


async def test_a_queued_timeout_needs_no_patience_where_nothing_was_recovered(world: World) -> None:
    coordinator = await world.coordinator()
    run_id = await coordinator.start(spec({"name": "a", "timeouts": {"queued": "0.05s"}}))
    view = await coordinator.ended(run_id)
    assert view.row.state == RunState.FAILED
    assert "QueuedTimeout" in view.row.reason


async def test_a_run_whose_rule_breaks_is_made_again_from_the_journal(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fault of ours: the turn raises once. The result is not lost, because the agent sends it again."""
    coordinator = await world.coordinator()
    agent = coordinator.agent()
    await agent.connect(credits=10)
    run_id = await coordinator.start(spec({"name": "a"}))
    grant = await agent.grant()

    def broken(run: Run, message: Message, ledger: Ledger) -> None:
        monkeypatch.setattr(actor_module, "decide", decide)
        raise RuntimeError("a bug")

    monkeypatch.setattr(actor_module, "decide", broken)
    await agent.succeed(grant)
    while vars(actor_module)["decide"] is broken or coordinator.supervisor.actor(run_id) is None:
        await agent.beat()
    ack = await agent.acked(await agent.succeed(grant))
    assert ack.status == wire.RESULT_ACK_STATUS_COMMITTED
    assert (await coordinator.ended(run_id)).row.state == RunState.COMPLETED


async def test_a_record_that_the_database_refuses_fails_the_attempt_and_nothing_else(world: World) -> None:
    coordinator = await world.coordinator()
    agent = coordinator.agent()
    await agent.connect(credits=10)
    run_id = await coordinator.start(CHAIN)
    grant = await agent.grant()
    coordinator.stores.faults.refuse = lambda record: (
        "poison" if any(row.output == b'"poison"' for row in record.step_runs) else None
    )
    await agent.succeed(grant, b'"poison"')
    view = await coordinator.ended(run_id)
    assert view.row.state == RunState.FAILED
    assert "ResultUnstorable" in view.row.reason


async def test_a_newer_incarnation_ends_the_older_one(world: World) -> None:
    first = await world.coordinator()
    await first.start(spec({"name": "a"}))
    await world.coordinator()
    with pytest.raises(Stopping):
        await first.start(spec({"name": "a"}))
    assert isinstance(first.fatal[0], Fenced)

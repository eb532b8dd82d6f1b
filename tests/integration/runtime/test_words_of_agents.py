"""Of a lease its holder alone may speak, with its token; and a session begins with a version that both speak."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import grpc
import pytest
from tests.integration.runtime.test_runs import spec
from tests.waiting import until

from penstock.agent.v1 import agent_service_pb2 as wire
from penstock_coordinator.core.fleet.negotiation import common_version
from penstock_coordinator.core.run.states import RunState
from penstock_coordinator.runtime import fleet, session
from penstock_coordinator.runtime.loop_lag import LoopLag
from penstock_coordinator.runtime.strain import StrainGauge

if TYPE_CHECKING:
    from tests.integration.runtime.conftest import World
    from tests.integration.runtime.scripted_agent import ScriptedAgent

ONE = spec({"name": "a"})

Word = Callable[["ScriptedAgent", wire.LeaseRef], Awaitable[object]]


async def _accept(agent: ScriptedAgent, ref: wire.LeaseRef) -> None:
    await agent.say(leases_accepted=wire.LeasesAccepted(leases=[ref]))


async def _reject(agent: ScriptedAgent, ref: wire.LeaseRef) -> None:
    await agent.say(leases_rejected=wire.LeasesRejected(leases=[wire.RejectedLease(lease=ref, reason="no_space")]))


async def _reject_for_good(agent: ScriptedAgent, ref: wire.LeaseRef) -> None:
    rejected = wire.RejectedLease(lease=ref, reason="bundle_unavailable")
    await agent.say(leases_rejected=wire.LeasesRejected(leases=[rejected]))


async def _return(agent: ScriptedAgent, ref: wire.LeaseRef) -> None:
    await agent.say(returned=wire.Returned(leases=[wire.ReturnedLease(lease=ref, started=False)]))


async def _return_started(agent: ScriptedAgent, ref: wire.LeaseRef) -> None:
    await agent.say(returned=wire.Returned(leases=[wire.ReturnedLease(lease=ref, started=True)]))


async def _name(agent: ScriptedAgent, ref: wire.LeaseRef) -> None:
    held = wire.HeldLease(lease=ref, phase=wire.LEASE_PHASE_RUNNING, attempt=1)
    await agent.say(heartbeat=wire.Heartbeat(leases=[held]))


async def _leave(agent: ScriptedAgent, ref: wire.LeaseRef) -> None:
    await agent.say(goodbye=wire.Goodbye(returned=[wire.ReturnedLease(lease=ref, started=False)]))


WORDS: list[Word] = [_accept, _reject, _reject_for_good, _return, _return_started, _name, _leave]


@pytest.mark.parametrize("who", ["its holder, with another token", "another agent, with its token"])
@pytest.mark.parametrize("word", WORDS, ids=lambda word: word.__name__.strip("_"))
async def test_nobody_else_may_speak_of_a_lease(world: World, word: Word, who: str) -> None:
    coordinator = await world.coordinator()
    holder, other = coordinator.agent("agent-1"), coordinator.agent("agent-2")
    await holder.connect()
    run_id = await coordinator.start(ONE)
    grant = await holder.untouched_grant()
    await other.connect(credits=0)
    lease = coordinator.supervisor.fleet.leases.find((run_id, 0, -1))
    if who.startswith("another"):
        await word(other, grant.lease)
        if word is not _leave:
            await other.beat()
    elif word is not _leave:  # a goodbye gives everything up
        wrong = wire.LeaseRef()
        wrong.CopyFrom(grant.lease)
        wrong.token -= 1
        await word(holder, wrong)
        await holder.beat()
    assert coordinator.supervisor.fleet.leases.find((run_id, 0, -1)) is lease
    assert lease is not None
    assert not lease.accepted or word is _name or not who.startswith("another")
    assert (await holder.acked(await holder.succeed(grant))).status == wire.RESULT_ACK_STATUS_COMMITTED
    assert (await coordinator.ended(run_id)).row.state == RunState.COMPLETED


@pytest.mark.parametrize("token", [0, 1, 2**63])
async def test_a_result_with_another_token_is_stale_and_counted(world: World, token: int) -> None:
    coordinator = await world.coordinator()
    agent = coordinator.agent()
    await agent.connect()
    run_id = await coordinator.start(ONE)
    grant = await agent.grant()
    wrong = wire.LeaseGrant()
    wrong.CopyFrom(grant)
    wrong.lease.token = token
    assert (await agent.acked(await agent.succeed(wrong))).status == wire.RESULT_ACK_STATUS_STALE
    assert coordinator.supervisor.fleet.discarded == {"agent-1": 1}
    assert coordinator.engine.agents()["agent-1"].discarded == 1
    assert (await agent.acked(await agent.succeed(grant))).status == wire.RESULT_ACK_STATUS_COMMITTED
    assert (await coordinator.ended(run_id)).row.state == RunState.COMPLETED


async def test_a_result_of_another_agent_with_the_token_is_stale_and_counted(world: World) -> None:
    """Tokens are small numbers: they can be guessed."""
    coordinator = await world.coordinator()
    holder, other = coordinator.agent("agent-1"), coordinator.agent("agent-2")
    await holder.connect()
    run_id = await coordinator.start(ONE)
    grant = await holder.grant()
    await other.connect(credits=0)
    assert (await other.acked(await other.succeed(grant, b'"forged"'))).status == wire.RESULT_ACK_STATUS_STALE
    assert coordinator.supervisor.fleet.discarded == {"agent-2": 1}
    assert (await holder.acked(await holder.succeed(grant, b'"true"'))).status == wire.RESULT_ACK_STATUS_COMMITTED
    assert (await coordinator.ended(run_id)).row.state == RunState.COMPLETED
    view, _ = await coordinator.engine.step_run(run_id, 0, -1)
    assert view.output == b'"true"'


async def test_a_result_that_comes_again_is_a_duplicate_also_when_the_run_is_at_rest(world: World) -> None:
    coordinator = await world.coordinator()
    agent = coordinator.agent()
    await agent.connect()
    run_id = await coordinator.start(ONE)
    grant = await agent.grant()
    result = wire.StepResult(lease=grant.lease, result_id=b"r" * 16, status=wire.RESULT_STATUS_OK)
    for count, status in enumerate((wire.RESULT_ACK_STATUS_COMMITTED, wire.RESULT_ACK_STATUS_DUPLICATE), 1):
        await agent.say(results=wire.Results(results=[result]))
        await agent.until(lambda count=count: len(agent.acks) == count)  # type: ignore[misc]  # the default binds it
        assert agent.acks[-1].status == status
        await coordinator.ended(run_id)
    assert not coordinator.supervisor.fleet.discarded


# --- versions


@pytest.mark.parametrize(
    ("spoken", "offered", "common"),
    [
        ((1,), (1,), 1),
        ((1, 2), (1,), 1),
        ((1, 2), (2, 1), 2),
        ((1, 2), (3, 2), 2),
        ((2, 3), (1,), None),
        ((1,), (), None),
    ],
)
def test_the_greatest_common_version_is_chosen(
    spoken: tuple[int, ...], offered: tuple[int, ...], common: int | None
) -> None:
    assert common_version(spoken, offered) == common


@pytest.mark.parametrize(("offered", "chosen"), [([1], 1), ([1, 2], 2), ([3, 2, 1], 2)])
async def test_former_agents_are_served(
    world: World, monkeypatch: pytest.MonkeyPatch, offered: list[int], chosen: int
) -> None:
    monkeypatch.setattr(fleet, "PROTOCOL_VERSIONS", (1, 2))
    coordinator = await world.coordinator()
    agent = coordinator.agent()
    agent.versions = offered
    assert (await agent.connect()).protocol_version == chosen
    run_id = await coordinator.start(ONE)
    await agent.succeed(await agent.grant())
    assert (await coordinator.ended(run_id)).row.state == RunState.COMPLETED


async def test_who_has_no_version_in_common_is_sent_away(world: World) -> None:
    coordinator = await world.coordinator()
    agent = coordinator.agent()
    agent.versions = [7, 8]
    code, details = await agent.refused()
    assert code is grpc.StatusCode.FAILED_PRECONDITION
    assert "speaks version 1 of the agent protocol, the agent 7, 8: upgrade the older one" in details
    (goaway,) = agent.goaways
    assert (goaway.reason, goaway.message) == ("too_old", details)
    assert goaway.reconnect_after.seconds == 30
    assert not coordinator.supervisor.fleet.sessions()


async def test_a_coordinator_of_the_past_sends_agents_away(world: World) -> None:
    coordinator = await world.coordinator()
    agent = coordinator.agent()
    agent.highest_epoch = coordinator.supervisor.epoch + 1
    code, details = await agent.refused()
    assert code is grpc.StatusCode.FAILED_PRECONDITION
    assert "another coordinator has taken over" in details
    assert [goaway.reason for goaway in agent.goaways] == ["stale_coordinator"]


async def test_a_word_of_a_newer_agent_is_passed_over(world: World) -> None:
    coordinator = await world.coordinator()
    agent = coordinator.agent()
    await agent.connect()
    unknown = wire.AgentMessage.FromString(b"\xfa\x01\x03new")  # field 31
    unknown.seq = next(agent._seq)
    await agent._call.write(unknown)
    await agent.beat()
    assert not agent.ended.is_set()


# --- no grants for a while


async def test_paused_agents_get_nothing_until_they_are_resumed(world: World) -> None:
    coordinator = await world.coordinator()
    agent = coordinator.agent()
    await agent.connect()
    pool = coordinator.supervisor.fleet
    pool.hold_back("database_away")
    await agent.until(lambda: agent.orders == ["pause"])
    run_id = await coordinator.start(ONE)
    await agent.beat()
    assert not agent.grants
    late = coordinator.agent("agent-2")
    await late.connect()
    await late.until(lambda: late.orders == ["pause"])
    await late.beat()
    assert not late.grants
    await late.vanish()
    pool.hold_back("overloaded")
    pool.hold_back("")
    await agent.until(lambda: agent.orders == ["pause", "pause", "resume"])
    await agent.succeed(await agent.grant())
    assert (await coordinator.ended(run_id)).row.state == RunState.COMPLETED


async def test_results_are_taken_from_paused_agents(world: World) -> None:
    coordinator = await world.coordinator()
    agent = coordinator.agent()
    await agent.connect()
    run_id = await coordinator.start(ONE)
    grant = await agent.grant()
    coordinator.supervisor.fleet.hold_back("overloaded")
    await agent.acked(await agent.succeed(grant))
    assert (await coordinator.ended(run_id)).row.state == RunState.COMPLETED


async def test_a_drained_agent_stays_closed_when_the_others_are_resumed(world: World) -> None:
    coordinator = await world.coordinator()
    agent = coordinator.agent()
    await agent.connect()
    await agent.say(draining=wire.Draining(reason="test"))
    await agent.beat()
    coordinator.supervisor.fleet.hold_back("overloaded")
    coordinator.supervisor.fleet.hold_back("")
    await coordinator.start(ONE)
    await agent.beat()
    assert not agent.grants


async def test_agents_are_paused_while_the_coordinator_is_overloaded(world: World) -> None:
    coordinator = await world.coordinator()
    agent = coordinator.agent()
    await agent.connect()
    gauge = StrainGauge(coordinator.supervisor, LoopLag(), lambda: 0, lambda: None)
    gauge.look(0.0)
    assert not agent.orders
    for _ in range(5):
        gauge.look(10.0)
    await agent.until(lambda: agent.orders == ["pause"])
    assert coordinator.supervisor.fleet.paused == "overloaded"
    gauge.look(0.0)
    await agent.until(lambda: agent.orders == ["pause", "resume"])


# --- who does not read


async def _beat_for_ever(agent: ScriptedAgent, held: list[wire.HeldLease]) -> None:
    while True:
        await agent.say(heartbeat=wire.Heartbeat(leases=held))


async def test_an_agent_that_speaks_and_does_not_read_loses_its_session(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each heartbeat names leases that it does not hold, so that the answer is a long one."""
    monkeypatch.setattr(session, "MOST_WAITING_MESSAGES", 50)
    coordinator = await world.coordinator()
    deaf = coordinator.agent()
    await deaf.say(hello=deaf._hello())

    async def welcome() -> bool:
        return bool(coordinator.supervisor.fleet.sessions())

    await until(welcome)
    refs = [wire.LeaseRef(run_id=bytes(16), step=step, item=-1, token=7) for step in range(500)]
    held = [wire.HeldLease(lease=ref, phase=wire.LEASE_PHASE_RUNNING, attempt=1) for ref in refs]
    beating = asyncio.create_task(_beat_for_ever(deaf, held))

    async def gone() -> bool:
        return not coordinator.supervisor.fleet.sessions()

    await until(gone, 60.0)
    beating.cancel()
    await asyncio.wait({beating})

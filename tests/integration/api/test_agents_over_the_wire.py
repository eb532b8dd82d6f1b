"""AgentAdminService through a real client."""

from __future__ import annotations

import asyncio

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from tests.integration.api.answers import refused
from tests.integration.api.conftest import PATIENCE, Edge, spec
from tests.integration.runtime.scripted_agent import ScriptedAgent
from tests.waiting import until

from penstock.agent.v1 import agent_service_pb2 as wire
from penstock.v1 import agent_admin_service_pb2 as pb
from penstock.v1 import run_service_pb2


async def get(edge: Edge, agent_id: str = "agent-1") -> pb.Agent:
    return (await edge.admin.Get(pb.GetAgentRequest(agent_id=agent_id), timeout=PATIENCE)).agent


async def test_an_agent_is_described_as_it_said_and_as_it_is(edge: Edge) -> None:
    agent = await edge.agent(slots=3)
    await edge.start(spec({"name": "a"}))
    await agent.grant()
    seen = await get(edge)
    assert seen.state == pb.AGENT_STATE_CONNECTED
    assert (seen.id, seen.slots, seen.leases, list(seen.queues)) == ("agent-1", 3, 1, ["default"])
    assert seen.boot_id == "boot-1"
    assert seen.session_epoch > 0
    assert seen.HasField("heartbeat_age")
    assert seen.HasField("connect_time")


async def test_a_lost_agent_and_one_that_said_goodbye_differ(edge: Edge) -> None:
    lost, gone = await edge.agent("lost"), await edge.agent("gone")
    await gone.say(goodbye=wire.Goodbye(reason="done"))
    await gone.ended.wait()
    await lost.vanish()
    await lost.ended.wait()

    async def both_gone() -> bool:
        return (await get(edge, "gone")).state == pb.AGENT_STATE_GONE and not edge.backend.engine.agents()

    await until(both_gone)
    assert (await get(edge, "lost")).state == pb.AGENT_STATE_LOST
    assert not (await get(edge, "lost")).HasField("heartbeat_age")


async def test_agents_are_listed_by_id_in_pages(edge: Edge) -> None:
    for agent_id in ("b", "c", "a"):
        await edge.agent(agent_id)
    page = await edge.admin.List(pb.ListAgentsRequest(page_size=2))
    assert [agent.id for agent in page.agents] == ["a", "b"]
    rest = await edge.admin.List(pb.ListAgentsRequest(page_size=2, page_token=page.next_page_token))
    assert [agent.id for agent in rest.agents] == ["c"]
    assert rest.next_page_token == ""
    assert {agent.state for agent in (*page.agents, *rest.agents)} == {pb.AGENT_STATE_CONNECTED}


async def test_a_drained_agent_takes_no_more(edge: Edge) -> None:
    await edge.agent()
    answer = await edge.admin.Drain(pb.DrainAgentRequest(agent_id="agent-1"), timeout=PATIENCE)
    assert answer.agent.state == pb.AGENT_STATE_DRAINING
    run = await edge.start(spec({"name": "a"}))
    assert (await edge.get(run)).step_counts.ready == 1


async def test_only_a_connected_agent_can_be_drained(edge: Edge) -> None:
    agent = await edge.agent()
    await agent.vanish()

    async def away_now() -> bool:
        return (await get(edge)).state == pb.AGENT_STATE_LOST

    await until(away_now)
    away = await refused(edge.admin.Drain(pb.DrainAgentRequest(agent_id="agent-1")))
    assert away.code is grpc.StatusCode.FAILED_PRECONDITION
    assert list(away.violations) == ["agent_id"]
    unknown = await refused(edge.admin.Drain(pb.DrainAgentRequest(agent_id="never")))
    assert unknown.code is grpc.StatusCode.NOT_FOUND


@pytest.mark.parametrize(
    ("request_message", "field"),
    [
        (pb.DrainAgentRequest(), "agent_id"),
        (pb.DrainAgentRequest(agent_id="a\nb"), "agent_id"),
        (pb.DrainAgentRequest(agent_id="agent-1", deadline=Duration(seconds=-1)), "deadline"),
        (pb.DrainAgentRequest(agent_id="agent-1", deadline=Duration(seconds=10**9)), "deadline"),
        (pb.DrainAgentRequest(agent_id="agent-1", deadline=Duration(seconds=1, nanos=-1)), "deadline"),
    ],
)
async def test_a_wrong_drain_is_refused_by_field(edge: Edge, request_message: pb.DrainAgentRequest, field: str) -> None:
    await edge.agent()
    answer = await refused(edge.admin.Drain(request_message))
    assert answer.code is grpc.StatusCode.INVALID_ARGUMENT
    assert list(answer.violations) == [field]


async def test_a_paused_agent_ends_what_it_runs_and_gets_nothing_new(edge: Edge) -> None:
    agent = await edge.agent(slots=1)
    first = await edge.start(spec({"name": "a"}))
    grant = await agent.grant()
    agent.held[0].phase = wire.LEASE_PHASE_RUNNING
    await agent.beat()
    answer = await edge.admin.Pause(pb.PauseAgentRequest(agent_id="agent-1"), timeout=PATIENCE)
    assert (answer.agent.state, answer.agent.paused) == (pb.AGENT_STATE_CONNECTED, True)
    await agent.until(lambda: agent.orders == ["pause"])
    second = await edge.start(spec({"name": "a"}))
    await agent.succeed(grant)
    await edge.watch(first)
    await agent.more(10)
    await agent.beat()
    assert not agent.called_back
    assert not agent.grants
    assert (await edge.get(second)).step_counts.ready == 1
    resumed = await edge.admin.Resume(pb.ResumeAgentRequest(agent_id="agent-1"), timeout=PATIENCE)
    assert not resumed.agent.paused
    await agent.succeed(await agent.grant())
    await edge.watch(second)
    assert agent.orders == ["pause", "resume"]


async def test_a_pause_outlives_the_session_and_calls_back_what_has_not_begun(edge: Edge) -> None:
    agent = await edge.agent()
    run = await edge.start(spec({"name": "a"}))
    await agent.grant()
    await agent.vanish()
    await edge.admin.Pause(pb.PauseAgentRequest(agent_id="agent-1"), timeout=PATIENCE)
    back = ScriptedAgent(edge.server.address)
    edge.agents.append(back)
    back.held = agent.held
    await back.connect()
    await back.until(lambda: back.orders == ["pause"] and len(back.called_back) == 1)
    assert (await get(edge)).paused
    await back.say(returned=wire.Returned(leases=[wire.ReturnedLease(lease=back.called_back[0], started=False)]))
    other = await edge.agent("agent-2")
    await other.succeed(await other.grant())
    await edge.watch(run)


async def test_an_agent_that_said_goodbye_is_gone_at_once(edge: Edge, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also while that cannot be stored, and if the agent ends the call without waiting for it."""
    agents = edge.backend.stores.agents
    store, heard, there = agents.close_session, asyncio.Event(), asyncio.Event()

    async def held_up(agent_id: str, session_epoch: int) -> None:
        heard.set()
        await there.wait()
        await store(agent_id, session_epoch)

    monkeypatch.setattr(agents, "close_session", held_up)
    agent = await edge.agent()
    await agent.say(goodbye=wire.Goodbye(reason="done"))
    async with asyncio.timeout(PATIENCE):
        await heard.wait()  # a call that is cancelled before may take its last words with it
    await agent.vanish()
    assert "agent-1" not in edge.backend.engine.agents()
    assert (await get(edge)).state == pb.AGENT_STATE_GONE
    page = await edge.admin.List(pb.ListAgentsRequest())
    assert [each.state for each in page.agents] == [pb.AGENT_STATE_GONE]
    run = await edge.start(spec({"name": "a"}))
    explained = await edge.runs.Explain(run_service_pb2.ExplainRunRequest(run_id=run.id), timeout=PATIENCE)
    (reason,) = explained.steps[0].reasons
    assert reason.message.endswith("agent-1 could run it, but was drained or stopped: start it again.")

    async def stored() -> bool:
        row = await agents.get_agent("agent-1")
        return row is not None and row.goodbye

    assert not await stored()
    there.set()
    await until(stored)


async def test_nobody_pauses_an_agent_that_was_never_there(edge: Edge) -> None:
    for call in (
        edge.admin.Pause(pb.PauseAgentRequest(agent_id="never")),
        edge.admin.Resume(pb.ResumeAgentRequest(agent_id="never")),
    ):
        assert (await refused(call)).code is grpc.StatusCode.NOT_FOUND


async def test_an_unknown_agent_is_not_found(edge: Edge) -> None:
    answer = await refused(edge.admin.Get(pb.GetAgentRequest(agent_id="never")))
    assert (answer.code, list(answer.violations)) == (grpc.StatusCode.NOT_FOUND, ["agent_id"])

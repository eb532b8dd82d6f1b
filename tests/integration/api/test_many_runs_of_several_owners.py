"""Calls about many runs when members have some of them: the head asks them for their parts."""

from __future__ import annotations

import asyncio
import dataclasses
from typing import Any

import pytest
from tests.integration.api.answers import refused
from tests.integration.api.conftest import PATIENCE, Edge, spec
from tests.integration.api.following import within
from tests.integration.api.membership import Member, choice, database, edge, member
from tests.integration.runtime.scripted_agent import ScriptedAgent
from tests.waiting import until

from penstock.v1 import agent_admin_service_pb2 as admin
from penstock.v1 import bulk_service_pb2 as bulk
from penstock.v1 import run_pb2
from penstock.v1 import run_service_pb2 as pb
from penstock.v1.bulk_service_pb2_grpc import BulkServiceStub
from penstock_coordinator.api.routing import LINK, WAIT_MANY
from penstock_coordinator.core.run.messages import CancelRun
from penstock_coordinator.runtime import elsewhere
from penstock_coordinator.runtime.views import Stopping

__all__ = ["choice", "database", "edge", "member"]

CANCEL_ALL = bulk.CreateBulkJobRequest(
    job=bulk.BulkJob(action=bulk.BULK_ACTION_CANCEL, selection=bulk.RunSelection(pipeline="p"))
)
TWO_STEPS = spec({"name": "a"}, {"name": "b", "depends_on": ["a"]})


def id_of(run: run_pb2.Run) -> bytes:
    return bytes.fromhex(run.id.replace("-", ""))


def cancel(edge: Edge, run: run_pb2.Run) -> Any:
    return edge.runs.Cancel(pb.CancelRunRequest(run_id=run.id), timeout=PATIENCE)


class Waiting:
    """For the ends of runs, as a client hears of them."""

    def __init__(self, edge: Edge, *runs: run_pb2.Run) -> None:
        request = pb.WaitManyRunsRequest(run_ids=[run.id for run in runs])
        self._call = edge.runs.WaitMany(request, timeout=PATIENCE)

    async def next(self) -> set[str]:
        response: Any = await within(self._call.read())
        return {run.id for run in response.runs}


async def test_the_ends_of_runs_of_all_owners_are_told_when_they_come(edge: Edge, member: Member) -> None:
    theirs, more, ours = await member.start(), await member.start(), await edge.start(TWO_STEPS)
    await cancel(edge, more)
    waiting = Waiting(member.edge, theirs, more, ours)
    assert await waiting.next() == {more.id}
    await cancel(edge, theirs)
    assert await waiting.next() == {theirs.id}, "although another one goes on at the head"
    await cancel(edge, ours)
    assert await waiting.next() == {ours.id}


async def test_who_waits_hears_of_a_run_whose_owner_is_replaced(edge: Edge, member: Member) -> None:
    run = await member.start()
    reading = asyncio.create_task(Waiting(edge, run).next())
    methods = member.edge.backend.supervisor.counts.calls.methods

    async def waited_for() -> bool:
        return WAIT_MANY in methods and methods[WAIT_MANY].in_flight == 1

    async def waited_for_no_more() -> bool:
        return not await waited_for()

    await until(waited_for)
    lines = [each.line(member.row, ()).count for each in edge.server._forwarders]
    assert lines == [0, 1], "other calls do not share a channel with those that wait"
    member.goes()
    await until(waited_for_no_more)
    edge.backend.supervisor.whereabouts.heard([member.row])
    await cancel(edge, run)
    assert await reading == {run.id}


async def test_who_waits_long_holds_no_more_for_it(edge: Edge, member: Member, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(elsewhere, "LOOK_AGAIN", 0.0)
    theirs, ours = await member.start(), await edge.start(TWO_STEPS)
    edge.backend.supervisor.whereabouts.heard([dataclasses.replace(member.row, coordinator_id="c3")])
    waiting = asyncio.create_task(Waiting(edge, theirs).next())
    most = 0
    for _ in range(30):
        await edge.get(ours)
        most = max(most, sum("_watch_at" in repr(task.get_coro()) for task in asyncio.all_tasks()))
    assert most == 1
    edge.backend.supervisor.whereabouts.heard([member.row])
    await cancel(edge, theirs)
    assert await waiting == {theirs.id}


async def test_a_run_that_is_set_aside_at_a_member_holds_nobody_up(edge: Edge, member: Member) -> None:
    run, jobs = await member.start(), BulkServiceStub(edge.channel)
    member.edge.backend.supervisor.set_aside.put(id_of(run), RuntimeError("for the test"), "")
    assert (await refused(Waiting(edge, run).next())).reason == "RUN_SET_ASIDE"
    job = (await jobs.Create(CANCEL_ALL, timeout=PATIENCE)).job
    while await edge.backend.engine.bulk.run_once():
        pass
    done = (await jobs.Get(bulk.GetBulkJobRequest(id=job.id), timeout=PATIENCE)).job
    assert (done.done_count, done.failed_count) == (0, 1)


async def test_a_cancel_that_follows_a_stale_hint_finds_the_run_at_rest(edge: Edge, member: Member) -> None:
    run = await edge.start(TWO_STEPS)
    await cancel(edge, run)
    edge.backend.supervisor.whereabouts.placed([id_of(run)], "c2")
    wanted = CancelRun(0, immediate=True, reason="")
    assert not await edge.backend.engine.elsewhere.cancel(id_of(run), wanted, "r")


async def test_a_member_says_so_of_runs_that_it_does_not_have(edge: Edge, member: Member) -> None:
    """Else the head would wait for them at the wrong place."""
    request = pb.WaitManyRunsRequest(run_ids=[(await edge.start(TWO_STEPS)).id])
    call = member.edge.runs.WaitMany(request, metadata=member.mark, timeout=PATIENCE)
    assert (await refused(anext(aiter(call)))).reason == "STOPPING"


async def test_lists_tell_of_live_runs_as_their_owners_know_them(edge: Edge, member: Member) -> None:
    theirs, ours = await member.start(), await edge.start(TWO_STEPS)
    for asked in (edge, member.edge):
        listed = {run.id: run for run in (await asked.runs.List(pb.ListRunsRequest(), timeout=PATIENCE)).runs}
        for run in (theirs, ours):
            assert listed[run.id].step_counts == run.step_counts
            assert listed[run.id].step_counts.ready == 1
    member.goes()
    listed = {run.id: run for run in (await edge.runs.List(pb.ListRunsRequest(), timeout=PATIENCE)).runs}
    assert not listed[theirs.id].HasField("step_counts")


async def test_a_bulk_job_cancels_the_runs_of_all_owners(edge: Edge, member: Member) -> None:
    runs = [await member.start(), await edge.start(TWO_STEPS), await member.start()]
    jobs = BulkServiceStub(member.edge.channel)
    job = (await jobs.Create(CANCEL_ALL, timeout=PATIENCE)).job
    while await edge.backend.engine.bulk.run_once():
        pass
    done = (await jobs.Get(bulk.GetBulkJobRequest(id=job.id), timeout=PATIENCE)).job
    assert (done.done_count, done.failed_count) == (3, 0)
    assert {(await edge.get(run)).state for run in runs} == {run_pb2.RUN_STATE_CANCELLED}


async def test_a_bulk_job_waits_for_a_run_that_nobody_has_now(edge: Edge, member: Member) -> None:
    run, jobs = await member.start(), edge.backend.engine.bulk
    await BulkServiceStub(edge.channel).Create(CANCEL_ALL, timeout=PATIENCE)
    edge.backend.supervisor.whereabouts.heard([dataclasses.replace(member.row, coordinator_id="c3")])
    with pytest.raises(Stopping):
        await jobs.run_once()
    edge.backend.supervisor.whereabouts.heard([member.row])
    while await jobs.run_once():
        pass
    assert (await edge.get(run)).state == run_pb2.RUN_STATE_CANCELLED


async def test_an_agents_leases_are_those_of_all_owners(edge: Edge, member: Member) -> None:
    await member.start()
    linked = ScriptedAgent(member.follower.address, metadata=((LINK, member.name),))
    await linked.connect(credits=4)
    await linked.grant()
    home = await edge.agent(credits=4)
    await edge.start(TWO_STEPS)
    await home.grant()
    for asked in (edge, member.edge):
        (agent,) = (await asked.admin.List(admin.ListAgentsRequest(), timeout=PATIENCE)).agents
        got = (await asked.admin.Get(admin.GetAgentRequest(agent_id=agent.id), timeout=PATIENCE)).agent
        assert (agent.leases, got.leases) == (2, 2)
    await linked.vanish()

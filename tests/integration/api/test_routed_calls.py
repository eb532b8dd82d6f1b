"""Calls when several own runs: each is answered by whoever has the run, wherever it comes."""

from __future__ import annotations

import asyncio
import dataclasses
from typing import Any

import grpc
from tests.integration.api.answers import refused
from tests.integration.api.conftest import PATIENCE, Edge, spec
from tests.integration.api.following import row, within
from tests.integration.api.membership import Choice, Member, choice, database, edge, member, on_postgres
from tests.integration.runtime.scripted_agent import ScriptedAgent

from penstock.agent.v1.secret_service_pb2 import GetSecretsRequest
from penstock.agent.v1.secret_service_pb2_grpc import SecretServiceStub
from penstock.dev.ports import take_port
from penstock.v1 import coordinator_service_pb2 as coordinators
from penstock.v1 import run_pb2
from penstock.v1 import run_service_pb2 as pb
from penstock.v1.cost_service_pb2 import GetCostsRequest
from penstock.v1.cost_service_pb2_grpc import CostServiceStub
from penstock.v1.pipeline_pb2 import PipelineSpec
from penstock.v1.pipeline_service_pb2 import ValidatePipelineRequest
from penstock_coordinator.api.coordinator_service import CoordinatorService
from penstock_coordinator.api.forwarding import HOP, OWNER, ROUTED
from penstock_coordinator.api.health import Readiness
from penstock_coordinator.api.routing import LINK, AtHead
from penstock_coordinator.runtime.whereabouts import Residence

__all__ = ["choice", "database", "edge", "member"]

TWO_STEPS = spec({"name": "a"}, {"name": "b", "depends_on": ["a"]})
LIMITED = spec({"name": "a"}, max_active_runs=5)


def id_of(run: run_pb2.Run) -> bytes:
    return bytes.fromhex(run.id.replace("-", ""))


async def test_a_pipeline_hears_why_its_runs_are_the_heads_where_others_own_runs_too(
    edge: Edge,
) -> None:
    async def warned(made: PipelineSpec) -> list[str]:
        answer = await edge.pipelines.Validate(ValidatePipelineRequest(spec=made), timeout=PATIENCE)
        return list(answer.warnings)

    assert await warned(LIMITED) == []
    edge.backend.supervisor.whereabouts.heard([row("c2", "127.0.0.1:1")])
    assert await warned(TWO_STEPS) == []
    (words,) = await warned(LIMITED)
    assert (
        words == "runs of it are the head's alone, because so many of its runs may be active at once (max_active_runs)"
    )


async def test_what_is_asked_of_a_run_is_answered_by_its_owner_wherever_it_is_asked(edge: Edge, member: Member) -> None:
    theirs, ours = await member.start(), await edge.start(TWO_STEPS)
    for run, owner in ((theirs, "c2"), (ours, "c1")):
        got = [await each.get(run) for each in (edge, member.edge)]
        assert got[0] == got[1]
        assert (got[0].owner, got[0].state) == (owner, run_pb2.RUN_STATE_PENDING)
        asked = pb.ExplainRunRequest(run_id=run.id)
        told = [await each.runs.Explain(asked, timeout=PATIENCE) for each in (edge, member.edge)]
        assert told[0].run == told[1].run
        for each in (edge, member.edge):
            await CostServiceStub(each.channel).Get(GetCostsRequest(run_id=run.id), timeout=PATIENCE)
        watching = asyncio.create_task(edge.watch(run))
        cancel = pb.CancelRunRequest(run_id=run.id, request_id=owner)
        elsewhere = member.edge if owner == "c1" else edge
        for _ in range(2):
            cancelled = (await elsewhere.runs.Cancel(cancel, timeout=PATIENCE)).run
        assert cancelled.state == run_pb2.RUN_STATE_CANCELLED
        events = await within(watching)
        assert [event.number for event in events] == list(range(1, len(events) + 1))
        assert await edge.watch(run) == events
        await elsewhere.runs.Cancel(cancel, timeout=PATIENCE)
    for each in (edge, member.edge):
        costs = each.backend.supervisor.counts.calls.methods["/penstock.v1.CostService/Get"]
        assert costs.ended == {"OK": 2}, "each of its own run: nobody reads another one's journal for that"


@on_postgres
async def test_runs_at_rest_are_the_heads_to_read_and_to_open_again(edge: Edge, member: Member) -> None:
    run = await member.start()
    retry = pb.RetryRunRequest(run_id=run.id, request_id="again")
    answer = await refused(edge.runs.Retry(retry, timeout=PATIENCE))
    assert (answer.code, answer.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "NOT_POSSIBLE")
    await edge.runs.Cancel(pb.CancelRunRequest(run_id=run.id), timeout=PATIENCE)
    # Its former owner sends the call on.
    retried = (await member.edge.runs.Retry(retry, timeout=PATIENCE)).run
    assert (retried.owner, retried.generation, retried.state) == ("c1", 2, run_pb2.RUN_STATE_PENDING)
    assert edge.backend.supervisor.actor(id_of(run)) is not None
    assert (await member.edge.get(run)).owner == "c1"


async def test_a_routed_answer_recommends_the_head(edge: Edge, member: Member) -> None:
    run = await member.start()
    request = pb.GetRunRequest(run_id=run.id)
    for asked in (edge, member.edge):
        call = asked.runs.Get(request, timeout=PATIENCE)
        await call
        assert OWNER not in dict(await call.initial_metadata())
    counts = [
        asked.backend.supervisor.counts.calls.methods["/penstock.v1.RunService/Get"] for asked in (edge, member.edge)
    ]
    assert [(each.ended, each.forwarded) for each in counts] == [({}, {"OK": 1}), ({"OK": 2}, {})], (
        "one is counted once"
    )
    listing = member.edge.runs.List(pb.ListRunsRequest(), timeout=PATIENCE)
    await listing
    assert dict(await listing.initial_metadata()).get(OWNER) == edge.server.address


async def test_a_member_says_where_its_head_is(edge: Edge, member: Member) -> None:
    service = CoordinatorService(member.edge.backend.supervisor, Readiness(), member.follower.keeper)
    nothing: Any = None
    health = (await service.GetHealth(coordinators.GetHealthRequest(), nothing)).health
    assert (health.role, health.owner_address) == (coordinators.COORDINATOR_ROLE_MEMBER, edge.server.address)


async def test_two_hops_and_no_more(edge: Edge, member: Member) -> None:
    """One that follows sends a call to the head, the head to a member. Nobody sends on what the head has sent."""
    run = await member.start()
    get = pb.GetRunRequest(run_id=run.id)
    assert (await edge.runs.Get(get, metadata=((HOP, "c3"),), timeout=PATIENCE)).run.owner == "c2"
    answer = await refused(edge.runs.Get(get, metadata=((HOP, "c3"), *member.mark), timeout=PATIENCE))
    assert (answer.code, answer.reason) == (grpc.StatusCode.UNAVAILABLE, "RUN_MOVED")
    ours = pb.GetRunRequest(run_id=(await edge.start(TWO_STEPS)).id)
    answer = await refused(member.edge.runs.Get(ours, metadata=member.mark, timeout=PATIENCE))
    assert (answer.code, answer.reason) == (grpc.StatusCode.UNAVAILABLE, "RUN_MOVED")
    assert answer.retry_seconds is not None
    listed = await refused(member.edge.runs.List(pb.ListRunsRequest(), metadata=((HOP, "c3"),), timeout=PATIENCE))
    assert listed.reason == "NOT_THE_LEADER"


async def test_a_member_answers_no_other_head(edge: Edge, member: Member) -> None:
    run = await member.start()
    mark = ((ROUTED, str(edge.backend.supervisor.epoch + 1)),)
    for call in (
        member.edge.runs.Get(pb.GetRunRequest(run_id=run.id), metadata=mark, timeout=PATIENCE),
        member.edge.runs.Start(pb.StartRunRequest(pipeline="p"), metadata=mark, timeout=PATIENCE),
    ):
        assert (await refused(call)).reason == "NOT_THE_LEADER"


async def test_who_was_sent_after_a_stale_hint_looks_once_more(edge: Edge, member: Member) -> None:
    run = await edge.start(TWO_STEPS)
    await edge.runs.Cancel(pb.CancelRunRequest(run_id=run.id), timeout=PATIENCE)
    whereabouts = edge.backend.supervisor.whereabouts
    whereabouts.placed([id_of(run)], "c2")
    assert await whereabouts.of(id_of(run)) == member.row
    assert (await edge.get(run)).state == run_pb2.RUN_STATE_CANCELLED
    assert await whereabouts.of(id_of(run)) is Residence.AT_REST


async def test_a_run_that_nobody_has_now_is_asked_for_again(edge: Edge, member: Member) -> None:
    """Its owner is gone, and it is not claimed yet."""
    run = await member.start()
    others = dataclasses.replace(member.row, coordinator_id="c3")
    edge.backend.supervisor.whereabouts.heard([others])
    answers = [
        await refused(edge.runs.Get(pb.GetRunRequest(run_id=run.id), timeout=PATIENCE)),
        await refused(edge.runs.Cancel(pb.CancelRunRequest(run_id=run.id, request_id="r"), timeout=PATIENCE)),
        await refused(anext(aiter(edge.runs.Watch(pb.WatchRunRequest(run_id=run.id), timeout=PATIENCE)))),
    ]
    for answer in answers:
        assert (answer.code, answer.reason) == (grpc.StatusCode.UNAVAILABLE, "STOPPING")
        assert answer.retry_seconds is not None
    edge.backend.supervisor.whereabouts.heard([member.row])
    cancelled = await edge.runs.Cancel(pb.CancelRunRequest(run_id=run.id, request_id="r"), timeout=PATIENCE)
    assert cancelled.run.state == run_pb2.RUN_STATE_CANCELLED, "what was refused was not remembered as done"


async def test_a_watch_of_a_run_whose_owner_is_heard_of_no_more_is_to_be_repeated(edge: Edge, member: Member) -> None:
    run = await member.start()
    member.goes()
    call = edge.runs.Watch(pb.WatchRunRequest(run_id=run.id), timeout=PATIENCE)
    assert (await refused(anext(aiter(call)))).reason == "STOPPING"


async def test_a_stream_that_has_begun_is_not_begun_anew(edge: Edge, member: Member) -> None:
    """Whoever reads it goes on from where it was. It would be told once more what it has read."""
    run = await member.start()
    supervisor = member.edge.backend.supervisor
    actor = supervisor.actor(id_of(run))
    assert actor is not None
    numbers: list[int] = []

    async def read() -> None:
        async for response in edge.runs.Watch(pb.WatchRunRequest(run_id=run.id), timeout=PATIENCE):
            numbers.extend(event.number for event in response.events)
            supervisor.stopping = True
            for watcher in actor.watchers:
                watcher.close()

    assert (await refused(within(read()))).reason == "STOPPING"
    assert numbers
    assert numbers == sorted(set(numbers))


async def test_runs_of_two_owners_are_compared(edge: Edge, member: Member) -> None:
    theirs, ours = await member.start(), await edge.start(TWO_STEPS)
    compared = await member.edge.runs.Diff(pb.DiffRunsRequest(run_id=theirs.id, other_run_id=ours.id), timeout=PATIENCE)
    assert [step.step for step in compared.steps] == []
    for each in (edge, member.edge):
        missing = pb.DiffRunsRequest(run_id=theirs.id, other_run_id="0192a000-0000-7000-8000-000000000000")
        assert (await refused(each.runs.Diff(missing, timeout=PATIENCE))).violations.keys() == {"other_run_id"}


# --- agents


async def test_a_member_takes_the_links_that_name_it_and_sends_all_others_to_the_head(
    edge: Edge, member: Member
) -> None:
    run = await member.start()
    linked = ScriptedAgent(member.follower.address, metadata=((LINK, member.name),))
    await linked.connect(credits=4)
    assert (await linked.grant()).lease.run_id == id_of(run)
    former = f"c2@{member.row.epoch - 1}"
    for metadata in ((), ((LINK, former),)):
        agent = ScriptedAgent(member.follower.address, "agent-2", metadata=metadata)
        assert (await agent.refused())[0] is grpc.StatusCode.UNAVAILABLE
        assert agent.redirects == [edge.server.address]
    stray = ScriptedAgent(edge.server.address, "agent-3", metadata=((LINK, former),))
    assert (await stray.refused())[0] is grpc.StatusCode.UNAVAILABLE
    assert stray.redirects == []
    await linked.vanish()


async def test_what_agents_ask_by_a_link_is_the_members_and_all_else_the_heads(edge: Edge, member: Member) -> None:
    """Agents whose stream to the head goes by the member ask their other questions here, too."""
    stub = SecretServiceStub(member.edge.channel)
    for metadata in (((LINK, member.name),), ()):
        await refused(stub.Get(GetSecretsRequest(), metadata=metadata, timeout=PATIENCE))
    asked = member.edge.backend.supervisor.counts.calls.methods["/penstock.agent.v1.SecretService/Get"]
    assert (sum(asked.ended.values()), sum(asked.forwarded.values())) == (1, 1)


# --- starts


def _start(**fields: Any) -> pb.StartRunRequest:
    return pb.StartRunRequest(pipeline="p", **fields)


async def _started(edge: Edge, **fields: Any) -> run_pb2.Run:
    return (await edge.runs.Start(_start(**fields), timeout=PATIENCE)).run


@on_postgres
async def test_the_head_has_free_runs_start_where_it_chooses(edge: Edge, member: Member, choice: Choice) -> None:
    choice.member = member.row
    await edge.create(TWO_STEPS)
    assert (await _started(edge)).owner == "c1", "what is not known of the pipeline the first start brings"
    run = await _started(member.edge, request_id="r1")
    assert (run.owner, run.state) == ("c2", run_pb2.RUN_STATE_PENDING)
    assert member.edge.backend.supervisor.actor(id_of(run)) is not None
    assert (await _started(edge, request_id="r1")).id == run.id
    many = pb.StartManyRunsRequest(requests=[_start(request_id="r1"), _start(request_id="r2")])
    started = (await edge.runs.StartMany(many, timeout=PATIENCE)).run_ids
    assert started[0] == run.id
    assert (await edge.get(run_pb2.Run(id=started[1]))).owner == "c2"
    for fields in ({"priority": 1}, {"weight": 2.0}, {"run_key": "k"}):
        assert (await _started(edge, **fields)).owner == "c1"
    assert (await _started(edge, version_number=1)).owner == "c2"
    assert [count for _, count in choice.asked] == [1, 1, 2, 1]
    choice.member = None
    assert (await _started(edge, request_id="r3")).owner == "c1"
    choice.member = member.row
    again = await _started(edge, request_id="r3")
    assert again.owner == "c1", "a member is told of the run that the request has started elsewhere"
    assert edge.backend.supervisor.counts.adoptions.placed == 6


async def test_a_member_starts_nothing_that_is_bound_and_the_head_does(
    edge: Edge, member: Member, choice: Choice
) -> None:
    await edge.create(LIMITED)
    bound = member.edge.runs.Start(_start(), metadata=member.mark, timeout=PATIENCE)
    assert (await refused(bound)).reason == "NOT_FREE"
    await _started(edge)
    choice.member = member.row
    assert (await _started(edge, request_id="r1")).owner == "c1"
    assert (await _started(edge)).owner == "c1", "the member has started nothing for certain"


async def test_a_new_version_is_placed_by_what_it_is(edge: Edge, member: Member, choice: Choice) -> None:
    await edge.create(TWO_STEPS)
    await _started(edge)
    choice.member = member.row
    await edge.create(LIMITED)
    assert (await _started(edge, request_id="r1")).owner == "c1"
    assert choice.asked == [], "nothing is known of it yet"


@on_postgres
async def test_a_start_that_a_member_did_not_answer_is_made_here_once(
    edge: Edge, member: Member, choice: Choice
) -> None:
    await edge.create(TWO_STEPS)
    await _started(edge)
    choice.member = member.row
    lost = await _started(edge, request_id="r1")
    choice.member = dataclasses.replace(member.row, address=f"127.0.0.1:{take_port(0, '')}", epoch=member.row.epoch + 1)
    # It was started by the member; the head's repetition is told so.
    assert (await _started(edge, request_id="r1")).id == lost.id
    run = await _started(edge, request_id="r2")
    assert run.owner == "c1"
    answer = await refused(edge.runs.Start(_start(), timeout=PATIENCE))
    assert (answer.code, answer.reason) == (grpc.StatusCode.UNAVAILABLE, "OWNER_LOST")


async def test_without_members_a_call_is_the_handlers_own(edge: Edge) -> None:
    """Nothing stands between: what the guard awaits is what the handler gave."""
    answer = object()

    class Inside:
        def service(self, details: Any) -> Any:
            return grpc.unary_unary_rpc_method_handler(lambda request, context: answer, None, None)

    class Details(grpc.HandlerCallDetails):
        invocation_metadata = ()

        def __init__(self, method: str) -> None:
            self.method = method

    nothing: Any = None
    head = AtHead(Inside(), edge.backend.supervisor.whereabouts, nothing, nothing)
    for method in ("Get", "Start"):
        handler: Any = head.service(Details(f"/penstock.v1.RunService/{method}"))
        assert handler.unary_unary(nothing, nothing) is answer

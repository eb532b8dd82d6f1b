"""What a caller hears when there is too much to do: who is refused, when, and that what was accepted is not."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any
from unittest.mock import patch

import grpc
import pytest
from grpc_health.v1 import health_pb2
from grpc_health.v1.health_pb2_grpc import HealthStub
from tests.integration.api.answers import Answer, refused
from tests.integration.api.conftest import ONE_STEP, PATIENCE, Edge, spec, start_edge, stop_edge
from tests.waiting import until

from penstock.agent.v1 import agent_service_pb2 as wire
from penstock.v1 import bulk_service_pb2, bundle_service_pb2
from penstock.v1 import pipeline_service_pb2 as pipelines_pb
from penstock.v1 import run_service_pb2 as runs_pb
from penstock.v1.bulk_service_pb2_grpc import BulkServiceStub
from penstock_coordinator.adapters.memory import Faults, MemoryDatabase, memory_stores
from penstock_coordinator.adapters.memory.faults import FailBefore
from penstock_coordinator.api import guard
from penstock_coordinator.runtime.admission import Bounds, Strain
from penstock_coordinator.runtime.supervisor import Timing

EXHAUSTED, AWAY = grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.UNAVAILABLE


@contextlib.asynccontextmanager
async def _edge(faults: Faults | None = None, **timing: Any) -> AsyncIterator[Edge]:
    stores = memory_stores(MemoryDatabase(), coordinator_id="c1", lanes=1, faults=faults)
    made = await start_edge(stores, timing=Timing(**timing))
    try:
        await made.create(ONE_STEP)
        yield made
    finally:
        await stop_edge(made)


def _start(edge: Edge, **fields: Any) -> Awaitable[runs_pb.StartRunResponse]:
    request = runs_pb.StartRunRequest(pipeline="p", **fields)
    call: Awaitable[runs_pb.StartRunResponse] = edge.runs.Start(request, timeout=PATIENCE)
    return call


def _is_overloaded(answer: Answer, short: str) -> None:
    assert (answer.code, answer.reason, answer.metadata) == (EXHAUSTED, "OVERLOADED", {"short": short})
    assert answer.retry_seconds is not None
    assert 0.05 <= answer.retry_seconds <= 15


# --- the backlog


async def test_runs_that_wait_to_begin_are_bounded_by_priority_and_begun_ones_make_room() -> None:
    async with _edge(admission=Bounds(backlog=10)) as edge:
        for _ in range(5):
            await _start(edge, priority=-1)
        low = await refused(_start(edge, priority=-1))
        _is_overloaded(low, "backlog")
        assert "5 runs wait to begin" in low.message
        assert "PENSTOCK_MAX_BACKLOG" in low.message
        for _ in range(4):
            await _start(edge)
        _is_overloaded(await refused(_start(edge)), "backlog")
        await _start(edge, priority=1)
        _is_overloaded(await refused(_start(edge, priority=1)), "backlog")
        many = runs_pb.StartManyRunsRequest(requests=[runs_pb.StartRunRequest(pipeline="p")] * 3)
        _is_overloaded(await refused(edge.runs.StartMany(many, timeout=PATIENCE)), "backlog")

        await edge.agent(slots=4)
        assert await _gone_down(edge, 6)
        await _start(edge)


async def _gone_down(edge: Edge, backlog: int) -> bool:
    async def is_so() -> bool:
        return edge.backend.supervisor.admission.backlog <= backlog

    return await until(is_so)


async def test_a_pipelines_own_priority_counts_for_a_start_that_says_none() -> None:
    async with _edge(admission=Bounds(backlog=10)) as edge:
        await edge.create(spec({"name": "a"}, name="low", priority=-1))
        await edge.create(spec({"name": "a"}, name="high", priority=1))
        for _ in range(5):
            await _start(edge)
        starts = {name: runs_pb.StartRunRequest(pipeline=name) for name in ("low", "high")}
        _is_overloaded(await refused(edge.runs.Start(starts["low"], timeout=PATIENCE)), "backlog")
        await edge.runs.Start(starts["high"], timeout=PATIENCE)


async def test_a_full_backlog_refuses_before_anything_is_made_of_the_request() -> None:
    async with _edge(admission=Bounds(backlog=2)) as edge:
        for _ in range(2):
            await _start(edge, priority=1)
        raw: Any = edge.channel.unary_unary("/penstock.v1.RunService/Start")
        _is_overloaded(await refused(raw(b"\xff no message at all", timeout=PATIENCE)), "backlog")


async def test_children_of_what_was_accepted_are_let_in_past_every_limit() -> None:
    async with _edge(admission=Bounds(backlog=1)) as edge:
        parent = spec({"name": "child", "pipeline": {"name": "p"}}, name="parent")
        await edge.create(parent)
        agent = await edge.agent()
        run = (await edge.runs.Start(runs_pb.StartRunRequest(pipeline="parent"), timeout=PATIENCE)).run
        edge.backend.supervisor.admission.measure(Strain(memory=5.0), "")
        await agent.succeed(await agent.grant())
        ended = [event async for page in _watch(edge, run.id) for event in page.events]
        assert ended


def _watch(edge: Edge, run_id: str) -> Any:
    edge.backend.supervisor.admission.measure(Strain(), "")
    return edge.runs.Watch(runs_pb.WatchRunRequest(run_id=run_id), timeout=PATIENCE)


async def test_a_run_that_is_over_before_it_began_or_begins_anew_is_counted_right() -> None:
    async with _edge(admission=Bounds(backlog=10)) as edge:
        admission = edge.backend.supervisor.admission
        run = (await _start(edge)).run
        assert admission.backlog == 1
        await edge.runs.Cancel(runs_pb.CancelRunRequest(run_id=run.id), timeout=PATIENCE)
        assert await _gone_down(edge, 0)
        await edge.runs.Retry(runs_pb.RetryRunRequest(run_id=run.id), timeout=PATIENCE)
        assert admission.backlog == 1
        await edge.agent()
        assert await _gone_down(edge, 0)
        assert admission.backlog == 0


# --- what else can be short

_LOADS: dict[str, Callable[[Edge], Awaitable[Any]]] = {
    "Start": lambda edge: _start(edge),
    "StartMany": lambda edge: edge.runs.StartMany(
        runs_pb.StartManyRunsRequest(requests=[runs_pb.StartRunRequest(pipeline="p")]), timeout=PATIENCE
    ),
    "Watch": lambda edge: edge.runs.Watch(runs_pb.WatchRunRequest(run_id="x"), timeout=PATIENCE).read(),
    "TailLogs": lambda edge: edge.runs.TailLogs(runs_pb.TailLogsRequest(run_id="x"), timeout=PATIENCE).read(),
    "List": lambda edge: edge.runs.List(runs_pb.ListRunsRequest(), timeout=PATIENCE),
    "Create": lambda edge: edge.pipelines.Create(pipelines_pb.CreatePipelineRequest(spec=ONE_STEP), timeout=PATIENCE),
    "Upload": lambda edge: edge.bundles.Upload(
        iter([bundle_service_pb2.UploadBundleRequest(digest="x")]), timeout=PATIENCE
    ),
    "PushLogs": lambda edge: edge.agent_service.PushLogs(
        iter([wire.PushLogsRequest(agent_id="agent-1")]), timeout=PATIENCE
    ),
    "bulk retry": lambda edge: BulkServiceStub(edge.channel).Create(
        bulk_service_pb2.CreateBulkJobRequest(job=bulk_service_pb2.BulkJob(action=bulk_service_pb2.BULK_ACTION_RETRY)),
        timeout=PATIENCE,
    ),
}


@pytest.mark.parametrize("name", _LOADS)
@pytest.mark.parametrize("short", ["lag", "commits", "memory"])
async def test_every_call_that_makes_work_is_refused_with_a_delay(name: str, short: str) -> None:
    async with _edge() as edge:
        edge.backend.supervisor.admission.measure(Strain(**{short: 2.0}), "")
        _is_overloaded(await refused(_LOADS[name](edge)), short)


async def test_what_makes_room_or_looks_at_one_thing_is_always_answered() -> None:
    async with _edge() as edge:
        run = (await _start(edge)).run
        edge.backend.supervisor.admission.measure(Strain(9.0, 9.0, 9.0), "")
        assert (await edge.get(run)).id == run.id
        await edge.runs.Pause(runs_pb.PauseRunRequest(run_id=run.id), timeout=PATIENCE)
        await edge.agent()
        bulk_cancel = bulk_service_pb2.BulkJob(action=bulk_service_pb2.BULK_ACTION_CANCEL)
        await BulkServiceStub(edge.channel).Create(
            bulk_service_pb2.CreateBulkJobRequest(job=bulk_cancel), timeout=PATIENCE
        )
        await edge.runs.Cancel(runs_pb.CancelRunRequest(run_id=run.id), timeout=PATIENCE)


# --- the database


@contextlib.contextmanager
def _impatient(edge: Edge) -> Iterator[None]:
    """In here a caller waits for a commit for 0.2 s: what is to be committed has to be so before."""
    with patch.object(edge.backend.supervisor, "patience", 0.2):
        yield


async def test_a_commit_that_takes_too_long_is_answered_and_the_same_request_later_finds_its_run() -> None:
    faults = Faults()
    async with _edge(faults) as edge:
        faults.hold = asyncio.Event()
        with _impatient(edge):
            answer = await refused(_start(edge, request_id="once"))
        assert (answer.code, answer.reason) == (AWAY, "OUTCOME_UNKNOWN")
        assert "same request id" in answer.message
        assert answer.retry_seconds is not None
        faults.hold.set()
        run = (await _start(edge, request_id="once")).run
        listed = await edge.runs.List(runs_pb.ListRunsRequest(), timeout=PATIENCE)
        assert [each.id for each in listed.runs] == [run.id], "it was started once"


async def test_controls_wait_no_longer_than_starts_do() -> None:
    faults = Faults()
    async with _edge(faults) as edge:
        run = (await _start(edge)).run
        faults.hold = asyncio.Event()
        with _impatient(edge):
            pause = await refused(edge.runs.Pause(runs_pb.PauseRunRequest(run_id=run.id), timeout=PATIENCE))
        assert (pause.code, pause.reason) == (AWAY, "OUTCOME_UNKNOWN")
        faults.hold.set()


async def test_while_commits_wait_for_the_database_a_start_is_refused_at_once_and_nothing_is_kept() -> None:
    faults = Faults()
    async with _edge(faults) as edge:
        admission = edge.backend.supervisor.admission
        faults.failures.append(FailBefore())
        admission.measure(Strain(), "commits wait for the database")
        answer = await refused(_start(edge))
        assert (answer.code, answer.reason) == (AWAY, "DATABASE_UNAVAILABLE")
        assert answer.retry_seconds is not None
        assert admission.backlog == 0
        admission.measure(Strain(), "")
        await _start(edge)


# --- calls and messages


async def test_calls_past_the_bound_are_refused_with_a_delay_but_for_agents_and_health() -> None:
    with patch.object(guard, "GUARDED_CALLS", 2):
        edge = await start_edge(memory_stores(MemoryDatabase(), coordinator_id="c1", lanes=1))
    await edge.create()
    runs = [(await _start(edge)).run for _ in range(3)]
    watches = [edge.runs.Watch(runs_pb.WatchRunRequest(run_id=run.id), timeout=PATIENCE) for run in runs[:2]]
    for watch in watches:
        await watch.read()
    past = await refused(edge.get(runs[0]))
    assert (past.code, past.reason) == (EXHAUSTED, "TOO_MANY_CALLS")
    assert past.retry_seconds is not None
    health: Any = HealthStub(edge.channel)
    answer = await health.Check(health_pb2.HealthCheckRequest(), timeout=PATIENCE)
    assert answer.status == health_pb2.HealthCheckResponse.SERVING
    await edge.agent()
    # Its session counts too: with one of the two there would be no room.
    for watch in watches:
        watch.cancel()

    async def let_in() -> bool:
        with contextlib.suppress(grpc.aio.AioRpcError):
            return bool((await edge.get(runs[0])).id)
        return False

    assert await until(let_in)
    await stop_edge(edge)


async def test_an_agents_message_has_a_bound_of_its_own() -> None:
    async with _edge() as edge:
        call = edge.agent_service.Connect(timeout=PATIENCE)
        await call.write(wire.AgentMessage(seq=1, hello=wire.Hello(agent_id="a" * (5 << 20))))
        answer = await refused(call.read())
        assert (answer.code, answer.reason) == (EXHAUSTED, "MESSAGE_TOO_LARGE")

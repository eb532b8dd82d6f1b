"""JanitorService through a real client, and how removed runs look from there."""

from __future__ import annotations

import grpc
import pytest
from tests.integration.api.answers import refused
from tests.integration.api.conftest import PATIENCE, Edge, spec

from penstock.v1 import janitor_service_pb2 as pb
from penstock.v1 import janitor_service_pb2_grpc as pb_grpc
from penstock.v1 import run_service_pb2 as runs_pb
from penstock.v1.pipeline_pb2 import PipelineSpec
from penstock_coordinator.ports import EndedRuns
from penstock_coordinator.runtime.janitor import Janitor
from penstock_coordinator.runtime.retention import Pace, Retention


async def run_janitor(edge: Edge, *, dry_run: bool = False) -> pb.JanitorReport:
    stub = pb_grpc.JanitorServiceStub(edge.channel)
    return (await stub.Run(pb.RunJanitorRequest(dry_run=dry_run), timeout=PATIENCE)).report


def keep_no_runs(edge: Edge) -> None:
    janitor = edge.backend.janitor
    janitor._retention, janitor._pace = Retention(runs=1, requests=1), Pace(pause=0)


async def finished(edge: Edge, pipeline: PipelineSpec) -> str:
    agent = await edge.agent(f"agent-{len(edge.agents)}")
    run = await edge.start(pipeline)
    await agent.succeed(await agent.grant(), b"1")
    await edge.watch(run)
    return run.id


async def test_a_pass_tells_what_went_and_a_dry_one_what_would(edge: Edge) -> None:
    run_id = await finished(edge, spec({"name": "a"}))
    assert (await run_janitor(edge)).runs == 0
    keep_no_runs(edge)
    foretold = await run_janitor(edge, dry_run=True)
    assert (foretold.dry_run, foretold.runs, foretold.step_runs, foretold.attempts) == (True, 1, 1, 1)
    assert (await edge.runs.Get(runs_pb.GetRunRequest(run_id=run_id), timeout=PATIENCE)).run.id == run_id
    report = await run_janitor(edge)
    assert (report.dry_run, report.runs, report.events) == (False, 1, foretold.events)
    assert report.end_time.ToNanoseconds() >= report.start_time.ToNanoseconds() > 0


async def test_a_removed_run_is_not_found_and_that_is_why(edge: Edge) -> None:
    run_id = await finished(edge, spec({"name": "a"}))
    keep_no_runs(edge)
    await run_janitor(edge)
    never = "0198d6b8-0000-7000-8000-000000000000"
    asking = {
        run_id: ("RUN_REMOVED", "the run was removed on "),
        never: ("UNKNOWN_RUN", "there is no such run, or it was removed long ago"),
    }
    for asked, (reason, message) in asking.items():
        calls = (
            edge.runs.Get(runs_pb.GetRunRequest(run_id=asked), timeout=PATIENCE),
            edge.runs.Get(runs_pb.GetRunRequest(run_id=asked, at_event=2), timeout=PATIENCE),
            edge.runs.Explain(runs_pb.ExplainRunRequest(run_id=asked), timeout=PATIENCE),
            edge.runs.ListStepRuns(runs_pb.ListStepRunsRequest(run_id=asked), timeout=PATIENCE),
            edge.runs.Cancel(runs_pb.CancelRunRequest(run_id=asked), timeout=PATIENCE),
            edge.runs.Retry(runs_pb.RetryRunRequest(run_id=asked), timeout=PATIENCE),
            edge.runs.Watch(runs_pb.WatchRunRequest(run_id=asked), timeout=PATIENCE).read(),
            edge.runs.TailLogs(runs_pb.TailLogsRequest(run_id=asked), timeout=PATIENCE).read(),
            edge.runs.WaitMany(runs_pb.WaitManyRunsRequest(run_ids=[asked]), timeout=PATIENCE).read(),
        )
        for call in calls:
            answer = await refused(call)
            assert (answer.code, answer.reason) == (grpc.StatusCode.NOT_FOUND, reason)
            assert answer.message.partition(": ")[2].startswith(message) or answer.message.startswith(message)
    listed = await edge.runs.List(runs_pb.ListRunsRequest(), timeout=PATIENCE)
    assert not listed.runs


async def test_a_child_of_a_removed_run_is_shown_with_its_parents_id(edge: Edge) -> None:
    await edge.create(spec({"name": "work"}, name="leaf"))
    top = spec({"name": "child", "pipeline": {"name": "leaf"}}, name="top")
    top_id = await finished(edge, top)
    listing = runs_pb.ListRunsRequest(parent_run_id=top_id)
    (child,) = (await edge.runs.List(listing, timeout=PATIENCE)).runs
    assert (child.parent.run_id, child.parent.step) == (top_id, "child")
    store = edge.backend.stores.retention
    (parent,) = await store.ended_runs(EndedRuns(), bytes(16), 10)
    await store.remove_runs([parent], EndedRuns(), 1)
    for shown in (
        (await edge.runs.Get(runs_pb.GetRunRequest(run_id=child.id), timeout=PATIENCE)).run,
        *(await edge.runs.List(listing, timeout=PATIENCE)).runs,
    ):
        assert (shown.id, shown.parent.run_id, shown.parent.step) == (child.id, top_id, "")


async def test_of_two_coordinators_one_cleans(edge: Edge) -> None:
    async with edge.backend.stores.retention.alone():
        with pytest.raises(grpc.aio.AioRpcError) as busy:
            await run_janitor(edge)
    assert busy.value.code() is grpc.StatusCode.ABORTED
    assert "run it again" in (busy.value.details() or "")
    assert isinstance(edge.backend.janitor, Janitor)

"""RunService through a real client: starting, watching, reading, cancelling."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from google.protobuf.struct_pb2 import Value
from tests.integration.api.answers import refused
from tests.integration.api.conftest import PATIENCE, on_both_kinds_of_stores, spec
from tests.waiting import until

from penstock.v1 import pipeline_service_pb2 as pipelines_pb
from penstock.v1 import run_pb2
from penstock.v1 import run_service_pb2 as pb

if TYPE_CHECKING:
    from tests.integration.api.conftest import Edge

CHAIN = spec({"name": "a"}, {"name": "b", "depends_on": ["a"]}, labels={"team": "data"})
MAPPED = spec({"name": "m", "map": {"values": [1, 2, 3]}}, {"name": "j", "depends_on": ["m"]})
TYPED = spec(
    {"name": "a"},
    name="typed",
    parameters=[
        {"name": "n", "type": "PARAMETER_TYPE_INT", "default": 3},
        {"name": "text", "type": "PARAMETER_TYPE_STRING"},
    ],
)


@on_both_kinds_of_stores
async def test_a_run_is_started_watched_and_read(edge: Edge) -> None:
    agent = await edge.agent()
    run = await edge.start(CHAIN, labels={"who": "me"}, trace_context={"traceparent": "00-1-2-01"})
    assert run.pipeline == "p"
    assert run.version_number == 1
    assert dict(run.labels) == {"team": "data", "who": "me"}
    assert run.generation == 1
    for output in (b'{"x": 12345678901234567890}', b"null"):
        await agent.succeed(await agent.grant(), output)
    events = await edge.watch(run)
    assert [event.number for event in events] == list(range(1, len(events) + 1))
    states = [event.run_state for event in events if event.run_state]
    assert states == [run_pb2.RUN_STATE_PENDING, run_pb2.RUN_STATE_RUNNING, run_pb2.RUN_STATE_COMPLETED]
    ended = await edge.get(run)
    assert ended.state == run_pb2.RUN_STATE_COMPLETED
    assert ended.last_event == len(events)
    assert ended.step_counts.completed == 2
    detail = await edge.runs.GetStepRun(pb.GetStepRunRequest(run_id=run.id, step="a"))
    assert json.loads(detail.step_run.output_json) == {"x": 12345678901234567890}
    assert detail.step_run.agent_id == "agent-1"
    assert [attempt.outcome for attempt in detail.attempts] == [run_pb2.ATTEMPT_OUTCOME_COMPLETED]


TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


async def test_a_run_names_its_trace(edge: Edge) -> None:
    called = await edge.start(CHAIN, trace_context={"traceparent": TRACEPARENT})
    alone = await edge.start(CHAIN)
    assert (await edge.get(called)).trace_id == called.trace_id == TRACEPARENT.split("-")[1]
    assert len(alone.trace_id) == 32
    assert alone.trace_id == (await edge.get(alone)).trace_id != called.trace_id


async def test_who_asks_again_from_another_span_gets_the_same_run(edge: Edge) -> None:
    first = await edge.start(CHAIN, trace_context={"traceparent": TRACEPARENT}, request_id="r")
    again = await edge.start(CHAIN, trace_context={"traceparent": TRACEPARENT.replace("33", "44")}, request_id="r")
    without = await edge.start(CHAIN, request_id="r")
    assert first.id == again.id == without.id
    assert without.trace_id == first.trace_id


async def test_a_watch_can_begin_at_any_event_and_tells_the_same(edge: Edge) -> None:
    agent = await edge.agent()
    run = await edge.start(CHAIN)
    for _ in range(2):
        await agent.succeed(await agent.grant())
    events = await edge.watch(run)
    for first in range(1, len(events) + 1):
        assert await edge.watch(run, first) == events[first - 1 :]
    past = await refused(edge.watch(run, len(events) + 2))
    assert past.code is grpc.StatusCode.OUT_OF_RANGE
    assert past.metadata == {"last_event": str(len(events))}
    assert "from_event" in past.violations


async def test_a_watch_of_a_waiting_run_from_its_next_event_goes_live(edge: Edge) -> None:
    run = await edge.start(CHAIN)
    call = edge.runs.Watch(pb.WatchRunRequest(run_id=run.id, from_event=run.last_event + 1), timeout=PATIENCE)
    reading = asyncio.create_task(call.read())
    agent = await edge.agent()
    grant = await agent.grant()
    response = await reading
    assert isinstance(response, pb.WatchRunResponse)
    assert response.events[0].number == run.last_event + 1
    assert response.events[0].run_state == run_pb2.RUN_STATE_RUNNING
    await agent.succeed(grant)
    call.cancel()


async def test_a_client_that_goes_leaves_no_watcher_behind(edge: Edge) -> None:
    run = await edge.start(CHAIN)
    call = edge.runs.Watch(pb.WatchRunRequest(run_id=run.id), timeout=PATIENCE)
    await call.read()
    actor = edge.backend.supervisor.actor(bytes.fromhex(run.id.replace("-", "")))
    assert actor is not None
    assert len(actor.watchers) == 1
    call.cancel()

    async def nobody_watches() -> bool:
        return not actor.watchers

    await until(nobody_watches)


async def test_items_of_a_mapped_step_are_listed_page_by_page(edge: Edge) -> None:
    agent = await edge.agent(slots=8)
    run = await edge.start(MAPPED)
    for _ in range(3):
        await agent.succeed(await agent.grant(), b'"done"')
    await agent.succeed(await agent.grant())
    await edge.watch(run)
    names: list[str] = []
    token = ""
    while True:
        request = pb.ListStepRunsRequest(run_id=run.id, step="m", page_size=2, page_token=token)
        page = await edge.runs.ListStepRuns(request)
        names += [step.display_name for step in page.step_runs]
        token = page.next_page_token
        if not token:
            break
    assert names == ["m[0]", "m[1]", "m[2]"]
    whole = await edge.runs.GetStepRun(pb.GetStepRunRequest(run_id=run.id, step="m"))
    assert json.loads(whole.step_run.output_json) == ["done", "done", "done"]
    assert whole.step_run.item_counts.completed == 3
    item = await edge.runs.GetStepRun(pb.GetStepRunRequest(run_id=run.id, step="m", item=[1]))
    assert list(item.step_run.item) == [1]
    only = await edge.runs.ListStepRuns(pb.ListStepRunsRequest(run_id=run.id, states=[run_pb2.STEP_RUN_STATE_FAILED]))
    assert not only.step_runs


async def test_large_outputs_are_left_out_of_lists_only(edge: Edge) -> None:
    agent = await edge.agent()
    run = await edge.start(spec({"name": "a"}))
    large = json.dumps("x" * 5_000).encode()
    await agent.succeed(await agent.grant(), large)
    await edge.watch(run)
    listed = await edge.runs.ListStepRuns(pb.ListStepRunsRequest(run_id=run.id))
    assert listed.step_runs[0].output_json == ""
    detail = await edge.runs.GetStepRun(pb.GetStepRunRequest(run_id=run.id, step="a"))
    assert detail.step_run.output_json.encode() == large


async def test_parameters_are_bound_and_shown(edge: Edge) -> None:
    run = await edge.start(TYPED, parameters={"text": Value(string_value="; rm -rf /")})
    assert run.parameters["n"].number_value == 3
    assert run.parameters["text"].string_value == "; rm -rf /"
    missing = await refused(edge.runs.Start(pb.StartRunRequest(pipeline="typed")))
    assert missing.code is grpc.StatusCode.INVALID_ARGUMENT
    assert list(missing.violations) == ["parameters.text"]
    wrong = pb.StartRunRequest(
        pipeline="typed", parameters={"n": Value(string_value="3"), "nope": Value(bool_value=True)}
    )
    assert {"parameters.n", "parameters.nope"} <= set((await refused(edge.runs.Start(wrong))).violations)


@on_both_kinds_of_stores
async def test_a_start_is_of_the_version_that_is_the_newest_now(edge: Edge) -> None:
    """Whoever made it: what the coordinator remembers of the pipeline is no more than a guess."""

    async def started(request_id: str) -> run_pb2.Run:
        request = pb.StartRunRequest(pipeline="p", request_id=request_id)
        return (await edge.runs.Start(request, timeout=PATIENCE)).run

    await edge.create(CHAIN)
    first = await started("1")
    assert [first.version_number, (await started("2")).version_number] == [1, 1]
    await edge.create(MAPPED)
    assert [(await started(request_id)).version_number for request_id in ("3", "4", "2")] == [2, 2, 1]
    await edge.create(spec({"name": "a"}, parameters=[{"name": "n", "type": "PARAMETER_TYPE_INT", "default": 3}]))
    request = pb.StartRunRequest(pipeline="p", request_id="5", parameters={"n": Value(number_value=4)})
    run = (await edge.runs.Start(request, timeout=PATIENCE)).run
    assert (run.version_number, run.parameters["n"].number_value) == (3, 4)
    for live in (await edge.runs.List(pb.ListRunsRequest())).runs:
        await edge.runs.Cancel(pb.CancelRunRequest(run_id=live.id, mode=pb.CANCEL_MODE_NOW))
        await edge.watch(live)
    await edge.pipelines.Delete(pipelines_pb.DeletePipelineRequest(name="p"))
    assert (await refused(edge.runs.Start(pb.StartRunRequest(pipeline="p", request_id="6")))).code is (
        grpc.StatusCode.NOT_FOUND
    )
    assert (await started("1")).id == first.id


@on_both_kinds_of_stores
async def test_runs_are_listed_newest_first_by_what_is_asked(edge: Edge) -> None:
    first = await edge.start(CHAIN, labels={"who": "me"})
    second = await edge.start(CHAIN)
    other = await edge.start(spec({"name": "a"}, name="other"))
    listed = await edge.runs.List(pb.ListRunsRequest(pipeline="p"))
    assert [run.id for run in listed.runs] == [second.id, first.id]
    assert not any(run.parameters for run in listed.runs)
    mine = await edge.runs.List(pb.ListRunsRequest(labels={"who": "me"}))
    assert [run.id for run in mine.runs] == [first.id]
    page = await edge.runs.List(pb.ListRunsRequest(page_size=2))
    assert [run.id for run in page.runs] == [other.id, second.id]
    rest = await edge.runs.List(pb.ListRunsRequest(page_size=2, page_token=page.next_page_token))
    assert [run.id for run in rest.runs] == [first.id]
    assert rest.next_page_token == ""
    elsewhere = await refused(edge.runs.List(pb.ListRunsRequest(pipeline="p", page_token=page.next_page_token)))
    assert list(elsewhere.violations) == ["page_token"]


async def test_a_cancelled_run_says_why(edge: Edge) -> None:
    run = await edge.start(CHAIN)
    answer = await edge.runs.Cancel(pb.CancelRunRequest(run_id=run.id, reason="no need"))
    assert answer.run.state in (run_pb2.RUN_STATE_CANCELLING, run_pb2.RUN_STATE_CANCELLED)
    events = await edge.watch(run)
    assert events[-1].run_state == run_pb2.RUN_STATE_CANCELLED
    assert "no need" in (await edge.get(run)).reason
    again = await edge.runs.Cancel(pb.CancelRunRequest(run_id=run.id, reason="again"))
    assert again.run.state == run_pb2.RUN_STATE_CANCELLED


async def test_many_runs_are_all_accepted_or_none(edge: Edge) -> None:
    await edge.create(TYPED)
    good = pb.StartRunRequest(pipeline="typed", parameters={"text": Value(string_value="x")})
    many = await edge.runs.StartMany(pb.StartManyRunsRequest(requests=[good] * 5))
    assert len(set(many.run_ids)) == 5
    bad = pb.StartRunRequest(pipeline="typed")
    answer = await refused(edge.runs.StartMany(pb.StartManyRunsRequest(requests=[good, bad])))
    assert list(answer.violations) == ["requests[1].parameters.text"]
    assert "requests[1].parameters.text" in answer.message
    assert len((await edge.runs.List(pb.ListRunsRequest())).runs) == 5
    none = await refused(edge.runs.StartMany(pb.StartManyRunsRequest()))
    assert list(none.violations) == ["requests"]
    too_many = await refused(edge.runs.StartMany(pb.StartManyRunsRequest(requests=[good] * 1_001)))
    assert list(too_many.violations) == ["requests"]


@pytest.mark.parametrize(
    ("request_message", "code", "field"),
    [
        (pb.StartRunRequest(), "INVALID_ARGUMENT", "pipeline"),
        (pb.StartRunRequest(pipeline="a\0b"), "INVALID_ARGUMENT", "pipeline"),
        (pb.StartRunRequest(pipeline="../../etc/passwd"), "INVALID_ARGUMENT", "pipeline"),
        (pb.StartRunRequest(pipeline="no-such"), "NOT_FOUND", "pipeline"),
        (pb.StartRunRequest(pipeline="p", version_number=2), "NOT_FOUND", "version_number"),
        (pb.StartRunRequest(pipeline="p", version_number=-1), "INVALID_ARGUMENT", "version_number"),
        (pb.StartRunRequest(pipeline="p", version_number=2**62), "INVALID_ARGUMENT", "version_number"),
        (pb.StartRunRequest(pipeline="p", trace_context={"a": "b\nc"}), "INVALID_ARGUMENT", "trace_context"),
        (pb.StartRunRequest(pipeline="p", labels={"": "x"}), "INVALID_ARGUMENT", "labels[]"),
        (pb.StartRunRequest(pipeline="p", request_id="a\nb"), "INVALID_ARGUMENT", "request_id"),
        (pb.StartRunRequest(pipeline="p", request_id="a" * 129), "INVALID_ARGUMENT", "request_id"),
    ],
)
async def test_a_wrong_start_is_refused_by_field(
    edge: Edge, request_message: pb.StartRunRequest, code: str, field: str
) -> None:
    await edge.create()
    answer = await refused(edge.runs.Start(request_message))
    assert answer.code.name == code
    assert field in answer.violations
    assert answer.domain == "penstock"
    assert not (await edge.runs.List(pb.ListRunsRequest())).runs


async def test_start_answers_as_get_does(edge: Edge) -> None:
    more: dict[str, Any] = {"labels": {"b": "1", "a": "2"}, "trace_context": {"traceparent": "00-1"}, "run_key": "k"}
    run = await edge.start(CHAIN, priority=3, weight=2.5, **more)
    assert run == await edge.get(run)


async def test_many_runs_are_waited_for_in_one_call(edge: Edge) -> None:
    done, *live = [await edge.start(CHAIN) for _ in range(3)]
    await edge.runs.Cancel(pb.CancelRunRequest(run_id=done.id, mode=pb.CANCEL_MODE_NOW), timeout=PATIENCE)
    call = edge.runs.WaitMany(pb.WaitManyRunsRequest(run_ids=[run.id for run in (done, *live)] * 2), timeout=PATIENCE)
    responses = aiter(call)
    (first,) = (await anext(responses)).runs
    assert (first.id, first.state) == (done.id, run_pb2.RUN_STATE_CANCELLED)
    agent = await edge.agent()
    for _ in range(4):
        await agent.succeed(await agent.grant())
    ended = [run async for response in responses for run in response.runs]
    assert sorted(run.id for run in ended) == sorted(run.id for run in live)
    for run in ended:
        got = await edge.get(run)
        assert got.costs.total.attempts == 2
        got.ClearField("costs")  # which `Get` alone tells
        assert run == got
        assert run.state == run_pb2.RUN_STATE_COMPLETED


async def test_a_wait_that_is_given_up_leaves_nothing_behind(edge: Edge) -> None:
    run = await edge.start(CHAIN)
    endings = edge.backend.supervisor.endings
    call = edge.runs.WaitMany(pb.WaitManyRunsRequest(run_ids=[run.id]), timeout=PATIENCE)
    reading = asyncio.create_task(call.read())

    async def waiting(expected: bool) -> bool:
        return bool(endings._waiters) is expected

    await until(lambda: waiting(True))
    call.cancel()
    await until(lambda: waiting(False))
    await asyncio.wait({reading})


async def test_a_wait_for_an_unknown_run_names_it(edge: Edge) -> None:
    run = await edge.start(CHAIN)
    unknown = "00000000-0000-0000-0000-000000000000"
    answer = await refused(edge.runs.WaitMany(pb.WaitManyRunsRequest(run_ids=[run.id, unknown])).read())
    assert answer.code is grpc.StatusCode.NOT_FOUND
    assert "run_ids[1]" in answer.violations
    for wrong in ([], [run.id] * 1_001):
        answer = await refused(edge.runs.WaitMany(pb.WaitManyRunsRequest(run_ids=wrong)).read())
        assert answer.code is grpc.StatusCode.INVALID_ARGUMENT
        assert "run_ids" in answer.violations


@pytest.mark.parametrize(
    "run_id", ["", "x", "00000000000000000000000000000000", "00000000-0000-0000-0000-00000000000g"]
)
async def test_what_is_no_run_id_is_refused(edge: Edge, run_id: str) -> None:
    for call in (
        edge.runs.Get(pb.GetRunRequest(run_id=run_id)),
        edge.runs.Cancel(pb.CancelRunRequest(run_id=run_id)),
        edge.runs.ListStepRuns(pb.ListStepRunsRequest(run_id=run_id)),
        edge.runs.GetStepRun(pb.GetStepRunRequest(run_id=run_id, step="a")),
        edge.runs.Watch(pb.WatchRunRequest(run_id=run_id)).read(),
        edge.runs.TailLogs(pb.TailLogsRequest(run_id=run_id)).read(),
    ):
        answer = await refused(call)
        assert answer.code is grpc.StatusCode.INVALID_ARGUMENT
        assert list(answer.violations) == ["run_id"]


async def test_an_unknown_run_is_not_found(edge: Edge) -> None:
    run_id = "00000000-0000-0000-0000-000000000000"
    for call in (
        edge.runs.Get(pb.GetRunRequest(run_id=run_id)),
        edge.runs.Cancel(pb.CancelRunRequest(run_id=run_id)),
        edge.runs.ListStepRuns(pb.ListStepRunsRequest(run_id=run_id)),
        edge.runs.GetStepRun(pb.GetStepRunRequest(run_id=run_id, step="a")),
        edge.runs.Watch(pb.WatchRunRequest(run_id=run_id)).read(),
        edge.runs.TailLogs(pb.TailLogsRequest(run_id=run_id)).read(),
    ):
        answer = await refused(call)
        assert answer.code is grpc.StatusCode.NOT_FOUND
        assert "run_id" in answer.violations


async def test_an_unknown_step_or_item_is_not_found(edge: Edge) -> None:
    run = await edge.start(MAPPED)
    step = await refused(edge.runs.GetStepRun(pb.GetStepRunRequest(run_id=run.id, step="jj")))
    assert step.code is grpc.StatusCode.NOT_FOUND
    assert "did you mean 'j'?" in step.violations["step"]
    item = await refused(edge.runs.GetStepRun(pb.GetStepRunRequest(run_id=run.id, step="m", item=[3])))
    assert item.code is grpc.StatusCode.NOT_FOUND
    assert "item" in item.violations
    for wrong in ([-1], [1, 2], [2**40]):
        answer = await refused(edge.runs.GetStepRun(pb.GetStepRunRequest(run_id=run.id, step="m", item=wrong)))
        assert answer.code is grpc.StatusCode.INVALID_ARGUMENT
        assert list(answer.violations) == ["item"]


async def test_a_pipeline_with_live_runs_is_not_deleted(edge: Edge) -> None:
    run = await edge.start(CHAIN)
    delete = pipelines_pb.DeletePipelineRequest(name="p")
    answer = await refused(edge.pipelines.Delete(delete))
    assert answer.code is grpc.StatusCode.FAILED_PRECONDITION
    assert answer.reason == "LIVE_RUNS"
    await edge.runs.Cancel(pb.CancelRunRequest(run_id=run.id, mode=pb.CANCEL_MODE_NOW))
    await edge.watch(run)
    await edge.pipelines.Delete(delete)
    assert (await refused(edge.runs.Start(pb.StartRunRequest(pipeline="p")))).code is grpc.StatusCode.NOT_FOUND
    assert (await edge.get(run)).pipeline == "p"

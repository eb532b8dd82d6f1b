"""DeadLetterService through a real client, and bulk jobs over dead letters."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any

import grpc
import pytest
from tests.integration.api.answers import refused
from tests.integration.api.conftest import PATIENCE, Edge, spec

from penstock.v1 import bulk_service_pb2 as bulk_pb
from penstock.v1 import dead_letter_pb2, run_pb2
from penstock.v1 import dead_letter_service_pb2 as pb
from penstock.v1 import run_service_pb2 as runs_pb
from penstock.v1.bulk_service_pb2_grpc import BulkServiceStub
from penstock.v1.dead_letter_service_pb2_grpc import DeadLetterServiceStub

TWO_STEPS = spec(
    {"name": "a"},
    {"name": "b", "inputs": {"x": {"step": {"step": "a"}}, "n": {"parameter": "n"}}},
    parameters=[{"name": "n", "type": "PARAMETER_TYPE_INT", "default": 7}],
)
NEVER = "0198d6b8-0000-7000-8000-000000000000:3"


def letters_of(edge: Edge) -> DeadLetterServiceStub:
    return DeadLetterServiceStub(edge.channel)


async def names(call: Awaitable[object], code: grpc.StatusCode, field: str) -> None:
    """The call is refused so, and for this field."""
    answer = await refused(call)
    assert (answer.code, field in answer.violations) == (code, True), answer


async def listed(
    edge: Edge, *states: dead_letter_pb2.DeadLetterState.ValueType, **chosen: Any
) -> list[dead_letter_pb2.DeadLetter]:
    selection = dead_letter_pb2.DeadLetterSelection(**chosen)
    request = pb.ListDeadLettersRequest(selection=selection, states=states)
    return list((await letters_of(edge).List(request, timeout=PATIENCE)).letters)


async def failed(edge: Edge, **fields: Any) -> run_pb2.Run:
    agent = edge.agents[0] if edge.agents else await edge.agent()
    run = await edge.start(TWO_STEPS, **fields)
    await agent.succeed(await agent.grant(), b'{"v":1}')
    await agent.fail(await agent.grant())
    await edge.watch(run)
    return run


async def test_a_letter_says_what_a_person_needs(edge: Edge) -> None:
    run = await failed(edge)
    (letter,) = await listed(edge)
    assert letter.id == f"{run.id}:{letter.id.rpartition(':')[2]}"
    assert (letter.pipeline, letter.display_name, letter.budget) == ("p", "b", run_pb2.BUDGET_RETRIES)
    found = await letters_of(edge).Get(pb.GetDeadLetterRequest(id=letter.id), timeout=PATIENCE)
    assert found.letter == letter
    assert {each.name: each.json for each in found.inputs} == {"x": '{"v":1}', "n": "7"}
    assert found.run.parameters["n"].number_value == 7
    assert [each.charged_to for each in found.attempts] == [run_pb2.BUDGET_RETRIES]
    assert found.attempts[0].failure.error_class == "builtins.ValueError"
    assert any(letter.id in remedy for remedy in found.remedies)
    assert letter.failure.error_class == "builtins.ValueError"
    assert await listed(edge, error_class="ValueError") == [letter]
    assert await listed(edge, error_class="KeyError") == []


async def test_a_requeue_is_answered_when_it_is_committed_and_once(edge: Edge) -> None:
    await failed(edge)
    (letter,) = await listed(edge)
    request = pb.RequeueDeadLetterRequest(id=letter.id, requested_by="ann", request_id="r1")
    stub = letters_of(edge)
    done = await stub.Requeue(request, timeout=PATIENCE)
    assert (done.run.generation, done.reset_steps) == (2, 1)
    assert done.letter.state == dead_letter_pb2.DEAD_LETTER_STATE_REQUEUED
    assert done.letter.closed_by == "ann"
    again = await stub.Requeue(request, timeout=PATIENCE)
    assert (again.run.generation, again.reset_steps) == (2, 1)
    request.reason = "other"
    await names(stub.Requeue(request), grpc.StatusCode.ALREADY_EXISTS, "request_id")
    request.request_id = ""
    await names(stub.Requeue(request), grpc.StatusCode.FAILED_PRECONDITION, "id")
    assert await listed(edge) == []
    (closed,) = await listed(edge, dead_letter_pb2.DEAD_LETTER_STATE_REQUEUED)
    assert closed.id == letter.id


async def test_a_purge_leaves_the_run(edge: Edge) -> None:
    run = await failed(edge)
    (letter,) = await listed(edge)
    request = pb.PurgeDeadLetterRequest(id=letter.id, requested_by="ann")
    purged = (await letters_of(edge).Purge(request, timeout=PATIENCE)).letter
    assert (purged.state, purged.closed_by) == (dead_letter_pb2.DEAD_LETTER_STATE_PURGED, "ann")
    assert await listed(edge) == []
    assert (await edge.get(run)).state == run_pb2.RUN_STATE_FAILED


async def test_lists_have_filters_and_pages(edge: Edge) -> None:
    runs = [await failed(edge, labels={"n": str(number)}) for number in range(3)]
    assert [each.run_id for each in await listed(edge)] == [run.id for run in reversed(runs)]
    assert [each.run_id for each in await listed(edge, labels={"n": "1"})] == [runs[1].id]
    assert [each.run_id for each in await listed(edge, run_id=runs[0].id)] == [runs[0].id]
    assert await listed(edge, reason="Poison") == []
    assert len(await listed(edge, budgets=[run_pb2.BUDGET_RETRIES], step="b", pipeline="p")) == 3
    request, seen = pb.ListDeadLettersRequest(page_size=2), []
    while True:
        page = await letters_of(edge).List(request, timeout=PATIENCE)
        seen += [each.run_id for each in page.letters]
        if not page.next_page_token:
            break
        request.page_token = page.next_page_token
    assert seen == [run.id for run in reversed(runs)]


async def test_jobs_count_and_requeue_by_filter(edge: Edge) -> None:
    runs = [await failed(edge) for _ in range(2)]
    chosen = dead_letter_pb2.DeadLetterSelection(run_id=runs[0].id)
    job = bulk_pb.BulkJob(action=bulk_pb.BULK_ACTION_REQUEUE, letters=chosen)
    stub = BulkServiceStub(edge.channel)
    counted = (await stub.Create(bulk_pb.CreateBulkJobRequest(job=job, dry_run=True), timeout=PATIENCE)).job
    assert (counted.seen_count, counted.letter_count, counted.letters) == (1, 1, chosen)
    made = (await stub.Create(bulk_pb.CreateBulkJobRequest(job=job), timeout=PATIENCE)).job
    while await edge.backend.engine.bulk.run_once():
        pass
    done = (await stub.Get(bulk_pb.GetBulkJobRequest(id=made.id), timeout=PATIENCE)).job
    assert (done.state, done.done_count) == (bulk_pb.BULK_JOB_STATE_COMPLETED, 1)
    assert [(await edge.get(run)).generation for run in runs] == [2, 1]


@pytest.mark.parametrize("text", ["", "x", NEVER.replace(":", "/"), NEVER.replace(":3", ":0"), NEVER + "0" * 20])
async def test_what_is_no_id_is_refused(edge: Edge, text: str) -> None:
    stub = letters_of(edge)
    for call in (
        stub.Get(pb.GetDeadLetterRequest(id=text)),
        stub.Requeue(pb.RequeueDeadLetterRequest(id=text)),
        stub.Purge(pb.PurgeDeadLetterRequest(id=text)),
    ):
        await names(call, grpc.StatusCode.INVALID_ARGUMENT, "id")


async def test_a_letter_that_is_not_there_is_not_found(edge: Edge) -> None:
    stub = letters_of(edge)
    for call in (
        stub.Get(pb.GetDeadLetterRequest(id=NEVER)),
        stub.Requeue(pb.RequeueDeadLetterRequest(id=NEVER)),
        stub.Purge(pb.PurgeDeadLetterRequest(id=NEVER)),
    ):
        await names(call, grpc.StatusCode.NOT_FOUND, "id")


async def test_jobs_over_letters_and_over_runs_are_not_mixed(edge: Edge) -> None:
    stub = BulkServiceStub(edge.channel)
    letters = dead_letter_pb2.DeadLetterSelection(pipeline="p")
    for field, job in {
        "job.letters": bulk_pb.BulkJob(action=bulk_pb.BULK_ACTION_RETRY, letters=letters),
        "job.selection": bulk_pb.BulkJob(
            action=bulk_pb.BULK_ACTION_PURGE, letters=letters, selection=bulk_pb.RunSelection(pipeline="p")
        ),
        "job.cancel_mode": bulk_pb.BulkJob(
            action=bulk_pb.BULK_ACTION_PURGE, letters=letters, cancel_mode=runs_pb.CANCEL_MODE_NOW
        ),
        "job.newest_version": bulk_pb.BulkJob(action=bulk_pb.BULK_ACTION_REQUEUE, letters=letters, newest_version=True),
        "job.letters.budgets": bulk_pb.BulkJob(
            action=bulk_pb.BULK_ACTION_REQUEUE,
            letters=dead_letter_pb2.DeadLetterSelection(budgets=[run_pb2.BUDGET_UNSPECIFIED]),
        ),
    }.items():
        call = stub.Create(bulk_pb.CreateBulkJobRequest(job=job))
        await names(call, grpc.StatusCode.INVALID_ARGUMENT, field)

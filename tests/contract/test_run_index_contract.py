"""What the index of runs promises, on PostgreSQL and in memory."""

from __future__ import annotations

import dataclasses
from typing import Any

import msgspec
import pytest
from tests.contract.records import attempt, new_run, new_run_id, record, request, start, step_run

from penstock_coordinator.ports import (
    AttemptRow,
    Committed,
    Origin,
    Parent,
    Record,
    Repeated,
    RequestKey,
    RequestRow,
    RunChange,
    RunFilter,
    RunId,
    RunOwner,
    RunRow,
    StepRunRow,
    Stores,
)

COMPLETED, FAILED = 6, 7


async def _commit(stores: Stores, *records: Record) -> None:
    outcomes = await stores.journal.commit(0, records)
    assert outcomes == [Committed()] * len(records)


async def _add_runs(stores: Stores, count: int, **fields: Any) -> list[RunId]:
    runs = [new_run_id() for _ in range(count)]
    await _commit(stores, *(start(run, new=msgspec.structs.replace(new_run(), **fields)) for run in runs))
    return runs


async def test_many_runs_come_as_they_come_alone(stores: Stores) -> None:
    runs = await _add_runs(stores, 3)
    asked = [*runs[:2], new_run_id(), runs[0]]
    found = {row.run_id: row for row in await stores.runs.get_many(asked)}
    assert found == {run: await stores.runs.get(run) for run in runs[:2]}
    assert len(await stores.runs.get_many(asked)) == 2
    assert await stores.runs.get_many([]) == []


async def test_whose_a_run_is_is_read_without_the_rest_of_it(stores: Stores) -> None:
    live, at_rest = await _add_runs(stores, 2)
    await _commit(stores, msgspec.structs.replace(record(at_rest, 3), change=RunChange(COMPLETED, end_time=9_000)))
    owners = await stores.runs.owners([live, at_rest, new_run_id(), live])
    assert owners == {live: RunOwner("c1", 1), at_rest: RunOwner("c1", COMPLETED)}
    assert await stores.runs.owners([]) == {}


async def test_a_run_comes_back_as_it_was_written(stores: Stores) -> None:
    run = new_run_id()
    labels = (("team", "a=b"), ("Env", ""))
    await _commit(stores, start(run, new=new_run(labels=labels)))

    assert await stores.runs.get(run) == RunRow(
        run_id=run,
        pipeline="etl",
        version_number=3,
        version_digest="sha256:abc",
        parameters=b'{"n": 1}',
        labels=labels,
        trace_context=(("traceparent", "00-1-2-01"),),
        owner="c1",
        state=1,
        reason="",
        create_time=1_000,
        start_time=None,
        end_time=None,
        summary=None,
        last_seq=2,
    )


async def test_a_run_may_be_at_rest_from_its_first_record(stores: Stores) -> None:
    run = new_run_id()
    new = msgspec.structs.replace(
        new_run(state=FAILED), reason="BadParameters", start_time=3, end_time=4, summary=b"packed"
    )
    await _commit(stores, start(run, new=new))

    row = await stores.runs.get(run)
    assert row is not None
    assert (row.state, row.reason, row.start_time, row.end_time, row.summary) == (
        FAILED,
        "BadParameters",
        3,
        4,
        b"packed",
    )


async def test_there_is_no_row_of_an_unknown_run(stores: Stores) -> None:
    assert await stores.runs.get(new_run_id()) is None


async def test_runs_are_listed_newest_first_page_by_page(stores: Stores) -> None:
    runs = await _add_runs(stores, 7)
    pages, before = [], None
    while page := await stores.runs.list_runs(RunFilter(), 3, before):
        pages.append([row.run_id for row in page])
        before = page[-1].run_id

    newest_first = runs[::-1]
    assert pages == [newest_first[:3], newest_first[3:6], newest_first[6:]]


async def test_lists_are_filtered_by_pipeline_state_and_label(stores: Stores) -> None:
    plain = await _add_runs(stores, 1)
    other = await _add_runs(stores, 1, pipeline="other")
    done = await _add_runs(stores, 1, state=COMPLETED)
    labelled = await _add_runs(stores, 1, labels=(("a", "1"), ("b", "2")))

    async def found(**fields: Any) -> list[RunId]:
        where = dataclasses.replace(RunFilter(), **fields)
        return [row.run_id for row in await stores.runs.list_runs(where, 10)]

    assert await found(pipeline="other") == other
    assert await found(states=(COMPLETED, FAILED)) == done
    assert await found(states=(1, COMPLETED)) == [*labelled, *done, *other, *plain]
    assert await found(labels=(("b", "2"),)) == labelled
    assert await found(labels=(("a", "1"), ("b", "2"))) == labelled
    assert await found(labels=(("a", "2"),)) == []
    assert await found(pipeline="etl", states=(1,), labels=(("a", "1"),)) == labelled


async def test_live_runs_are_the_owners_that_are_not_at_rest_oldest_first(stores: Stores) -> None:
    first = await _add_runs(stores, 2)
    await _add_runs(stores, 1, owner="c2")
    ended = await _add_runs(stores, 1)
    second = await _add_runs(stores, 1)
    await _commit(stores, msgspec.structs.replace(record(ended[0], 3), change=RunChange(COMPLETED)))

    assert [row.run_id for row in await stores.runs.live_runs("c1")] == first + second
    assert await stores.runs.live_runs("c3") == []


async def test_live_runs_of_a_pipeline_are_counted(stores: Stores) -> None:
    runs = await _add_runs(stores, 3)
    await _add_runs(stores, 1, pipeline="other")
    await _commit(stores, msgspec.structs.replace(record(runs[0], 3), change=RunChange(COMPLETED)))

    assert await stores.runs.count_live("etl") == 2
    assert await stores.runs.count_live("none") == 0


# --- step runs ---


async def _add_steps(stores: Stores, run: RunId, seq: int, *rows: StepRunRow) -> None:
    await _commit(stores, msgspec.structs.replace(record(run, seq), step_runs=rows))


async def test_step_runs_are_read_by_range_in_order(stores: Stores) -> None:
    run = new_run_id()
    rows = [step_run(1), step_run(2, 0), step_run(2, 1), step_run(2, 2), step_run(4)]
    await _add_steps(stores, run, 1, *rows[::-1])

    assert await stores.runs.step_runs(run, (0, -1), (9, -1)) == rows
    assert await stores.runs.step_runs(run, (2, 1), (4, -1)) == rows[2:]
    assert await stores.runs.step_runs(run, (2, 0), (2, 1)) == rows[1:3]
    assert await stores.runs.step_runs(run, (3, -1), (3, 99)) == []
    assert await stores.runs.step_runs(new_run_id(), (0, -1), (9, -1)) == []


async def test_only_the_newest_generation_of_a_step_run_counts(stores: Stores) -> None:
    run = new_run_id()
    await _add_steps(stores, run, 1, step_run(1, state=6, output=None), step_run(2, 0), step_run(2, 1))
    await _add_steps(stores, run, 2, step_run(1, generation=2), step_run(2, 0, generation=3, state=6, output=None))

    assert await stores.runs.step_runs(run, (1, -1), (1, -1)) == [step_run(1, generation=2)]
    assert await stores.runs.outputs(run, 2) == [(1, b"1")]
    assert await stores.runs.outputs_size(run, 2) == 1
    former = [step_run(1, state=6, output=None)]
    assert await stores.runs.step_runs(run, (1, -1), (1, -1), 1) == former
    assert await stores.runs.whole_steps(run, 1, 1, 1) == former
    outputs = await stores.runs.outputs(run, 2, 1)
    assert [item for item, _ in outputs] == [0, 1]
    assert await stores.runs.outputs_size(run, 2, 1) == sum(len(output) for _, output in outputs)


async def test_outputs_are_those_of_completed_step_runs_by_item(stores: Stores) -> None:
    run = new_run_id()
    rows = [step_run(1, item, output=b"%d" % item) for item in (11, 0, 2)]
    await _add_steps(stores, run, 1, *rows, step_run(1, 3, state=6, output=None), step_run(2, output=b"other"))

    assert await stores.runs.outputs(run, 1) == [(0, b"0"), (2, b"2"), (11, b"11")]
    assert await stores.runs.outputs(run, 2) == [(-1, b"other")]
    assert await stores.runs.outputs(run, 3) == []
    assert [await stores.runs.outputs_size(run, step) for step in (1, 2, 3)] == [4, 5, 0]


async def test_attempts_are_read_oldest_first(stores: Stores) -> None:
    run = new_run_id()
    rows: tuple[AttemptRow, ...] = tuple(attempt(1, number=number, token=10 + number) for number in (2, 1, 10))
    await _commit(stores, msgspec.structs.replace(record(run, 1), attempts=(*rows, attempt(1, 0), attempt(2))))

    assert [row.number for row in await stores.runs.attempts(run, 1, -1)] == [1, 2, 10]
    assert await stores.runs.attempts(run, 1, 0) == [attempt(1, 0)]
    assert await stores.runs.attempts(run, 9, -1) == []


# --- requests that come without a record ---


async def test_a_remembered_request_answers_the_same_again(stores: Stores) -> None:
    assert await stores.runs.remember_request(request("x", answer=b"first"), 1) is None

    again = await stores.runs.remember_request(request("x", answer=b"second"), 2)
    other = await stores.runs.remember_request(request("x", digest=b"other"), 3)

    assert again == Repeated(same=True, answer=b"first")
    assert other == Repeated(same=False, answer=b"first")


@pytest.mark.parametrize("text", ["nul\0nul", "lone \ud800 surrogate", ""])
async def test_a_request_id_may_be_any_text(stores: Stores, text: str) -> None:
    assert await stores.runs.find_request("", "StartRun", text) is None
    assert await stores.runs.remember_request(request(text), 1) is None
    assert await stores.runs.find_request("", "StartRun", text) == request(text)


async def test_scopes_and_methods_do_not_run_into_each_other(stores: Stores) -> None:
    keys = [("a", "b", "c"), ("a", "", "b"), ("", "a", "b"), ("ab", "", "c")]
    for scope, method, request_id in keys:
        row = RequestRow(RequestKey(scope, method, request_id, b"d"), b"a")
        assert await stores.runs.remember_request(row, 1) is None


@pytest.mark.parametrize("name", ["nul\0nul", "lone \ud800 surrogate"])
async def test_nothing_is_found_by_a_name_that_is_no_text(stores: Stores, name: str) -> None:
    await _add_runs(stores, 1)

    assert await stores.runs.count_live(name) == 0
    assert await stores.runs.live_runs(name) == []
    assert await stores.runs.list_runs(RunFilter(pipeline=name), 10) == []
    assert await stores.runs.list_runs(RunFilter(labels=((name, "x"),)), 10) == []
    assert await stores.runs.list_runs(RunFilter(labels=(("x", name),)), 10) == []


# --- how a run was asked for, and generations ------------------------------------------------------------------------


async def test_how_a_run_was_asked_for_comes_back(stores: Stores) -> None:
    (parent,) = await _add_runs(stores, 1)
    origin = Origin(priority=-7, weight=2.5, run_key="day-1", parent=Parent(parent, step=3, item=4), depth=2)
    (run,) = await _add_runs(stores, 1, origin=origin)

    row, parent_row = await stores.runs.get(run), await stores.runs.get(parent)
    assert row is not None
    assert row.origin == origin
    assert parent_row is not None
    assert parent_row.origin == Origin()


async def test_lists_are_filtered_by_parent_and_key(stores: Stores) -> None:
    (top,) = await _add_runs(stores, 1, origin=Origin(run_key="k"))
    children = await _add_runs(stores, 2, origin=Origin(parent=Parent(top, 0, -1), depth=1))

    async def found(where: RunFilter) -> list[RunId]:
        return [row.run_id for row in await stores.runs.list_runs(where, 10)]

    assert await found(RunFilter(parent=top)) == children[::-1]
    assert await found(RunFilter(run_key="k")) == [top]
    assert await found(RunFilter(run_key="K")) == []
    assert await found(RunFilter(top_level=True)) == [top]


async def test_a_new_generation_takes_the_former_end_out_of_the_row(stores: Stores) -> None:
    (run,) = await _add_runs(stores, 1)
    ended = RunChange(FAILED, "broken", 5, 6, b"packed", output=b"1")
    await _commit(stores, msgspec.structs.replace(record(run, 3), change=ended))
    opened = RunChange(2, "", generation=2, version_number=9, version_digest="sha256:new")
    await _commit(stores, msgspec.structs.replace(record(run, 4), change=opened))

    row = await stores.runs.get(run)
    assert row is not None
    assert (row.state, row.reason, row.start_time) == (2, "", 5)
    assert (row.end_time, row.summary, row.output) == (None, None, None)
    assert (row.generation, row.version_number, row.version_digest) == (2, 9, "sha256:new")


async def test_an_end_and_a_new_generation_may_come_in_one_commit(stores: Stores) -> None:
    (run,) = await _add_runs(stores, 1)
    await _commit(
        stores,
        msgspec.structs.replace(record(run, 3), change=RunChange(FAILED, "broken", 5, 6, b"packed")),
        msgspec.structs.replace(record(run, 4), change=RunChange(2, "", generation=2)),
        msgspec.structs.replace(record(run, 5), change=RunChange(COMPLETED, "", None, 8, b"again", output=b"[]")),
    )

    row = await stores.runs.get(run)
    assert row is not None
    assert (row.state, row.end_time, row.summary, row.output, row.generation) == (COMPLETED, 8, b"again", b"[]", 2)


async def test_whole_steps_come_without_the_rows_of_items(stores: Stores) -> None:
    (run,) = await _add_runs(stores, 1)
    rows = (step_run(0), step_run(1, 0), step_run(1, 1), step_run(1, state=7), step_run(2), step_run(3))
    await _commit(stores, msgspec.structs.replace(record(run, 3), step_runs=rows))
    await _commit(stores, msgspec.structs.replace(record(run, 4), step_runs=(step_run(1, generation=2),)))

    found = await stores.runs.whole_steps(run, 0, 2)
    assert [(row.step, row.item, row.generation) for row in found] == [(0, -1, 1), (1, -1, 2), (2, -1, 1)]
    assert await stores.runs.whole_steps(new_run_id(), 0, 9) == []

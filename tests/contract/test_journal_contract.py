"""What a journal promises, on PostgreSQL and in memory."""

from __future__ import annotations

import asyncio

import msgspec
import pytest
from tests.contract.backends import Backend, open_speaking
from tests.contract.records import attempt, new_run, new_run_id, record, request, start, step_run

from penstock_coordinator.ports import (
    Committed,
    Fenced,
    NewRun,
    NotNewest,
    OutOfSequence,
    Record,
    Repeated,
    RunChange,
    RunFilter,
    Stores,
    Unstorable,
)

NOT_TEXT = ["nul\0nul", "lone \ud800 surrogate"]
TOO_LARGE = 1 << 63


async def test_what_is_committed_is_read_in_order(stores: Stores) -> None:
    run = new_run_id()
    await stores.journal.commit(0, [record(run, 1, 3, b"a"), record(run, 4, 4, b"b")])
    await stores.journal.commit(0, [record(run, 5, 9, b"c")])

    found = await stores.journal.read(run)

    assert [(r.first_seq, r.last_seq, r.payload, r.at) for r in found] == [
        (1, 3, b"a", 1_001),
        (4, 4, b"b", 1_004),
        (5, 9, b"c", 1_005),
    ]


@pytest.mark.parametrize(
    ("from_seq", "expected"),
    [(1, [1, 4, 5]), (3, [1, 4, 5]), (4, [4, 5]), (7, [5]), (9, [5]), (10, []), (1_000, [])],
)
async def test_reading_begins_with_the_record_that_holds_the_number(
    stores: Stores, from_seq: int, expected: list[int]
) -> None:
    run = new_run_id()
    await stores.journal.commit(0, [record(run, 1, 3), record(run, 4), record(run, 5, 9)])

    found = await stores.journal.read(run, from_seq)

    assert [r.first_seq for r in found] == expected


async def test_reading_stops_at_the_limit(stores: Stores) -> None:
    run = new_run_id()
    await stores.journal.commit(0, [record(run, seq) for seq in range(1, 11)])

    assert [r.first_seq for r in await stores.journal.read(run, 3, 4)] == [3, 4, 5, 6]


async def test_an_unknown_run_has_no_records(stores: Stores) -> None:
    assert await stores.journal.read(new_run_id()) == []


async def test_journals_of_many_runs_come_run_by_run(stores: Stores) -> None:
    first, other, second = new_run_id(), new_run_id(), new_run_id()
    await stores.journal.commit(0, [record(second, 1, 2, b"c"), record(first, 1, 1, b"a"), record(other, 1)])
    await stores.journal.commit(0, [record(first, 2, 5, b"b"), record(second, 3, 3, b"d")])

    found = await stores.journal.read_many([second, first, new_run_id()])

    assert [(run, r.first_seq, r.last_seq, r.payload, r.at) for run, r in found] == [
        (first, 1, 1, b"a", 1_001),
        (first, 2, 5, b"b", 1_002),
        (second, 1, 2, b"c", 1_001),
        (second, 3, 3, b"d", 1_003),
    ]


async def test_many_journals_in_pages_leave_nothing_out(stores: Stores) -> None:
    runs = [new_run_id() for _ in range(3)]
    await stores.journal.commit(0, [record(run, seq) for run in runs for seq in range(1, 6)])

    found = []
    after = None
    while page := await stores.journal.read_many(runs, after, 4):
        found += [(run, r.first_seq) for run, r in page]
        after = found[-1]

    assert found == [(run, seq) for run in runs for seq in range(1, 6)]


async def test_what_came_since_in_pages_leaves_nothing_out(stores: Stores) -> None:
    runs = [new_run_id() for _ in range(3)]
    await stores.journal.commit(0, [record(run, seq, seq + 1) for run in runs for seq in (1, 3, 5)])
    known = dict(zip(runs, (0, 2, 6), strict=True))

    found = []
    while page := await stores.journal.read_since(list(known.items()), 2):
        found += [(run, r.first_seq, r.last_seq) for run, r in page]
        known.update((run, last) for run, _, last in found)

    assert found == [(runs[0], 1, 2), (runs[0], 3, 4), (runs[0], 5, 6), (runs[1], 3, 4), (runs[1], 5, 6)]
    assert await stores.journal.read_since([]) == []


async def test_no_runs_have_no_records(stores: Stores) -> None:
    assert await stores.journal.read_many([]) == []


async def test_an_empty_batch_is_nothing(stores: Stores) -> None:
    assert await stores.journal.commit(0, []) == []


async def test_five_hundred_records_of_many_runs_in_one_batch(stores: Stores) -> None:
    runs = [new_run_id() for _ in range(100)]
    batch = [
        msgspec.structs.replace(record(run, seq, payload=run), step_runs=(step_run(seq),), attempts=(attempt(seq),))
        for seq in range(1, 6)
        for run in runs
    ]

    outcomes = await stores.journal.commit(1, batch)

    assert outcomes == [Committed()] * 500
    for run in runs[::33]:
        assert [(r.first_seq, r.payload) for r in await stores.journal.read(run)] == [(s, run) for s in range(1, 6)]
        assert [row.step for row in await stores.runs.step_runs(run, (0, -1), (9, -1))] == [1, 2, 3, 4, 5]


# --- the right to write ---


async def test_nothing_is_committed_before_the_incarnation(backend: Backend) -> None:
    stores = await backend.open()

    with pytest.raises(Fenced):
        await stores.journal.commit(0, [record(new_run_id(), 1)])


async def test_a_former_incarnation_is_refused_on_every_lane(backend: Backend) -> None:
    former, run = await open_speaking(backend), new_run_id()
    newer = await open_speaking(backend)

    for lane in (0, 1):
        with pytest.raises(Fenced):
            await former.journal.commit(lane, [start(run, request=request())])
    assert await newer.journal.read(run) == []
    assert await newer.runs.get(run) is None
    assert await newer.runs.find_request("", "StartRun", "r1") is None
    assert await newer.journal.commit(0, [record(run, 1)]) == [Committed()]


async def test_a_former_incarnation_is_refused_in_a_batch_that_is_refused_otherwise_too(backend: Backend) -> None:
    former, run = await open_speaking(backend), new_run_id()
    await former.journal.commit(0, [record(run, 1)])
    await open_speaking(backend)

    with pytest.raises(Fenced):
        await former.journal.commit(0, [record(run, 1, payload=b"other"), record(new_run_id(), 1)])


async def test_a_lane_that_the_newer_incarnation_does_not_have_is_fenced_too(backend: Backend) -> None:
    former = await open_speaking(backend, lanes=2)
    await open_speaking(backend, lanes=1)

    with pytest.raises(Fenced):
        await former.journal.commit(1, [record(new_run_id(), 1)])


async def test_another_coordinators_incarnation_changes_nothing(backend: Backend) -> None:
    first = await open_speaking(backend, "c1")
    await open_speaking(backend, "c2")

    assert await first.journal.commit(0, [record(new_run_id(), 1)]) == [Committed()]


async def test_an_incarnation_is_told_that_a_newer_one_was_made(backend: Backend) -> None:
    former, other = await backend.open("c1"), await backend.open("c1")
    epoch = await former.incarnations.incarnate("c1", 2)
    await other.incarnations.incarnate("c2", 1)
    assert await former.incarnations.is_current("c1", epoch)

    newer = await other.incarnations.incarnate("c1", 1)

    assert not await former.incarnations.is_current("c1", epoch)
    assert await other.incarnations.is_current("c1", newer)


async def test_epochs_only_grow(backend: Backend) -> None:
    stores = await backend.open("c1")
    other = await backend.open("c2")

    epochs = [
        await stores.incarnations.incarnate("c1", 2),
        await other.incarnations.incarnate("c2", 1),
        await stores.incarnations.incarnate("c1", 4),
        await other.incarnations.incarnate("c1", 1),
    ]

    assert epochs == sorted(set(epochs))
    assert epochs[0] > 0


# --- sequence ---


async def test_a_number_that_is_taken_is_out_of_sequence(stores: Stores) -> None:
    run, other = new_run_id(), new_run_id()
    await stores.journal.commit(0, [record(run, 1, payload=b"first")])

    outcomes = await stores.journal.commit(
        0, [record(other, 1), record(run, 1, payload=b"second"), record(run, 2), record(other, 2)]
    )

    assert outcomes == [Committed(), OutOfSequence(), OutOfSequence(), Committed()]
    assert [r.payload for r in await stores.journal.read(run)] == [b"first"]
    assert len(await stores.journal.read(other)) == 2


async def test_a_number_that_comes_twice_in_one_batch(stores: Stores) -> None:
    run = new_run_id()

    outcomes = await stores.journal.commit(0, [record(run, 1, payload=b"a"), record(run, 1, payload=b"b")])

    assert outcomes == [Committed(), OutOfSequence()]
    assert [r.payload for r in await stores.journal.read(run)] == [b"a"]


async def test_the_rows_of_a_record_out_of_sequence_are_not_stored(stores: Stores) -> None:
    run = new_run_id()
    await stores.journal.commit(0, [start(run, last_seq=1)])
    late = msgspec.structs.replace(
        record(run, 1),
        change=RunChange(6, "gone"),
        step_runs=(step_run(1),),
        attempts=(attempt(1),),
        request=request("late"),
    )

    assert await stores.journal.commit(0, [late]) == [OutOfSequence()]

    row = await stores.runs.get(run)
    assert row is not None
    assert (row.state, row.reason) == (1, "")
    assert await stores.runs.step_runs(run, (0, -1), (9, -1)) == []
    assert await stores.runs.attempts(run, 1, -1) == []
    assert await stores.runs.find_request("", "StartRun", "late") is None


# --- requests ---


async def test_a_repeated_request_stores_nothing_and_answers_as_the_first_time(stores: Stores) -> None:
    first, second = new_run_id(), new_run_id()
    await stores.journal.commit(0, [start(first, request=request(answer=b"first"))])

    outcomes = await stores.journal.commit(
        1, [start(second, request=request(answer=b"second")), record(second, 3), record(first, 3)]
    )

    assert outcomes == [Repeated(same=True, answer=b"first"), OutOfSequence(), Committed()]
    assert await stores.journal.read(second) == []
    assert await stores.runs.get(second) is None


async def test_a_repeated_request_with_other_content(stores: Stores) -> None:
    await stores.journal.commit(0, [start(new_run_id(), request=request(answer=b"first"))])

    outcomes = await stores.journal.commit(0, [start(new_run_id(), request=request(digest=b"other"))])

    assert outcomes == [Repeated(same=False, answer=b"first")]


async def test_the_same_request_id_of_another_method_is_another_request(stores: Stores) -> None:
    outcomes = await stores.journal.commit(
        0,
        [start(new_run_id(), request=request(method="StartRun")), start(new_run_id(), request=request(method="Other"))],
    )

    assert outcomes == [Committed()] * 2


async def test_a_request_that_comes_twice_in_one_batch(stores: Stores) -> None:
    first, second = new_run_id(), new_run_id()

    outcomes = await stores.journal.commit(
        0,
        [
            start(first, request=request(answer=b"first")),
            start(second, request=request(answer=b"second")),
            record(second, 3),
            record(first, 3),
        ],
    )

    assert outcomes == [Committed(), Repeated(same=True, answer=b"first"), OutOfSequence(), Committed()]
    assert await stores.runs.get(second) is None
    assert len(await stores.journal.read(first)) == 2


async def test_two_coordinators_with_the_same_requests_in_another_order_store_each_once(backend: Backend) -> None:
    owners = await open_speaking(backend, "c1"), await open_speaking(backend, "c2")
    ids = [f"r{number}" for number in range(20)]
    batches = [
        [start(new_run_id(), request=request(each, answer=name), new=new_run(owner=name.decode())) for each in order]
        for name, order in ((b"c1", ids), (b"c2", ids[::-1]))
    ]

    outcomes = await asyncio.gather(
        *(stores.journal.commit(0, batch) for stores, batch in zip(owners, batches, strict=True))
    )

    first, second = outcomes[0], outcomes[1][::-1]
    assert sorted(type(each).__name__ for each in first + second) == ["Committed"] * 20 + ["Repeated"] * 20
    for number, pair in enumerate(zip(first, second, strict=True)):
        (told,) = [each for each in pair if isinstance(each, Repeated)]
        found = await owners[0].runs.find_request("", "StartRun", ids[number])
        assert found is not None
        assert found.answer == told.answer
    kept = [len(await owners[0].journal.read(each.run_id)) for batch in batches for each in batch]
    assert sorted(kept) == [0] * 20 + [1] * 20


async def test_a_repeated_request_in_the_middle_of_a_runs_records(stores: Stores) -> None:
    run = new_run_id()
    cancel = msgspec.structs.replace(record(run, 5), request=request("cancel"), change=RunChange(4))
    again = msgspec.structs.replace(record(run, 7), request=request("cancel"), change=RunChange(8))
    await stores.journal.commit(0, [start(run), record(run, 3), record(run, 4), cancel])

    outcomes = await stores.journal.commit(0, [record(run, 6), again, record(run, 8)])

    assert outcomes == [Committed(), Repeated(same=True, answer=b"answer"), OutOfSequence()]
    row = await stores.runs.get(run)
    assert row is not None
    assert (row.state, row.last_seq) == (4, 6)


async def test_a_request_is_found_after_its_record_was_committed(stores: Stores) -> None:
    await stores.journal.commit(0, [start(new_run_id(), request=request("found", answer=b"this"))])

    assert await stores.runs.find_request("", "StartRun", "found") == request("found", answer=b"this")
    assert await stores.runs.find_request("", "StartRun", "other") is None


# --- the newest version ---


async def _version(stores: Stores, content: str, now: int = 1) -> int:
    answer = await stores.pipelines.create_version("etl", content, b"spec", 1, now, None)
    assert isinstance(answer, tuple)
    return answer[0].number


def _start_of(number: int, name: str) -> Record:
    new = msgspec.structs.replace(new_run("etl"), version_number=number, only_if_newest=True)
    return start(new_run_id(), request=request(name, answer=name.encode()), new=new)


async def test_a_run_that_needs_the_newest_version(stores: Stores) -> None:
    old, new = await _version(stores, "a"), await _version(stores, "b")

    stale, fresh = _start_of(old, "stale"), _start_of(new, "fresh")
    outcomes = await stores.journal.commit(0, [stale, record(stale.run_id, 3), fresh, record(fresh.run_id, 3)])

    assert outcomes == [NotNewest(), OutOfSequence(), Committed(), Committed()]
    assert await stores.runs.get(stale.run_id) is None
    assert await stores.journal.read(stale.run_id) == []
    assert await stores.runs.find_request("", "StartRun", "stale") is None
    assert len(await stores.journal.read(fresh.run_id)) == 2


async def test_a_deleted_pipeline_has_no_newest_version(stores: Stores) -> None:
    number = await _version(stores, "a")
    await stores.pipelines.delete_pipeline("etl", 2, None)

    assert await stores.journal.commit(0, [_start_of(number, "first")]) == [NotNewest()]

    await _version(stores, "a", 3)
    assert await stores.journal.commit(0, [_start_of(number, "second")]) == [Committed()]


async def test_a_repeated_request_comes_before_the_newest_version(stores: Stores) -> None:
    number = await _version(stores, "a")
    await stores.journal.commit(0, [_start_of(number, "once")])
    await _version(stores, "b")

    assert await stores.journal.commit(0, [_start_of(number, "once")]) == [Repeated(same=True, answer=b"once")]


async def test_what_needs_the_newest_version_beside_what_ends(stores: Stores) -> None:
    """All kinds of rows in one batch."""
    number, live = await _version(stores, "a"), new_run_id()
    await stores.journal.commit(0, [start(live)])
    await _version(stores, "b")

    ends = msgspec.structs.replace(record(live, 3), step_runs=(step_run(0),), change=RunChange(5, end_time=9))
    outcomes = await stores.journal.commit(0, [ends, _start_of(number, "stale")])

    assert outcomes == [Committed(), NotNewest()]
    row = await stores.runs.get(live)
    assert row is not None
    assert (row.state, row.end_time) == (5, 9)


async def test_a_run_that_ends_with_nothing_that_starts_beside_it(stores: Stores) -> None:
    live = new_run_id()
    await stores.journal.commit(0, [start(live)])

    ends = msgspec.structs.replace(
        record(live, 3), step_runs=(step_run(0),), change=RunChange(5, end_time=9, output=b"1")
    )
    assert await stores.journal.commit(0, [ends]) == [Committed()]

    row = await stores.runs.get(live)
    assert row is not None
    assert (row.state, row.start_time, row.end_time, row.output) == (5, None, 9, b"1")
    assert [each.step for each in await stores.runs.whole_steps(live, 0, 9)] == [0]


# --- what the store refuses ---


@pytest.mark.parametrize("position", [0, 1, 5, 9])
async def test_an_unstorable_record_is_found_wherever_it_is(stores: Stores, position: int) -> None:
    runs = [new_run_id() for _ in range(10)]
    batch = [record(run, 1) for run in runs]
    batch[position] = msgspec.structs.replace(batch[position], last_seq=TOO_LARGE)
    batch.append(record(runs[position], 2))

    outcomes = await stores.journal.commit(0, batch)

    assert isinstance(outcomes[position], Unstorable)
    assert outcomes[-1] == OutOfSequence()
    assert [o for i, o in enumerate(outcomes[:-1]) if i != position] == [Committed()] * 9
    for i, run in enumerate(runs):
        assert len(await stores.journal.read(run)) == (0 if i == position else 1)


async def test_several_kinds_of_refusals_in_one_batch(stores: Stores) -> None:
    taken, unstorable, fine, repeated = (new_run_id() for _ in range(4))
    await stores.journal.commit(0, [start(taken, request=request("r0"))])

    outcomes = await stores.journal.commit(
        0,
        [
            record(fine, 1),
            msgspec.structs.replace(record(unstorable, 1), last_seq=TOO_LARGE),
            record(taken, 1),
            start(repeated, request=request("r0")),
            record(fine, 2),
            record(unstorable, 2),
            record(repeated, 3),
        ],
    )

    assert [type(outcome) for outcome in outcomes] == [
        Committed,
        Unstorable,
        OutOfSequence,
        Repeated,
        Committed,
        OutOfSequence,
        OutOfSequence,
    ]


def _with_everything(text: str) -> Record:
    """Text of users wherever a record can hold it."""
    packed = text.encode("utf-8", "surrogatepass")
    new = NewRun("etl", 1, "d", packed, (), ((text, text),), 1, "c1", 1, text, None, None, packed)
    rows = (step_run(1, output=packed), msgspec.structs.replace(step_run(2), failure=packed))
    attempts = (msgspec.structs.replace(attempt(1), detail=packed),)
    row = request(text, answer=packed, digest=packed)
    return Record(new_run_id(), 1, 1, packed, 1, new_run=new, step_runs=rows, attempts=attempts, request=row)


@pytest.mark.parametrize("text", [*NOT_TEXT, "quotes \" \\ { } , '", "\U0001f6b0"])
async def test_what_users_wrote_comes_back_as_it_was(stores: Stores, text: str) -> None:
    packed = text.encode("utf-8", "surrogatepass")
    written = _with_everything(text)
    change = msgspec.structs.replace(record(written.run_id, 2), change=RunChange(6, text + text, summary=packed * 2))

    assert await stores.journal.commit(0, [written]) == [Committed()]
    assert await stores.journal.commit(0, [change]) == [Committed()]

    row = await stores.runs.get(written.run_id)
    assert row is not None
    assert row.trace_context == ((text, text),)
    assert (row.parameters, row.reason, row.summary) == (packed, text + text, packed * 2)
    assert await stores.runs.step_runs(written.run_id, (0, -1), (9, -1)) == list(written.step_runs)
    assert await stores.runs.attempts(written.run_id, 1, -1) == list(written.attempts)
    assert await stores.runs.find_request("", "StartRun", text) == written.request


@pytest.mark.parametrize("text", NOT_TEXT)
@pytest.mark.parametrize("place", ["pipeline", "owner", "label key", "label value", "step agent", "attempt agent"])
async def test_a_name_that_is_no_text_is_unstorable(stores: Stores, place: str, text: str) -> None:
    run, fine = new_run_id(), new_run_id()
    refused = {
        "pipeline": start(run, new=new_run(pipeline=text)),
        "owner": start(run, new=new_run(owner=text)),
        "label key": start(run, new=new_run(labels=((text, "v"),))),
        "label value": start(run, new=new_run(labels=(("k", text),))),
        "step agent": msgspec.structs.replace(record(run, 1), step_runs=(step_run(1, agent=text),)),
        "attempt agent": msgspec.structs.replace(record(run, 1), attempts=(attempt(1, agent=text),)),
    }[place]

    outcomes = await stores.journal.commit(0, [start(fine), refused])

    assert outcomes[0] == Committed()
    assert isinstance(outcomes[1], Unstorable)
    assert await stores.journal.read(run) == []
    assert await stores.runs.list_runs(RunFilter(pipeline=text), 10) == []


# --- projections ---


async def test_changes_of_one_run_in_one_batch_add_up(stores: Stores) -> None:
    run = new_run_id()
    batch = [
        start(run),
        msgspec.structs.replace(record(run, 3), change=RunChange(2, "under way", start_time=5)),
        msgspec.structs.replace(record(run, 4), change=RunChange(6, end_time=9, summary=b"sum")),
    ]

    await stores.journal.commit(0, batch)

    row = await stores.runs.get(run)
    assert row is not None
    assert (row.state, row.reason, row.start_time, row.end_time, row.summary) == (6, "under way", 5, 9, b"sum")
    assert row.last_seq == 4


async def test_changes_leave_what_they_do_not_name(stores: Stores) -> None:
    run = new_run_id()
    await stores.journal.commit(0, [start(run)])
    first = msgspec.structs.replace(record(run, 3), change=RunChange(2, "why", start_time=5))
    second = msgspec.structs.replace(record(run, 4), change=RunChange(4))
    third = msgspec.structs.replace(record(run, 5), change=RunChange(7, "because", end_time=8))

    await stores.journal.commit(0, [first, second])
    await stores.journal.commit(0, [third])

    row = await stores.runs.get(run)
    assert row is not None
    assert (row.state, row.reason, row.start_time, row.end_time) == (7, "because", 5, 8)


async def test_commits_of_one_lane_must_not_overlap(backend: Backend) -> None:
    stores = await open_speaking(backend)
    first = stores.journal.commit(0, [record(new_run_id(), 1)])
    running = first.send(None)  # up to where it waits for the database

    with pytest.raises(RuntimeError, match="overlap"):
        await stores.journal.commit(0, [record(new_run_id(), 1)])
    del running
    first.close()

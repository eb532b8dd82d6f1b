"""What the store of dead letters promises, on PostgreSQL and in memory."""

from __future__ import annotations

from dataclasses import replace

import msgspec
from tests.contract.records import letter, new_run, new_run_id, record, request, start

from penstock_coordinator.ports import (
    Committed,
    DeadLetter,
    LetterClosing,
    LetterFilter,
    LetterRow,
    LetterState,
    OldRows,
    Record,
    Repeated,
    RunChange,
    RunId,
    RunRows,
    Stores,
    Unstorable,
)

ANY_STATE = tuple(int(state) for state in LetterState)
COMMITTED = Committed()


def with_letters(run_id: RunId, first_seq: int, *letters: LetterRow, last_seq: int | None = None) -> Record:
    return msgspec.structs.replace(record(run_id, first_seq, last_seq), letters=letters)


def reopening(run_id: RunId, seq: int, closing: LetterClosing, generation: int = 2) -> Record:
    change = RunChange(2, generation=generation)
    return msgspec.structs.replace(record(run_id, seq), change=change, closings=(closing,))


async def begun(stores: Stores, labels: tuple[tuple[str, str], ...] = (), pipeline: str = "etl") -> RunId:
    run_id = new_run_id()
    assert await stores.journal.commit(0, [start(run_id, new=new_run(pipeline, labels=labels))]) == [COMMITTED]
    return run_id


async def listed(stores: Stores, where: LetterFilter | None = None) -> list[tuple[RunId, int]]:
    found = await stores.dead_letters.list_letters(where or LetterFilter(), 100)
    return [(each.run_id, each.letter.seq) for each in found]


async def test_a_letter_comes_with_its_record(stores: Stores) -> None:
    run_id = await begun(stores)
    one = letter(3)
    assert await stores.journal.commit(0, [with_letters(run_id, 3, one)]) == [COMMITTED]
    expected = DeadLetter(run_id, one, LetterState.OPEN, None, "")
    assert await stores.dead_letters.get(run_id, 3) == expected
    assert await stores.dead_letters.get(run_id, 4) is None
    assert await stores.dead_letters.list_letters(LetterFilter(), 10) == [expected]


async def test_a_record_that_is_not_stored_brings_no_letter(stores: Stores) -> None:
    first, second = new_run_id(), new_run_id()
    row = request("r1")
    begin = msgspec.structs.replace(start(first, request=row), letters=(letter(2),))
    again = msgspec.structs.replace(start(second, request=row), letters=(letter(2),))
    good = await begun(stores)
    outcomes = await stores.journal.commit(0, [begin, again, with_letters(good, 3, letter(3))])
    assert outcomes == [COMMITTED, Repeated(same=True, answer=b"answer"), COMMITTED]
    assert set(await listed(stores)) == {(first, 2), (good, 3)}
    stale = with_letters(good, 3, letter(4))
    assert await stores.journal.commit(0, [stale]) != [COMMITTED]
    assert await stores.dead_letters.get(good, 4) is None


async def test_a_letter_that_no_column_holds_spoils_its_record_alone(stores: Stores) -> None:
    good, bad = await begun(stores), await begun(stores)
    spoilt = with_letters(bad, 3, letter(3, display_name="a\0b"))
    outcomes = await stores.journal.commit(0, [with_letters(good, 3, letter(3)), spoilt])
    assert outcomes[0] == COMMITTED
    assert isinstance(outcomes[1], Unstorable)
    assert await listed(stores) == [(good, 3)]


async def test_letters_are_found_by_what_they_say(stores: Stores) -> None:
    one = await begun(stores, (("team", "a"), ("tier", "1")))
    two = await begun(stores, (("team", "b"),), "other")
    await stores.journal.commit(
        0,
        [
            with_letters(one, 3, letter(3, reason="Poison", budget=3), letter(4, 1, step_name="save"), last_seq=4),
            with_letters(two, 3, letter(3, pipeline="other", at=2_000, error_class="my.errors.KeyError")),
        ],
    )
    assert await listed(stores) == [(two, 3), (one, 4), (one, 3)]
    for where, expected in (
        (LetterFilter(pipeline="other"), [(two, 3)]),
        (LetterFilter(run_id=one), [(one, 4), (one, 3)]),
        (LetterFilter(step="save"), [(one, 4)]),
        (LetterFilter(reason="Poison"), [(one, 3)]),
        (LetterFilter(budgets=(2, 3)), [(one, 3)]),
        (LetterFilter(labels=(("team", "a"),)), [(one, 4), (one, 3)]),
        (LetterFilter(labels=(("team", "a"), ("tier", "2"))), []),
        (LetterFilter(since=1_004), [(two, 3), (one, 4)]),
        (LetterFilter(before=1_004), [(one, 3)]),
        (LetterFilter(pipeline="a\0b"), []),
        (LetterFilter(error_class="my.errors.KeyError"), [(two, 3)]),
        (LetterFilter(error_class="KeyError"), [(two, 3)]),
        (LetterFilter(error_class="Error"), []),
        (LetterFilter(error_class="other.my.errors.KeyError"), []),
    ):
        assert await listed(stores, where) == expected, where
        assert await stores.dead_letters.count(where) == (len(expected), len({run for run, _ in expected})), where
        runs = sorted({run for run, _ in expected}, reverse=True)
        assert await stores.dead_letters.runs(where, 10, b"\xff" * 16) == runs, where
        of_one = sorted(seq for run, seq in expected if run == one)
        assert [each.seq for each in await stores.dead_letters.of_run(where, one)] == of_one, where


async def test_pages_follow_each_other(stores: Stores) -> None:
    run_id = await begun(stores)
    letters = [letter(seq, item=seq, at=1_000 + seq // 3) for seq in range(3, 12)]
    await stores.journal.commit(0, [with_letters(run_id, 3, *letters, last_seq=11)])
    seen: list[int] = []
    after = None
    while page := await stores.dead_letters.list_letters(LetterFilter(), 2, after):
        seen += [each.letter.seq for each in page]
        after = page[-1].place
    assert seen == [*range(11, 2, -1)]
    below = await stores.dead_letters.runs(LetterFilter(), 10, run_id)
    assert below == []


async def test_a_new_generation_closes_the_letters_of_what_it_resets(stores: Stores) -> None:
    run_id, other = await begun(stores), await begun(stores)
    letters = [letter(3, 0), letter(4, 1), *(letter(5 + item, 2, item) for item in range(4)), letter(9, 3)]
    await stores.journal.commit(0, [with_letters(run_id, 3, *letters, last_seq=9), with_letters(other, 3, letter(3))])
    closing = LetterClosing(10, 5_000, "ann", ((0, 1), (3, 4)), ((2, ((1, 2), (3, 4))),))
    again = with_letters(run_id, 11, letter(11, 0))
    assert await stores.journal.commit(0, [reopening(run_id, 10, closing), again]) == [COMMITTED] * 2
    assert await listed(stores) == [(run_id, 11), (run_id, 7), (run_id, 5), (run_id, 4), (other, 3)]
    closed = await stores.dead_letters.get(run_id, 3)
    assert closed == DeadLetter(run_id, letters[0], LetterState.REQUEUED, 5_000, "ann")
    requeued = LetterFilter(states=(int(LetterState.REQUEUED),))
    assert await listed(stores, requeued) == [(run_id, 9), (run_id, 8), (run_id, 6), (run_id, 3)]


async def test_one_record_may_open_a_letter_and_close_it(stores: Stores) -> None:
    run_id = await begun(stores)
    closing = LetterClosing(4, 5_000, "", ((0, 1),), ())
    both = msgspec.structs.replace(reopening(run_id, 3, closing), last_seq=5, letters=(letter(3), letter(5)))
    assert await stores.journal.commit(0, [both]) == [COMMITTED]
    assert await listed(stores) == [(run_id, 5)]


async def test_purged_letters_are_out_of_the_way_and_their_runs_are_not(stores: Stores) -> None:
    run_id = await begun(stores)
    await stores.journal.commit(0, [with_letters(run_id, 3, letter(3), letter(4, 1), last_seq=4)])
    assert await stores.dead_letters.purge(run_id, [3, 3, 9], 7_000, "ann") == 1
    assert await stores.dead_letters.purge(run_id, [3], 8_000, "bob") == 0
    assert await listed(stores) == [(run_id, 4)]
    found = await stores.dead_letters.get(run_id, 3)
    assert found == DeadLetter(run_id, letter(3), LetterState.PURGED, 7_000, "ann")
    assert await listed(stores, LetterFilter(states=ANY_STATE)) == [(run_id, 4), (run_id, 3)]
    assert await stores.runs.get(run_id) is not None
    closing = LetterClosing(5, 9_000, "eve", ((0, 2),), ())
    await stores.journal.commit(0, [reopening(run_id, 5, closing)])
    assert await stores.dead_letters.get(run_id, 3) == found


async def test_open_letters_are_counted_up_to_a_bound(stores: Stores) -> None:
    assert await stores.dead_letters.count_open(10) == 0
    run_id = await begun(stores)
    assert await stores.journal.commit(0, [with_letters(run_id, 3, letter(3), letter(4), letter(5), last_seq=5)])
    assert [await stores.dead_letters.count_open(most) for most in (10, 2)] == [3, 2]
    await stores.dead_letters.purge(run_id, [3], 9, "ann")
    assert await stores.dead_letters.count_open(10) == 2


async def test_letters_go_when_they_were_closed_long_ago_and_with_their_runs(stores: Stores) -> None:
    run_id = await begun(stores)
    await stores.journal.commit(0, [with_letters(run_id, 3, letter(3), letter(4, 1), letter(5, 2), last_seq=5)])
    await stores.dead_letters.purge(run_id, [3], 7_000, "")
    await stores.dead_letters.purge(run_id, [4], 9_000, "")
    retention = stores.retention
    assert await retention.count_old(OldRows.CLOSED_LETTERS, 8_000) == 1
    assert await retention.remove_old(OldRows.CLOSED_LETTERS, 8_000, 10) == 1
    assert await stores.dead_letters.get(run_id, 3) is None
    assert await retention.count_rows(RunRows.LETTERS, [run_id]) == 2
    assert await retention.remove_rows(RunRows.LETTERS, [run_id], 10) == 0, "the run is live"
    ended = msgspec.structs.replace(record(run_id, 6), change=RunChange(7, end_time=10_000, summary=b""))
    await stores.journal.commit(0, [ended])
    assert await retention.remove_rows(RunRows.LETTERS, [run_id], 10) == 2
    assert await listed(stores, LetterFilter(states=ANY_STATE)) == []


async def test_a_filter_of_one_run_asks_no_other(stores: Stores) -> None:
    run_id, other = await begun(stores), await begun(stores)
    await stores.journal.commit(0, [with_letters(run_id, 3, letter(3)), with_letters(other, 3, letter(3))])
    where = LetterFilter(run_id=run_id)
    assert await stores.dead_letters.of_run(where, other) == []
    assert await stores.dead_letters.of_run(replace(where, run_id=other), other) == [letter(3)]

"""Who wrote what, and how long a take-over took: by values made by hand."""

from __future__ import annotations

import pytest
from tests.chaos.faults import Fault
from tests.chaos.take_overs import TakeOver, take_overs
from tests.chaos.writers import Write, problems

SECOND = 1_000_000
LEASE = 4.0


def write(run: str, number: int, writer: str, epoch: int, second: float) -> Write:
    return Write(run, number, writer, epoch, int(second * SECOND))


BEFORE = [write("r1", 1, "c1", 7, 90.0), write("r1", 2, "c1", 7, 99.9), write("r2", 1, "c1", 7, 99.0)]


def struck(kind: str, began: float = 100.0, seconds: float = 0.0, role: str = "owner") -> Fault:
    return Fault(kind, "coordinator", "c1", 0.0, seconds, began=began, ended=began + seconds, role=role)


def of(faults: list[Fault], after: list[Write]) -> list[TakeOver]:
    """All writes grant leases."""
    writes = sorted([*BEFORE, *after], key=lambda each: (each.run_id, each.first_seq))
    return take_overs(faults, writes, {(each.run_id, each.first_seq) for each in writes}, LEASE)


def test_writes_of_one_owner_after_the_other_are_right() -> None:
    assert problems([*BEFORE[:2], write("r1", 3, "c2", 8, 105.0), BEFORE[2]]) == []


def test_whoever_writes_after_he_was_overtaken_is_found() -> None:
    (problem,) = problems([*BEFORE[:2], write("r1", 3, "c2", 8, 105.0), write("r1", 4, "c1", 7, 106.0)])
    assert problem.startswith("OVERTAKEN: c1 wrote record 4 of run r1 in epoch 7")


def test_a_head_takes_over_from_its_member_in_an_older_epoch_and_nobody_comes_back() -> None:
    taken = [*BEFORE[:2], write("r1", 3, "c2", 5, 105.0)]
    assert problems(taken, members=True) == []
    (problem,) = problems([*taken, write("r1", 4, "c1", 7, 106.0)], members=True)
    assert problem.startswith("OVERTAKEN: c1 wrote record 4 of run r1 in epoch 7, after c2 in epoch 5")
    (problem,) = problems(taken)
    assert problem.startswith("OVERTAKEN: c2 wrote record 3 of run r1 in epoch 5"), "without members epochs only rise"
    (found,) = of([struck("kill", role="member")], [write("r3", 1, "c2", 5, 99.0), *taken[2:]])
    assert (found.moved, found.seconds) == (True, 5.0)


def test_two_that_write_in_one_epoch_are_found() -> None:
    (problem,) = problems([*BEFORE[:2], write("r1", 3, "c2", 7, 105.0)])
    assert "epoch 7 is of c1, and c2 wrote in it" in problem


@pytest.mark.parametrize(
    ("kind", "second", "missed"),
    [("kill", 105.9, False), ("kill", 106.1, True), ("freeze", 111.9, False), ("freeze", 112.1, True)],
)
def test_a_take_over_lasts_until_the_new_owners_first_lease(kind: str, second: float, missed: bool) -> None:
    (found,) = of([struck(kind)], [write("r1", 3, "c2", 8, second), write("r1", 4, "c2", 8, second + 1)])
    assert (found.moved, round(found.seconds, 3), found.missed) == (True, round(second - 100.0, 3), missed)


def test_leases_of_runs_that_began_afterwards_are_no_take_over() -> None:
    (found,) = of([struck("kill")], [write("r9", 1, "c2", 8, 104.0), write("r2", 2, "c2", 8, 105.0)])
    assert (found.moved, found.seconds) == (True, 5.0)


def test_runs_that_the_owner_has_not_written_to_yet_are_his_and_those_of_others_are_not() -> None:
    others = [write("r5", 1, "c3", 5, 95.0), write("r5", 2, "c3", 5, 101.0), write("r5", 3, "c3", 9, 102.0)]
    (found,) = of([struck("kill")], [write("r6", 1, "c0", 6, 80.0), write("r6", 2, "c2", 8, 105.0), *others])
    assert (found.moved, found.seconds) == (True, 5.0)


def test_one_process_that_is_started_again_takes_over_from_itself() -> None:
    (found,) = of([struck("kill")], [write("r1", 3, "c1", 8, 103.0)])
    assert (found.moved, found.seconds) == (True, 3.0)


def test_of_an_owner_that_goes_on_the_longest_silence_counts() -> None:
    after = [write("r1", 3, "c1", 7, 100.5), write("r2", 2, "c1", 7, 103.5), write("r2", 3, "c1", 7, 109.0)]
    (found,) = of([struck("freeze", seconds=3.0)], after)
    assert (found.moved, found.seconds) == (False, 3.0)


def test_what_follows_from_the_next_fault_is_not_charged_to_the_one_before() -> None:
    after = [write("r1", 3, "c1", 7, 101.5), write("r2", 2, "c2", 8, 125.0)]
    first, second = of([struck("freeze", seconds=1.0), struck("kill", 120.0)], after)
    assert (first.moved, first.seconds) == (False, 1.5)
    assert (second.moved, second.seconds) == (True, 5.0)


def test_faults_of_those_that_follow_and_of_others_move_nothing() -> None:
    assert of([struck("kill", role="follower"), struck("flush", role="")], [write("r1", 3, "c1", 7, 100.1)]) == []


def test_a_fault_after_the_last_word_moves_nothing() -> None:
    assert of([struck("kill", 200.0)], [write("r1", 3, "c1", 7, 101.0)]) == []

"""Who is let in, as arithmetic: shares of priorities, what is short, and when to come back."""

from __future__ import annotations

import itertools

import pytest

from penstock_coordinator.ports import Unavailable
from penstock_coordinator.runtime.admission import LONGEST_WAIT, SHORTEST_WAIT, Admission, Bounds, Strain
from penstock_coordinator.runtime.views import Overloaded


class _Clock:
    def __init__(self) -> None:
        self.now = 1_000_000

    def __call__(self) -> int:
        return self.now


def _admission(backlog: int = 100, waiting: int = 0) -> tuple[Admission, _Clock]:
    clock = _Clock()
    made = Admission(Bounds(backlog=backlog), clock)
    for _ in range(waiting):
        made.waits()
    return made, clock


@pytest.mark.parametrize(
    ("waiting", "count", "lets_in"),
    [
        (0, 1, {-1, 0, 1}),
        (49, 1, {-1, 0, 1}),
        (50, 1, {0, 1}),
        (89, 1, {0, 1}),
        (90, 1, {1}),
        (99, 1, {1}),
        (100, 1, set()),
        (0, 50, {-1, 0, 1}),
        (0, 90, {0, 1}),
        (0, 91, {1}),
        (60, 31, {1}),
        (60, 41, set()),
    ],
)
def test_low_priorities_are_refused_earlier_and_high_ones_come_in_up_to_the_limit(
    waiting: int, count: int, lets_in: set[int]
) -> None:
    admission, _ = _admission(waiting=waiting)
    assert {priority for priority in (-1, 0, 1) if _let_in(admission, priority, count)} == lets_in


def _let_in(admission: Admission, priority: int, count: int) -> bool:
    try:
        admission.check_runs(priority, count)
    except Overloaded:
        return False
    return True


def test_one_run_is_always_let_in_when_none_waits() -> None:
    admission, _ = _admission(backlog=1)
    admission.check_runs(-1)
    admission.waits()
    with pytest.raises(Overloaded):
        admission.check_runs(1)
    admission.begun()
    admission.check_runs(-1)


@pytest.mark.parametrize("short", ["lag", "commits", "memory"])
@pytest.mark.parametrize(
    ("strain", "lets_in", "looks"),
    [(0.49, {-1, 0, 1}, True), (0.5, {0, 1}, True), (0.9, {1}, False), (1.0, set(), False), (7.0, set(), False)],
)
def test_each_thing_that_can_be_short_is_shed_by_priority_too(
    short: str, strain: float, lets_in: set[int], looks: bool
) -> None:
    admission, _ = _admission()
    admission.measure(Strain(**{short: strain}), "")
    assert {priority for priority in (-1, 0, 1) if _let_in(admission, priority, 1)} == lets_in
    if looks:
        admission.check_load()
        return
    with pytest.raises(Overloaded) as refused:
        admission.check_load()
    assert refused.value.cause == short
    assert admission.refusals[short] >= 1


def test_those_who_are_refused_come_back_one_behind_the_other_at_the_rate_at_which_runs_begin() -> None:
    admission, clock = _admission(waiting=100)
    _drain(admission, clock, per_second=40)
    assert admission.drain_rate == pytest.approx(40, rel=0.01)
    waits = [_wait(admission) for _ in range(400)]
    steps = {later - earlier for earlier, later in itertools.pairwise(waits[10:300])}
    assert min(steps) >= 24_000
    assert max(steps) <= 26_000
    assert waits[0] == SHORTEST_WAIT
    assert waits[-1] == pytest.approx(100 * 100_000, abs=600_000)


def _drain(admission: Admission, clock: _Clock, per_second: int) -> None:
    """Runs begin, and others come in their place."""
    for _ in range(50):
        clock.now += 100_000
        for _ in range(per_second // 10):
            admission.begun()
            admission.waits()
        admission.measure(Strain(), "")


def _wait(admission: Admission) -> int:
    with pytest.raises(Overloaded) as refused:
        admission.check_runs(1)
    assert refused.value.retry_after is not None
    return refused.value.retry_after


def test_no_wait_is_longer_than_the_bound_whatever_the_rate_is() -> None:
    admission, _ = _admission(waiting=100)
    waits = [_wait(admission) for _ in range(50)]
    assert waits == sorted(waits)
    assert waits[-1] == LONGEST_WAIT


def test_what_never_fits_is_not_asked_to_come_back() -> None:
    admission, _ = _admission()
    with pytest.raises(Overloaded, match="start fewer at once") as refused:
        admission.check_runs(0, 91)
    assert refused.value.retry_after is None


def test_while_nothing_can_be_committed_runs_are_refused_as_unavailable_and_full_is_seen_before_anything_is_read() -> (
    None
):
    admission, _ = _admission(waiting=95)
    admission.check_full()
    admission.measure(Strain(), "commits wait for the database")
    with pytest.raises(Unavailable) as away:
        admission.check_full()
    assert away.value.retry_after == 1_000_000
    admission.measure(Strain(), "")
    for _ in range(5):
        admission.waits()
    with pytest.raises(Overloaded):
        admission.check_full()
    assert admission.pressure == 1.0

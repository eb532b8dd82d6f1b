"""The small parts of the run core."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.run.driver import Driver
from tests.unit.run.plans import SECOND, Node, build, values

from penstock_coordinator.core.plan.limits import DEFAULT_RUN_LIMITS
from penstock_coordinator.core.plan.model import Retry, Timeouts
from penstock_coordinator.core.run.deadlines import next_deadline
from penstock_coordinator.core.run.events import (
    Charge,
    Failure,
    MapExpanded,
    Outcome,
    RunStarted,
    StepsReadied,
    UnknownEvent,
    WaitReason,
    decode,
    encode,
)
from penstock_coordinator.core.run.messages import AttemptEnded, LeaseGone, SlotsOffered
from penstock_coordinator.core.run.ranges import packed
from penstock_coordinator.core.run.ready import UNMAPPED, ReadyQueue
from penstock_coordinator.core.run.retrying import backoff
from penstock_coordinator.core.run.spans import spelled
from penstock_coordinator.core.run.states import StepState
from penstock_coordinator.core.run.summary import unpack
from penstock_coordinator.core.run.view import StepRunDetail, describe


@given(st.sets(st.integers(0, 60)))
def test_ranges_cover_exactly_what_they_were_made_of(positions: set[int]) -> None:
    ranges = packed(sorted(positions))
    assert {position for first, stop in ranges for position in range(first, stop)} == positions
    assert sum(stop - first for first, stop in ranges) == len(positions)
    assert all(stop < first for (_, stop), (first, _) in pairwise(ranges))


@pytest.mark.parametrize(
    ("span", "text"),
    [(0, "0 s"), (1, "1 us"), (1_500, "1500 us"), (2_000, "2 ms"), (90_000_000, "90 s"), (120_000_000, "2 min")],
)
def test_spans(span: int, text: str) -> None:
    assert spelled(span) == text


def test_backoff_grows_to_its_limit() -> None:
    retry = Retry(initial_backoff=SECOND, multiplier=3.0, max_backoff=10 * SECOND, jitter=0.5)
    assert [backoff(retry, failures, 0.0) for failures in (1, 2, 3, 4)] == [SECOND, 3 * SECOND, 9 * SECOND, 10 * SECOND]
    assert backoff(retry, 1, 0.5) == SECOND * 3 // 4


def test_backoff_does_not_overflow() -> None:
    assert backoff(Retry(multiplier=100.0, jitter=0.0), 999, 0.0) == 300 * SECOND


def test_queue_keeps_the_order_and_passes_over_what_is_gone() -> None:
    steps, items = bytearray((StepState.READY,)) * 4, bytearray((StepState.READY,)) * 1_000
    queue = ReadyQueue()
    queue.add(steps, UNMAPPED, 0, 1)
    queue.add(steps, UNMAPPED, 1, 3)
    queue.add(items, 3, 0, 1_000)
    steps[1] = StepState.CANCELLED
    assert queue.head(4) == [(0, -1), (2, -1), (3, 0), (3, 1)]
    steps[0] = steps[2] = items[0] = StepState.RUNNING
    queue.trim()
    assert queue.head(1) == [(3, 1)]
    assert len(queue.waiting()) == 999


def test_a_step_run_that_comes_back_goes_to_the_end() -> None:
    driver = Driver(build([Node("a"), Node("b"), Node("c")]))
    driver.start()
    driver.send(SlotsOffered(0, 0, 1, "agent", 1))
    (lease,) = driver.tokens()
    driver.send(LeaseGone(0, *lease, "rejected", Charge.NOBODY))
    assert driver.run.queues[0].waiting() == [(1, -1), (2, -1), (0, -1)]


def test_description_of_a_step_run_through_its_life() -> None:
    driver = Driver(build([Node("a", retry=Retry(2, jitter=0.0))]))
    assert describe(driver.run, 0) == StepRunDetail(StepState.PENDING)
    driver.now = 5
    driver.start()
    assert describe(driver.run, 0) == StepRunDetail(StepState.READY, first_ready_at=5, ready_at=5)
    driver.send(SlotsOffered(7, 0, 3, "agent", 1))
    seen = describe(driver.run, 0)
    assert (seen.state, seen.attempts, seen.leased_at, seen.token) == (StepState.RUNNING, 1, 7, driver.run.seq)
    assert (seen.session, seen.agent) == (3, "agent")
    why = Failure("UserError", "boom")
    driver.send(AttemptEnded(9, *driver.tokens()[0], b"", 3, Outcome.FAILED, failure=why))
    seen = describe(driver.run, 0)
    assert (seen.state, seen.attempts, seen.failure, seen.token) == (StepState.WAITING, 1, why, 0)
    assert seen.wait is not None
    assert (seen.wait.reason, seen.wait.until) == (WaitReason.BACKOFF, 9 + SECOND)


def test_description_of_an_item_that_waits_for_its_first_lease() -> None:
    driver = Driver(build([Node("a", over=values(1, 2))]))
    driver.now = 5
    driver.start()
    assert describe(driver.run, 0, 1) == StepRunDetail(StepState.READY, first_ready_at=5, ready_at=5)
    assert driver.run.item_value(0, 1) == 2
    with pytest.raises(LookupError):
        describe(driver.run, 0, 2)


def test_summary_counts_like_the_run() -> None:
    driver = Driver(build([Node("a", over=values(1, 2, 3)), Node("b"), Node("c", over=values())]))
    driver.start()
    driver.send(SlotsOffered(0, 0, 1, "agent", 2))
    summary = unpack(driver.run.pack())
    assert summary.counts() == driver.run.counts()
    assert summary.item_counts(0) == driver.run.item_counts(0)
    assert summary.item_counts(1) is None
    assert (driver.run.counts().ready, driver.run.counts().running) == (2, 2)


def test_queued_clocks_stand_still_until_agents_had_time_to_come_back() -> None:
    driver = Driver(build([Node("a", timeouts=Timeouts(queued=5)), Node("b", timeouts=Timeouts(overall=9))]))
    driver.start()
    assert next_deadline(driver.run) == 5
    assert next_deadline(driver.run, queued_open_at=7) == 7
    assert next_deadline(driver.run, queued_open_at=20) == 9


def test_a_map_has_a_limit() -> None:
    driver = Driver(build([Node("a", over=values(*[0] * (DEFAULT_RUN_LIMITS.items + 1)))]))
    driver.start()
    assert driver.run.reason == (
        'step "a" failed: Map: cannot map over the given values: it has 100,001 items and the limit is 100,000; '
        "map over batches of items instead, or have the operator raise PENSTOCK_MAX_ITEMS_OF_STEP"
    )


def test_events_survive_the_journal() -> None:
    events = [RunStarted(1, "d", b"{}", None), StepsReadied(2, ((0, 4),)), MapExpanded(3, 1, 2)]
    assert list(decode(encode(events))) == events  # type: ignore[arg-type]  # a list of some of the events


def test_events_of_a_newer_release_are_never_skipped() -> None:
    with pytest.raises(UnknownEvent):
        decode(b"\x02")
    with pytest.raises(UnknownEvent):
        decode(b"\x01\x91\x92\xcc\xc8\x00")

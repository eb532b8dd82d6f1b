"""What is counted of what happens."""

from __future__ import annotations

import pytest
from tests.unit.counts.runs import SECOND, leased_run, ready_run

from penstock_coordinator.core.counts.calls import CallCounts
from penstock_coordinator.core.counts.histogram import Histogram
from penstock_coordinator.core.counts.live import LiveCounts
from penstock_coordinator.core.counts.runs import RunCounts, cause_of
from penstock_coordinator.core.plan.slo_tiers import SloTier, tier_of
from penstock_coordinator.core.run import events as e
from penstock_coordinator.core.run.events import WHOLE, Charge, Failure, Outcome, WaitReason
from penstock_coordinator.core.run.states import RunState, StepState


def test_a_value_belongs_to_the_first_bound_that_it_does_not_pass() -> None:
    histogram = Histogram((1.0, 2.0))
    for value in (0.5, 1.0, 1.5, 3.0):
        histogram.add(value)
    histogram.add(2.0, times=3)
    assert (histogram.counts, histogram.sum) == ([2, 4, 1], 12.0)


def test_the_wait_for_a_grant_counts_from_when_there_was_room() -> None:
    run, event = leased_run(ready_at=0, leased_at=10 * SECOND)
    counts = RunCounts()
    counts.committed(run, [(3, event)], 10 * SECOND + SECOND // 2)
    waits = counts.dispatch_seconds[SloTier.DEFAULT]
    assert (sum(waits.counts), waits.sum) == (1, 0.5)


@pytest.mark.parametrize(
    ("held", "waited"),
    [((2, 5), 3.5), ((-4, 5), 5.5), ((2, 20), 8.5), ((-4, -1), 0.5)],
    ids=["all of it", "from before it was ready", "until later", "before it was ready"],
)
def test_while_the_coordinator_lets_nothing_be_placed_those_who_are_ready_wait_for_it(
    held: tuple[int, int], waited: float
) -> None:
    run, event = leased_run(ready_at=100 * SECOND, leased_at=110 * SECOND)
    counts = RunCounts()
    counts.withhold((100 + held[0]) * SECOND)
    counts.go_on((100 + held[1]) * SECOND)
    counts.committed(run, [(3, event)], 110 * SECOND + SECOND // 2)
    assert counts.dispatch_seconds[SloTier.DEFAULT].sum == waited


def test_a_retry_is_charged_to_what_ended_the_attempt_before() -> None:
    run, counts = ready_run(), RunCounts()
    lost: list[e.Event] = [
        e.LeaseLost(0, 0, WHOLE, 3, "lease_expired", Charge.INFRASTRUCTURE),
        e.StepReturned(0, 0, WHOLE),
    ]
    died: list[e.Event] = [e.LeaseLost(0, 0, WHOLE, 3, "agent_gone", Charge.POISON), e.StepReturned(0, 0, WHOLE)]
    back: list[e.Event] = [e.LeaseLost(0, 0, WHOLE, 3, "called_back", Charge.NOBODY), e.StepReturned(0, 0, WHOLE)]
    failed = e.AttemptFailed(0, 0, WHOLE, 3, Outcome.FAILED, Failure("UserError"))
    later = e.StepWaiting(0, 0, WHOLE, WaitReason.BACKOFF, 1)
    over: list[e.Event] = [failed, e.StepFailed(0, 0, WHOLE, Failure("UserError")), e.StepReturned(0, 1, WHOLE)]
    apart: list[e.Event] = [failed, later]
    for events in (lost, died, back, apart, over):
        counts.committed(run, list(enumerate(events, 4)), 0)
    assert counts.retries == {"infrastructure": 1, "poison": 1, "user": 1}
    told = {cause: count for cause, count in counts.losses.items() if count}
    assert told == {"lease_expired": 1, "agent_gone": 1, "called_back": 1}


def test_step_runs_that_come_to_rest_together_are_counted_each() -> None:
    counts = RunCounts()
    counts.committed(ready_run(), [(4, e.StepsSettled(0, StepState.SKIPPED, ((0, 3), (5, 6))))], 0)
    assert counts.steps_ended[StepState.SKIPPED] == 4


@pytest.mark.parametrize(
    ("reason", "cause"), [("UserError", "user"), ("Poison", "user"), ("AgentLost", "infrastructure"), (None, "user")]
)
def test_whose_fault_a_failed_run_is_follows_from_its_first_failure(reason: str | None, cause: str) -> None:
    run, counts = ready_run(), RunCounts()
    run.first_failure = None if reason is None else (0, WHOLE, Failure(reason))
    counts.committed(run, [(4, e.RunEnded(0, RunState.FAILED, ""))], 0)
    assert counts.ended == {(RunState.FAILED, SloTier.DEFAULT, cause): 1}


def test_causes_in_words_of_agents_are_few() -> None:
    assert [cause_of(each) for each in ("returned", "rejected: disk", "gone fishing")] == [
        "returned",
        "rejected",
        "other",
    ]


def test_what_starts_runs_is_refused_or_failed_by_whose_fault_it_is() -> None:
    counts = CallCounts()
    for code in ("OK", "INVALID_ARGUMENT", "NOT_FOUND", "UNAVAILABLE", "RESOURCE_EXHAUSTED", "DEADLINE_EXCEEDED"):
        counts.submitted(SloTier.CRITICAL, code)
    found = {outcome: count for (_, outcome), count in counts.submissions.items()}
    assert found == {"ok": 1, "refused": 2, "failed": 3}


def test_a_tier_of_before_there_were_any_is_the_default() -> None:
    assert [tier_of(each) for each in ({}, {"slo_tier": "gold"}, {"slo_tier": "non-critical"})] == [
        SloTier.DEFAULT,
        SloTier.DEFAULT,
        SloTier.NON_CRITICAL,
    ]


def test_the_deepest_mailbox_is_known_for_a_while() -> None:
    live = LiveCounts()
    live.posted(7)
    live.turn_over()
    live.posted(2)
    assert (live.deepest, live.mail) == (7, 2)
    live.turn_over()
    assert live.deepest == 2

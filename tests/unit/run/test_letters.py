"""Which dead letters a turn brings, and which it closes."""

from __future__ import annotations

from tests.unit.run.plans import Node, build, values

from penstock_coordinator.core.plan.model import Plan, Retry
from penstock_coordinator.core.run.decide import decide
from penstock_coordinator.core.run.events import WHOLE, Budget, Charge, Failure, Outcome
from penstock_coordinator.core.run.ledger import Ledger
from penstock_coordinator.core.run.messages import (
    AttemptEnded,
    CancelRun,
    LeaseGone,
    Message,
    RequeueSteps,
    RerunStep,
    RetryRun,
    SlotsOffered,
    StartRun,
)
from penstock_coordinator.core.run.state import Run
from penstock_coordinator.runtime.projection import AttemptDetail, Projection, decode_attempt

BOOM = Failure("UserError", "boom")


class Story:
    """One run, turn by turn."""

    def __init__(self, plan: Plan) -> None:
        self.run = Run(plan, b"parent")
        self.send(StartRun(0, b"{}"))

    def send(self, message: Message) -> Projection:
        projection = Projection(self.run)
        projection.message = message if isinstance(message, AttemptEnded) else None
        decide(self.run, message, Ledger(self.run, projection.note))
        return projection

    def lease(self) -> None:
        self.send(SlotsOffered(0, 0, 1, "agent-1", 100))

    def fail(self, step: int, item: int = WHOLE) -> Projection:
        active = self.run.active_step(step, item)
        assert active is not None
        return self.send(AttemptEnded(0, step, item, active.token, b"", 1, Outcome.FAILED, failure=BOOM))

    def lose(self, charge: Charge, boot: str = "") -> Projection:
        active = self.run.active[0]
        return self.send(LeaseGone(0, 0, WHOLE, active.token, "expired", charge, boot=boot))


def charged(projection: Projection) -> list[int]:
    return [decode_attempt(row).charged_to for row in projection.attempts]


def test_a_failure_for_good_is_a_letter_and_one_that_is_retried_is_none() -> None:
    story = Story(build([Node("a", retry=Retry(2, initial_backoff=0))]))
    story.lease()
    first = story.fail(0)
    assert (first.letters, charged(first)) == ([], [Budget.RETRIES])
    story.lease()
    (letter,) = story.fail(0).letters
    assert (letter.budget, letter.attempts, letter.reason, letter.message) == (Budget.RETRIES, 2, "UserError", "boom")
    assert letter.seq < story.run.seq, "the end of the run comes after it"


def test_budgets_are_told_apart() -> None:
    story = Story(build([Node("a", retry=Retry(2, initial_backoff=0, max_losses=1))]))
    story.lease()
    poison = story.lose(Charge.POISON, "one")
    assert (poison.letters, charged(poison)) == ([], [Budget.POISON])
    story.lease()
    assert charged(story.lose(Charge.STARTED)) == [Budget.NONE]
    story.lease()
    lost = story.lose(Charge.INFRASTRUCTURE)
    assert [(each.budget, each.reason) for each in lost.letters] == [(Budget.INFRASTRUCTURE, "AgentLost")]
    assert charged(lost) == [Budget.INFRASTRUCTURE]


def test_what_is_stopped_is_charged_to_nobody() -> None:
    story = Story(build([Node("a"), Node("b")]))
    story.lease()
    story.send(CancelRun(0, False, "enough"))
    failed = story.fail(1)
    assert (failed.letters, charged(failed)) == ([], [Budget.NONE])
    lost = story.lose(Charge.POISON, "one")
    assert (lost.letters, charged(lost)) == ([], [Budget.NONE])


def test_what_is_allowed_to_fail_is_no_letter() -> None:
    story = Story(build([Node("a", allow_failure=True)]))
    story.lease()
    assert story.fail(0).letters == []


def test_each_item_has_its_letter() -> None:
    story = Story(build([Node("m", over=values(1, 2))]))
    story.lease()
    found = [letter for item in range(2) for letter in story.fail(0, item).letters]
    assert [(each.item, each.display_name, each.step_name) for each in found] == [(0, "m[0]", "m"), (1, "m[1]", "m")]


def test_every_new_generation_closes_the_letters_of_what_it_resets() -> None:
    messages = (RequeueSteps(0, ((0, WHOLE),), "ann"), RetryRun(0, "ann"), RerunStep(0, 0, WHOLE, "ann"))
    for message in messages:
        story = Story(build([Node("a"), Node("b", ["a"])]))
        story.lease()
        story.fail(0)
        (closing,) = story.send(message).closings
        assert (closing.steps, closing.items, closing.requested_by) == (((0, 2),), (), "ann")


def test_a_requeue_of_items_closes_their_letters_alone() -> None:
    story = Story(build([Node("m", over=values(1, 2, 3))]))
    story.lease()
    for item in range(3):
        story.fail(0, item)
    (closing,) = story.send(RequeueSteps(0, ((0, 0), (0, 2)), "ann")).closings
    assert (closing.steps, closing.items) == ((), ((0, ((0, 1), (2, 3))),))


def test_a_version_without_the_step_closes_its_letter() -> None:
    plan = build([Node("a"), Node("b")])
    story = Story(plan)
    story.lease()
    story.fail(0)
    story.fail(1)
    renewed = build([Node("b")], digest="2", onto=plan)
    story.run.plans = {renewed.digest: renewed}
    (closing,) = story.send(RetryRun(0, "ann", version=renewed.digest)).closings
    closed = {number for first, stop in closing.steps for number in range(first, stop)}
    assert closed == {0, 1}


def test_an_attempt_of_a_former_release_was_charged_to_none_that_is_known() -> None:
    assert AttemptDetail().charged_to == Budget.NONE

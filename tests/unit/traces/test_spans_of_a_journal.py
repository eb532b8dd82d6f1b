"""The spans that a journal tells of: which there are, below what, and how they are linked."""

from __future__ import annotations

from google.protobuf import json_format

from penstock.v1.pipeline_pb2 import PipelineSpec
from penstock_coordinator.core.plan.compile import compile_plan
from penstock_coordinator.core.run import events as e
from penstock_coordinator.core.run.events import WHOLE, Charge, Event, Failure, Outcome, Reopening, WaitReason
from penstock_coordinator.core.run.states import RunState, StepState
from penstock_coordinator.core.traces.ids import Kind, span_id
from penstock_coordinator.core.traces.spans import RunSpans, Span, TracedRun

RUN, CALLER = bytes(range(16)), b"callers_"
COMMAND = {"argv": ["true"]}
SPEC = {
    "name": "p",
    "steps": [
        {"name": "a", "command": COMMAND},
        {"name": "m", "command": COMMAND, "map": {"values": [1, 2]}},
        {"name": "c", "pipeline": {"name": "below"}},
    ],
}
PLAN = compile_plan(json_format.ParseDict(SPEC, PipelineSpec()), "d" * 64)
BOOM = Failure("UserError", "boom")
A, M, C = 0, 1, 2


def folded(*events: Event, parent: bytes = CALLER) -> list[Span]:
    fold = RunSpans(TracedRun(RUN, "run-name", "p", 3, parent), PLAN)
    return [span for seq, event in enumerate(events, 1) for span in fold.add(seq, event)]


def named(spans: list[Span], name: str) -> list[Span]:
    return [span for span in spans if span.name == name]


def started(at: int = 0) -> tuple[Event, ...]:
    return e.RunStarted(at, "d", b"{}", None), e.StepsReadied(at + 10, ((A, A + 1),))


def leased(at: int, step: int, item: int, attempt: int, agent: str = "x") -> Event:
    return e.StepsLeased(at, 1, agent, ((step, item, attempt),))


def test_an_attempt_has_a_span_for_each_of_its_phases() -> None:
    spans = folded(
        *started(),
        leased(30, A, WHOLE, 1),
        e.AttemptTimed(200, A, WHOLE, 3, environment=40, execution=60, upload=20, age=10),
        e.StepCompleted(200, A, WHOLE, 3),
        e.RunEnded(210, RunState.COMPLETED, ""),
    )
    times = {span.name: (span.start, span.end) for span in spans}
    assert times == {
        "queued": (10, 30),
        "attempt": (30, 200),
        "leased": (30, 70),
        "environment": (70, 110),
        "execute a": (110, 170),
        "upload": (170, 190),
        "step a": (10, 200),
        "run p": (0, 210),
    }
    ids = {span.name: span.span_id for span in spans}
    parents = {span.name: span.parent for span in spans}
    assert parents["run p"] == CALLER
    assert parents["step a"] == ids["run p"] == span_id(RUN, Kind.RUN, 1)
    assert parents["queued"] == parents["attempt"] == ids["step a"]
    assert parents["leased"] == parents["execute a"] == parents["upload"] == ids["attempt"]
    assert ids["execute a"] == span_id(RUN, Kind.EXECUTION, A, WHOLE, 3), "what the attempt itself was told"
    assert len(set(ids.values())) == len(spans)


def test_an_agent_that_says_more_than_was_there_is_cut() -> None:
    spans = folded(
        *started(),
        leased(30, A, WHOLE, 1),
        e.AttemptTimed(200, A, WHOLE, 3, environment=400, execution=600, upload=0, age=0),
        e.StepCompleted(200, A, WHOLE, 3),
    )
    assert {span.name: (span.start, span.end) for span in spans if span.name != "queued"} == {
        "attempt": (30, 200),
        "leased": (30, 30),
        "environment": (30, 30),
        "execute a": (30, 200),
        "step a": (10, 200),
    }


def test_a_retry_is_linked_to_what_failed() -> None:
    spans = folded(
        *started(),
        leased(30, A, WHOLE, 1),
        e.AttemptFailed(40, A, WHOLE, 3, Outcome.FAILED, BOOM),
        e.StepWaiting(40, A, WHOLE, WaitReason.BACKOFF, 50),
        e.StepWoken(50, A, WHOLE),
        leased(60, A, WHOLE, 2),
        e.StepCompleted(70, A, WHOLE, 7),
    )
    first, second = named(spans, "attempt")
    assert first.error == "UserError: boom"
    assert ("error.type", "UserError") in first.attributes
    assert [(link.span_id, link.attributes) for link in second.links] == [
        (first.span_id, (("penstock.link", "retry"),))
    ]
    (step,) = named(spans, "step a")
    assert (step.start, step.end, step.error) == (10, 70, "")
    assert [moment.name for moment in step.moments] == ["backoff"]
    assert [(span.start, span.end) for span in named(spans, "queued")] == [(10, 30), (50, 60)]


def test_who_takes_over_a_lost_lease_is_linked_to_it() -> None:
    spans = folded(
        *started(),
        leased(30, A, WHOLE, 1),
        e.LeaseLost(40, A, WHOLE, 3, "expired", Charge.INFRASTRUCTURE),
        e.StepReturned(40, A, WHOLE),
        leased(60, A, WHOLE, 2, "y"),
        e.StepCompleted(70, A, WHOLE, 6),
    )
    first, second = named(spans, "attempt")
    assert first.error == "expired"
    assert second.links[0].span_id == first.span_id
    assert second.links[0].attributes == (("penstock.link", "lease lost"),)
    assert ("penstock.agent.id", "y") in second.attributes


def test_items_are_below_their_map() -> None:
    spans = folded(
        e.RunStarted(0, "d", b"{}", None),
        e.MapExpanded(5, M, 2),
        leased(6, M, 0, 1),
        leased(8, M, 1, 1),
        e.StepCompleted(9, M, 0, 3),
        e.StepCompleted(10, M, 1, 4),
        e.MapSettled(10, M, StepState.COMPLETED),
    )
    *items, whole = named(spans, "step m")
    assert (whole.start, whole.end, whole.parent) == (5, 10, span_id(RUN, Kind.RUN, 1))
    assert {item.parent for item in items} == {whole.span_id}
    assert [dict(item.attributes)["penstock.step.item"] for item in items] == [0, 1]
    assert {span.start for span in named(spans, "queued")} == {5}


def test_the_run_of_a_step_is_below_it() -> None:
    """It was told that parent when it was started."""
    spans = folded(
        e.RunStarted(0, "d", b"{}", None),
        e.StepsReadied(1, ((C, C + 1),)),
        e.ChildStarted(2, C, WHOLE, 1, bytes(16)),
        e.ChildEnded(8, C, WHOLE, bytes(16), RunState.COMPLETED),
        e.StepCompleted(8, C, WHOLE, 0),
    )
    (step,) = spans
    assert step.span_id == span_id(RUN, Kind.STEP_RUN, C, WHOLE, 1)
    assert (step.start, step.end) == (1, 8)


def test_a_new_generation_hangs_below_the_first_and_is_linked_to_the_one_before() -> None:
    reopened = e.RunReopened(300, 2, Reopening.RETRY, "d", None, ((A, A + 1),), (), (), (), "bob", "again")
    spans = folded(
        *started(),
        leased(30, A, WHOLE, 1),
        e.AttemptFailed(40, A, WHOLE, 3, Outcome.FAILED, BOOM),
        e.StepFailed(40, A, WHOLE, BOOM),
        e.RunEnded(50, RunState.FAILED, "a failed"),
        reopened,
        e.StepsReadied(310, ((A, A + 1),)),
        leased(320, A, WHOLE, 2),
        e.StepCompleted(330, A, WHOLE, 9),
        e.RunEnded(340, RunState.COMPLETED, ""),
    )
    first, second = named(spans, "run p")
    assert (first.error, first.parent) == ("a failed", CALLER)
    assert (second.start, second.end, second.parent) == (300, 340, first.span_id)
    assert [link.span_id for link in second.links] == [first.span_id]
    failed, mended = named(spans, "step a")
    assert failed.span_id != mended.span_id
    assert mended.parent == second.span_id
    assert failed.error == "UserError: boom"


def test_what_was_stopped_is_closed_and_what_never_began_has_no_span() -> None:
    spans = folded(
        e.RunStarted(0, "d", b"{}", None),
        e.StepsReadied(1, ((A, A + 1),)),
        leased(2, A, WHOLE, 1),
        e.RunCancelling(3, RunState.CANCELLED, "enough", False, 100, "bob"),
        e.StepsSettled(3, StepState.CANCELLED, ((M, C + 1),)),
        e.StepCancelled(5, A, WHOLE),
        e.RunEnded(5, RunState.CANCELLED, "enough"),
    )
    assert {span.name for span in spans} == {"queued", "attempt", "leased", "step a", "run p"}
    (run,) = named(spans, "run p")
    assert (run.error, [moment.name for moment in run.moments]) == ("", ["cancelling"])


def test_who_goes_on_with_a_run_is_told_in_its_span() -> None:
    fold = RunSpans(TracedRun(RUN, "run-name", "p", 3, b""), PLAN)
    fold.taken_over(20, "c2", 7)
    fold.taken_over(99, "c3", 8)
    for seq, event in enumerate((*started(), e.RunEnded(50, RunState.COMPLETED, "")), 1):
        spans = fold.add(seq, event)
    assert [(moment.name, moment.at) for moment in spans[-1].moments] == [("taken over", 20)]
    assert fold.ended

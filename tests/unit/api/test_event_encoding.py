"""What watchers see of each event."""

from __future__ import annotations

from typing import Any, get_args

import pytest
from google.protobuf import json_format

from penstock.v1.pipeline_pb2 import PipelineSpec
from penstock_coordinator.api.encoding.events import EventEncoder
from penstock_coordinator.api.log_reader import settles
from penstock_coordinator.core.plan.compile import compile_plan
from penstock_coordinator.core.run import events as e
from penstock_coordinator.core.run.states import RunState, StepState

AT = 1_700_000_000_123_456
WHOLE = e.WHOLE
STEPS = ["a", "b", "c", "m"]
NESTED = {"name": "n", "command": {"argv": ["true"]}, "map": {"step": {"step": "m"}, "nested": {"path": ["rows"]}}}
SPEC = {
    "name": "p",
    "steps": [
        *({"name": name, "command": {"argv": ["true"]}} for name in STEPS[:-1]),
        {"name": "m", "command": {"argv": ["true"]}, "map": {"values": [0, 1, 2, 3, 4, 5]}},
        NESTED,
    ],
}
PLAN = compile_plan(json_format.ParseDict(SPEC, PipelineSpec()), "d" * 64)
FAILURE = e.Failure("UserError", "boom", "builtins.ValueError")
WIRE_FAILURE = {"reason": "UserError", "message": "boom", "errorClass": "builtins.ValueError"}

TABLE: list[tuple[e.Event, dict[str, Any]]] = [
    (e.RunStarted(AT, "d", b"{}", None), {"runState": "RUN_STATE_PENDING"}),
    (e.ArtifactsMade(AT, 0, WHOLE, 7, (e.MadeArtifact("a", "sha256:" + "0" * 64, 1),)), {}),
    (e.AttemptTimed(AT, 0, WHOLE, 7, 1, 2, 3, 4), {}),
    (
        e.StepsReadied(AT, ((0, 2), (3, 4))),
        {"steps": [{"step": name, "state": "STEP_RUN_STATE_READY"} for name in ("a", "b", "m")]},
    ),
    (
        e.StepsSettled(AT, StepState.UPSTREAM_FAILED, ((1, 3),)),
        {"steps": [{"step": name, "state": "STEP_RUN_STATE_UPSTREAM_FAILED"} for name in ("b", "c")]},
    ),
    (
        e.MapExpanded(AT, 3, 5),
        {
            "steps": [
                {"step": "m", "state": "STEP_RUN_STATE_RUNNING", "expandedCount": "5"},
                {"step": "m", "item": ["0"], "itemCount": "5", "state": "STEP_RUN_STATE_READY"},
            ]
        },
    ),
    (
        e.MapExpanded(AT, 3, 5, ready=False),
        {
            "steps": [
                {"step": "m", "state": "STEP_RUN_STATE_RUNNING", "expandedCount": "5"},
                {"step": "m", "item": ["0"], "itemCount": "5", "state": "STEP_RUN_STATE_PENDING"},
            ]
        },
    ),
    (e.MapExpanded(AT, 3, 0), {"steps": [{"step": "m", "state": "STEP_RUN_STATE_RUNNING", "expandedCount": "0"}]}),
    (
        e.ItemsAdded(AT, 4, 1, 2, StepState.READY),
        {"steps": [{"step": "n", "item": ["1", "0"], "itemCount": "2", "state": "STEP_RUN_STATE_READY"}]},
    ),
    (e.ItemsAdded(AT, 4, 1, 0, StepState.SKIPPED), {}),
    (e.ItemsAdded(AT, 4, 1, 0, StepState.FAILED, FAILURE), {"steps": [{"step": "n", "failure": WIRE_FAILURE}]}),
    (
        e.ItemsSettled(AT, 3, StepState.SKIPPED, ((0, 1), (2, 5))),
        {
            "steps": [
                {"step": "m", "item": ["0"], "itemCount": "1", "state": "STEP_RUN_STATE_SKIPPED"},
                {"step": "m", "item": ["2"], "itemCount": "3", "state": "STEP_RUN_STATE_SKIPPED"},
            ]
        },
    ),
    (
        e.ItemsReadied(AT, 3, ((1, 2),)),
        {"steps": [{"step": "m", "item": ["1"], "itemCount": "1", "state": "STEP_RUN_STATE_READY"}]},
    ),
    (
        e.StepsLeased(AT, 9, "agent-1", ((0, WHOLE, 1), (3, 4, 2))),
        {
            "runState": "RUN_STATE_RUNNING",
            "steps": [
                {"step": "a", "state": "STEP_RUN_STATE_RUNNING", "attempt": 1, "agentId": "agent-1"},
                {"step": "m", "item": ["4"], "state": "STEP_RUN_STATE_RUNNING", "attempt": 2, "agentId": "agent-1"},
            ],
        },
    ),
    (e.StepCompleted(AT, 0, WHOLE, 7), {"steps": [{"step": "a", "state": "STEP_RUN_STATE_COMPLETED"}]}),
    (
        e.AttemptFailed(AT, 3, 2, 7, e.Outcome.FAILED, FAILURE),
        {"steps": [{"step": "m", "item": ["2"], "failure": WIRE_FAILURE}]},
    ),
    (
        e.StepFailed(AT, 0, WHOLE, FAILURE),
        {"steps": [{"step": "a", "state": "STEP_RUN_STATE_FAILED", "failure": WIRE_FAILURE}]},
    ),
    (
        e.StepWaiting(AT, 0, WHOLE, e.WaitReason.BACKOFF, AT + 1),
        {
            "steps": [
                {"step": "a", "state": "STEP_RUN_STATE_WAITING", "waitUntil": "2023-11-14T22:13:20.123457Z"},
            ]
        },
    ),
    (
        e.StepWaiting(AT, 0, WHOLE, e.WaitReason.BACKOFF, None),
        {"steps": [{"step": "a", "state": "STEP_RUN_STATE_WAITING"}]},
    ),
    (e.StepWoken(AT, 0, WHOLE), {"steps": [{"step": "a", "state": "STEP_RUN_STATE_READY"}]}),
    (e.LeaseLost(AT, 0, WHOLE, 7, "rejected", e.Charge.NOBODY), {"steps": [{"step": "a", "reason": "rejected"}]}),
    (
        e.LeaseLost(AT, 0, WHOLE, 7, "lease_expired", e.Charge.INFRASTRUCTURE),
        {
            "steps": [
                {
                    "step": "a",
                    "failure": {
                        "reason": "AgentLost",
                        "message": "the agent was not heard of for longer than its lease",
                    },
                }
            ]
        },
    ),
    (e.MemoryRaised(AT, 3, 1, 2_000, 4_000), {"steps": [{"step": "m", "item": ["1"]}]}),
    (e.StepReturned(AT, 3, 1), {"steps": [{"step": "m", "item": ["1"], "state": "STEP_RUN_STATE_READY"}]}),
    (e.StepCancelled(AT, 0, WHOLE), {"steps": [{"step": "a", "state": "STEP_RUN_STATE_CANCELLED"}]}),
    (e.MapSettled(AT, 3, StepState.COMPLETED), {"steps": [{"step": "m", "state": "STEP_RUN_STATE_COMPLETED"}]}),
    (
        e.RunCancelling(AT, RunState.CANCELLED, "because", False, AT),
        {"runState": "RUN_STATE_CANCELLING", "runReason": "because"},
    ),
    (
        e.RunPaused(AT, "ann", "dinner"),
        {"runState": "RUN_STATE_PAUSED", "runReason": "dinner", "requestedBy": "ann"},
    ),
    (
        e.RunReopened(
            AT, 2, e.Reopening.RETRY, PLAN.digest, None, ((0, 1),), ((3, ((0, 1),)),), (), (), "ann", "again"
        ),
        {
            "generation": 2,
            "requestedBy": "ann",
            "steps": [
                {"step": "a", "state": "STEP_RUN_STATE_PENDING"},
                {"step": "m", "state": "STEP_RUN_STATE_RUNNING"},
                {"step": "m", "item": ["0"], "itemCount": "1", "state": "STEP_RUN_STATE_PENDING"},
            ],
        },
    ),
    (e.RunResumed(AT, "bob"), {"runState": "RUN_STATE_PENDING", "requestedBy": "bob"}),
    (
        e.RunHeld(AT, "pipeline:p", 3),
        {
            "runState": "RUN_STATE_PENDING",
            "runReason": 'waits for a place under the key "pipeline:p", whose limit is 3',
        },
    ),
    (e.RunAdmitted(AT, None), {}),
    (
        e.ChildStarted(AT, 0, WHOLE, 2, bytes(16)),
        {
            "runState": "RUN_STATE_RUNNING",
            "steps": [
                {
                    "step": "a",
                    "state": "STEP_RUN_STATE_WAITING",
                    "attempt": 2,
                    "childRunId": "00000000-0000-0000-0000-000000000000",
                }
            ],
        },
    ),
    (
        e.ChildEnded(AT, 0, WHOLE, bytes(16), RunState.FAILED, FAILURE),
        {"steps": [{"step": "a", "failure": WIRE_FAILURE, "childRunId": "00000000-0000-0000-0000-000000000000"}]},
    ),
    (
        e.StepDisplaced(AT, 3, 2, "k", "r"),
        {
            "steps": [
                {
                    "step": "m",
                    "item": ["2"],
                    "failure": {
                        "reason": "Displaced",
                        "message": 'no place under the key "k" is left for it: the run r has it',
                    },
                }
            ]
        },
    ),
    (
        e.RunRollingBack(AT, "b failed", "ann", ((1, 2),), ((3, ((0, 2),)),)),
        {
            "runState": "RUN_STATE_ROLLING_BACK",
            "runReason": "b failed",
            "requestedBy": "ann",
            "steps": [
                {"step": "b", "state": "STEP_RUN_STATE_PENDING"},
                {"step": "m", "state": "STEP_RUN_STATE_RUNNING"},
                {"step": "m", "item": ["0"], "itemCount": "2", "state": "STEP_RUN_STATE_PENDING"},
            ],
        },
    ),
    (e.StepsRolledBack(AT, ((0, 1),)), {"steps": [{"step": "a", "state": "STEP_RUN_STATE_ROLLED_BACK"}]}),
    (
        e.ItemsRolledBack(AT, 3, ((1, 3),)),
        {"steps": [{"step": "m", "item": ["1"], "itemCount": "2", "state": "STEP_RUN_STATE_ROLLED_BACK"}]},
    ),
    (
        e.CacheAsked(AT, ((0, WHOLE), (3, 1))),
        {
            "runState": "RUN_STATE_RUNNING",
            "steps": [
                {"step": "a", "state": "STEP_RUN_STATE_WAITING"},
                {"step": "m", "item": ["1"], "state": "STEP_RUN_STATE_WAITING"},
            ],
        },
    ),
    (
        e.CacheAwaited(AT, 0, WHOLE, bytes(16), "load"),
        {"steps": [{"step": "a", "state": "STEP_RUN_STATE_WAITING"}]},
    ),
    (
        e.CacheMissed(AT, 0, WHOLE, bytes(32), True),
        {"steps": [{"step": "a", "state": "STEP_RUN_STATE_READY"}]},
    ),
    (
        e.StepCached(AT, 3, 0, e.CacheSource(bytes(16), "load[2]", 3, AT, b"\xab" * 32)),
        {
            "steps": [
                {
                    "step": "m",
                    "item": ["0"],
                    "state": "STEP_RUN_STATE_COMPLETED",
                    "cacheSource": {
                        "runId": "00000000-0000-0000-0000-000000000000",
                        "displayName": "load[2]",
                        "attempt": 3,
                        "time": "2023-11-14T22:13:20.123456Z",
                        "key": "ab" * 32,
                    },
                }
            ]
        },
    ),
    (e.CostBudgetCharged(AT, 0, WHOLE, 7, 1, 2, 3), {}),
    (e.CostBudgetExceeded(AT, 2, 12_500_000, 10_000_000, 1), {"runReason": "budget: 12.5 of 10 CPU-seconds are used"}),
    (e.CostBudgetRaised(AT, 1, 2, 3, "ann", "more"), {"requestedBy": "ann"}),
    (e.RunEnded(AT, RunState.FAILED, "a failed"), {"runState": "RUN_STATE_FAILED", "runReason": "a failed"}),
]


@pytest.mark.parametrize(("event", "expected"), TABLE, ids=lambda value: type(value).__name__)
def test_an_event_is_encoded(event: e.Event, expected: dict[str, Any]) -> None:
    encoded = json_format.MessageToDict(EventEncoder(PLAN).encode(12, event))
    frame = {"number": "12", "time": "2023-11-14T22:13:20.123456Z", "type": type(event).__name__}
    assert encoded == {**frame, **expected}


def test_every_event_is_in_the_table() -> None:
    assert {type(event) for event, _ in TABLE} == set(get_args(e.Event))


def _encoded(*events: e.Event) -> list[dict[str, Any]]:
    encoder = EventEncoder(PLAN)
    return [json_format.MessageToDict(encoder.encode(number, event)) for number, event in enumerate(events, 1)]


def test_a_failure_is_said_again_with_what_follows() -> None:
    failed = e.AttemptFailed(AT, 0, WHOLE, 7, e.Outcome.FAILED, FAILURE)
    waiting = e.StepWaiting(AT, 0, WHOLE, e.WaitReason.BACKOFF, None)
    _, then, woken = _encoded(failed, waiting, e.StepWoken(AT, 0, WHOLE))
    assert then["steps"][0]["failure"] == WIRE_FAILURE
    assert "failure" not in woken["steps"][0]


def test_why_a_lease_came_back_is_said_again_with_what_follows() -> None:
    lost = e.LeaseLost(AT, 0, WHOLE, 7, "called_back", e.Charge.NOBODY)
    why = "the coordinator called the attempt back before it began, so that another agent may take it"
    came, ready, again = _encoded(lost, e.StepReturned(AT, 0, WHOLE), e.StepReturned(AT, 0, WHOLE))
    assert came["steps"][0]["reason"] == ready["steps"][0]["reason"] == why
    assert "reason" not in again["steps"][0]
    _, cancelled, after = _encoded(lost, e.StepCancelled(AT, 0, WHOLE), e.StepReturned(AT, 0, WHOLE))
    assert "reason" not in cancelled["steps"][0]
    assert "reason" not in after["steps"][0]


LEASED = e.StepsLeased(AT, 9, "agent-1", ((0, WHOLE, 1),))
CANCELLING = e.RunCancelling(AT, RunState.CANCELLED, "", False, AT)


def test_a_run_begins_to_run_once() -> None:
    first, second = _encoded(LEASED, LEASED)
    assert first["runState"] == "RUN_STATE_RUNNING"
    assert "runState" not in second


def test_a_run_that_was_cancelled_before_its_first_lease_does_not_begin_to_run() -> None:
    _, cleanup = _encoded(CANCELLING, LEASED)
    assert "runState" not in cleanup


def test_what_was_skipped_counts() -> None:
    encoder = EventEncoder(PLAN)
    encoder.skip(LEASED)
    assert not encoder.pending
    assert encoder.encode(2, LEASED).run_state == 0


SETTLING = {
    e.StepCompleted(AT, 0, WHOLE, 7): (0, WHOLE),
    e.StepFailed(AT, 3, 2, FAILURE): (3, 2),
    e.StepCancelled(AT, 3, 2): (3, 2),
    e.MapSettled(AT, 3, StepState.FAILED): (3, WHOLE),
    e.StepsSettled(AT, StepState.SKIPPED, ((0, 2),)): (1, WHOLE),
    e.ItemsSettled(AT, 3, StepState.SKIPPED, ((0, 2),)): (3, 1),
}


@pytest.mark.parametrize("event", SETTLING, ids=lambda event: type(event).__name__)
def test_followers_know_the_end_of_their_step_run(event: e.Event) -> None:
    mine = SETTLING[event]
    assert settles(event, *mine)
    for other in {(0, WHOLE), (1, WHOLE), (2, WHOLE), (3, WHOLE), (3, 1), (3, 2), (3, 7)} - set(SETTLING.values()):
        assert not settles(event, *other)
    assert not settles(event, 2, WHOLE)


def test_the_end_of_a_run_is_the_end_of_all() -> None:
    assert settles(e.RunEnded(AT, RunState.FAILED, ""), 2, WHOLE)
    assert not any(settles(event, 0, WHOLE) for event in (LEASED, CANCELLING, e.StepWoken(AT, 0, WHOLE)))

"""Runs, step runs, attempts and agents as messages."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from google.protobuf import json_format
from google.protobuf.struct_pb2 import Value
from hypothesis import given
from hypothesis import strategies as st

from penstock.v1 import agent_admin_service_pb2 as admin
from penstock.v1 import run_pb2
from penstock.v1.pipeline_pb2 import PipelineSpec
from penstock_coordinator.api.encoding import agents, runs
from penstock_coordinator.api.encoding.values import wire_value
from penstock_coordinator.core.plan.compile import compile_plan
from penstock_coordinator.core.plan.constants import plain
from penstock_coordinator.core.run.events import Outcome
from penstock_coordinator.core.run.messages import AttemptReport
from penstock_coordinator.core.run.state import Run, StepCounts
from penstock_coordinator.core.run.states import RunState, StepState
from penstock_coordinator.ports import AgentRow, Origin, RunRow
from penstock_coordinator.runtime.views import AgentView, AttemptView, FailureView, RunView, StepRunView

RUN_ID = bytes(range(16))
TEXT_ID = "00010203-0405-0607-0809-0a0b0c0d0e0f"
AT = 1_700_000_000_000_001
PLAN = compile_plan(
    json_format.ParseDict(
        {"name": "p", "steps": [{"name": name, "command": {"argv": ["true"]}} for name in ("a", "m")]}, PipelineSpec()
    ),
    "d" * 64,
)
COUNTS = StepCounts(1, 2, 3, 4, 5, 6, 7, 8, 9, 10)
FAILURE = FailureView("UserError", "boom", "m.E", ("builtins.Exception",), "Traceback")


def row(**changes: Any) -> RunRow:
    fields: dict[str, Any] = {
        "run_id": RUN_ID,
        "pipeline": "p",
        "version_number": 3,
        "version_digest": "d" * 64,
        "parameters": b'{"n":3,"deep":[null,{"a":true}],"text":"\xc3\xa9"}',
        "labels": (("k", "v"),),
        "trace_context": (),
        "owner": "c1",
        "state": int(RunState.RUNNING),
        "reason": "because",
        "create_time": AT,
        "start_time": AT + 1,
        "end_time": None,
        "summary": None,
        "last_seq": 12,
        "origin": Origin(priority=-5, weight=2.5),
    }
    return RunRow(**{**fields, **changes})


def test_the_states_are_those_of_the_wire() -> None:
    for ours, theirs, prefix in (
        (RunState, run_pb2.RunState, "RUN_STATE_"),
        (StepState, run_pb2.StepRunState, "STEP_RUN_STATE_"),
    ):
        assert {f"{prefix}{state.name}": int(state) for state in ours} == {
            name: number for name, number in theirs.items() if number
        }
    outcomes = {f"ATTEMPT_OUTCOME_{outcome.name}": int(outcome) for outcome in Outcome}
    assert outcomes.items() <= dict(run_pb2.AttemptOutcome.items()).items()
    assert {f"{name}" for name in run_pb2.StepCounts.DESCRIPTOR.fields_by_name} == set(StepCounts._fields)


def test_a_run_is_encoded_whole() -> None:
    message = runs.run(RunView(row(), PLAN, COUNTS, 1))
    assert json_format.MessageToDict(message) == {
        "id": TEXT_ID,
        "pipeline": "p",
        "versionNumber": "3",
        "versionDigest": "d" * 64,
        "state": "RUN_STATE_RUNNING",
        "reason": "because",
        "parameters": {"n": 3, "deep": [None, {"a": True}], "text": "é"},
        "labels": {"k": "v"},
        "createTime": "2023-11-14T22:13:20.000001Z",
        "startTime": "2023-11-14T22:13:20.000002Z",
        "stepCounts": {name: str(number) for name, number in zip(_camel(StepCounts._fields), COUNTS, strict=True)},
        "lastEvent": "12",
        "generation": 1,
        "cacheMode": "CACHE_MODE_USE",
        "traceId": "71d841006e41e1db8956f5227cab5294",
        "priority": -5,
        "weight": 2.5,
    }


def _camel(names: tuple[str, ...]) -> list[str]:
    parts = [name.split("_") for name in names]
    return [first + "".join(part.title() for part in rest) for first, *rest in parts]


def test_a_listed_run_has_no_parameters_and_counts_only_at_rest() -> None:
    live = runs.listed_run(row())
    assert not live.parameters
    assert not live.HasField("step_counts")
    packed = Run(PLAN).pack()
    ended = runs.listed_run(row(state=int(RunState.COMPLETED), summary=packed))
    assert ended.step_counts.pending == 2


STEP_RUN = StepRunView(
    step=1,
    item=4,
    place=(4,),
    state=int(StepState.WAITING),
    attempts=2,
    output=b'{"big": 12345678901234567890}',
    failure=FAILURE,
    ready_time=AT,
    start_time=AT,
    end_time=AT,
    agent="agent-1",
    wait_reason="backoff",
    wait_until=AT,
    item_counts=COUNTS,
)


def test_a_step_run_is_encoded_whole() -> None:
    message = runs.step_run(RUN_ID, PLAN, STEP_RUN)
    assert (message.run_id, message.step, list(message.item), message.display_name) == (TEXT_ID, "m", [4], "m[4]")
    assert message.state == run_pb2.STEP_RUN_STATE_WAITING
    assert message.output_json == '{"big": 12345678901234567890}'
    assert message.failure.traceback == "Traceback"
    assert list(message.failure.error_bases) == ["builtins.Exception"]
    assert message.wait_reason == "backoff"
    assert message.item_counts.ready == 2
    for name in ("ready_time", "start_time", "end_time", "wait_until"):
        assert getattr(message, name).ToMicroseconds() == AT


def test_a_step_run_that_has_not_begun_has_no_times() -> None:
    message = runs.step_run(RUN_ID, PLAN, StepRunView(0, -1, int(StepState.PENDING)))
    assert (message.display_name, list(message.item), message.output_json) == ("a", [], "")
    for name in ("ready_time", "start_time", "end_time", "wait_until", "failure", "item_counts"):
        assert not message.HasField(name)


@pytest.mark.parametrize(("size", "left_out"), [(4_096, False), (4_097, True)])
def test_lists_leave_large_outputs_out(size: int, left_out: bool) -> None:
    output = json.dumps("x" * (size - 2)).encode()
    view = StepRunView(0, -1, int(StepState.COMPLETED), output=output)
    assert (runs.step_run(RUN_ID, PLAN, view, listed=True).output_json == "") is left_out
    assert runs.step_run(RUN_ID, PLAN, view).output_json.encode() == output


def test_an_attempt_is_encoded_whole() -> None:
    report = AttemptReport(1_500_000, 250_000, 1 << 30, 0, (("rows", 2.5),), (("k", "v"),))
    view = AttemptView(2, "agent-1", int(Outcome.LOST), FAILURE, AT, AT + 2_000_000, report)
    message = runs.attempt(view)
    assert (message.number, message.agent_id, message.outcome) == (2, "agent-1", run_pb2.ATTEMPT_OUTCOME_LOST)
    assert message.run_duration.ToMilliseconds() == 1_500
    assert message.cpu_duration.ToMilliseconds() == 250
    assert message.HasField("exit_code")
    assert dict(message.metrics) == {"rows": 2.5}
    step = run_pb2.StepRun()
    runs.describe_newest(step, [view])
    assert dict(step.metadata) == {"k": "v"}
    without = runs.attempt(AttemptView(1, "", 1, None, AT, AT, AttemptReport()))
    assert not without.HasField("exit_code")
    assert not without.HasField("failure")


AGENT = AgentRow(
    agent_id="agent-1",
    session_epoch=7,
    boot_id="b",
    version="0.1",
    hostname="h",
    queues=("default", "gpu"),
    labels=(("k", "v"),),
    resources=(("cpu", 4.0), ("memory_bytes", 8e9), ("licences", 2.0)),
    slots=4,
    connect_time=AT,
    goodbye=False,
)


def test_a_connected_agent_is_encoded_whole() -> None:
    message = agents.connected(AgentView(AGENT, int(admin.AGENT_STATE_DRAINING), 3, 1_500_000))
    assert message.state == admin.AGENT_STATE_DRAINING
    assert (message.leases, message.slots, message.session_epoch) == (3, 4, 7)
    assert (message.resources.cpu, message.resources.memory_bytes) == (4.0, 8_000_000_000)
    assert dict(message.resources.custom) == {"licences": 2.0}
    assert message.heartbeat_age.ToMilliseconds() == 1_500
    assert list(message.queues) == ["default", "gpu"]


@pytest.mark.parametrize("amount", [float("nan"), float("inf"), -1.0, 1e300])
def test_an_agent_may_say_strange_numbers(amount: float) -> None:
    message = agents.away(replace(AGENT, resources=(("memory_bytes", amount),)))
    assert message.resources.memory_bytes >= 0


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(json_values)
def test_json_goes_to_the_wire_and_back(value: Any) -> None:
    wire = Value.FromString(wire_value(value).SerializeToString())
    assert plain(wire) == value

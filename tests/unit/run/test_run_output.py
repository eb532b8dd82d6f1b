"""What a run that is COMPLETED gives (docs/sub-pipelines.md)."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.unit.plan.specs import spec_of
from tests.unit.run.driver import Driver

from penstock_coordinator.core.plan.compile import compile_plan
from penstock_coordinator.core.run.events import Outcome
from penstock_coordinator.core.run.messages import AttemptEnded, SlotsOffered
from penstock_coordinator.core.run.output import output_fault, run_output
from penstock_coordinator.core.run.states import RunState


def driver(said: dict[str, Any], **step: Any) -> Driver:
    """A run of one step."""
    command = {"command": {"argv": ["true"]}} if "function" not in step else {}
    spec = spec_of({"name": "p", "steps": [{"name": "a", **command, **step}], **said})
    made = Driver(compile_plan(spec, "d"))
    made.start()
    return made


def end(made: Driver, *outputs: bytes | None) -> None:
    """What each attempt gives, in the order of the items; None: it fails."""
    for line in made.run.demanded_lines():
        made.send(SlotsOffered(0, line, 1, "agent", 9))
    for (step, item, token), output in zip(made.tokens(), outputs, strict=True):
        outcome = Outcome.FAILED if output is None else None
        made.send(AttemptEnded(0, step, item, token, b"", 1, outcome, output or b""))


FUNCTION = {"function": {"module": "flow", "qualname": "load"}}
WHOLE = {"output": {"step": "a"}}
MEMBER = {"output": {"step": "a", "path": ["rows", "0"]}}
BOTH = {"outputs": {"all": {"step": "a"}, "first": {"step": "a", "path": ["rows", "0"]}}}
GIVEN: list[tuple[dict[str, Any], bytes, Any]] = [
    (WHOLE, b'{"rows": [7, 8]}', {"rows": [7, 8]}),
    (WHOLE, b"", None),
    (MEMBER, b'{"rows": [7, 8]}', 7),
    (MEMBER, b'{"rows": []}', None),
    (MEMBER, b"3", None),
    (BOTH, b'{"rows": [7]}', {"all": {"rows": [7]}, "first": 7}),
    (BOTH, b"[1]", {"all": [1], "first": None}),
]


@pytest.mark.parametrize(("said", "output", "expected"), GIVEN)
def test_what_a_run_gives(said: dict[str, Any], output: bytes, expected: Any) -> None:
    made = driver(said, **FUNCTION)
    end(made, output)
    assert made.run.state is RunState.COMPLETED
    given = run_output(made.run)
    assert given is not None
    assert json.loads(given) == expected
    assert run_output(made.folded) == given


def test_a_pipeline_that_says_nothing_gives_nothing() -> None:
    made = driver({}, **FUNCTION)
    end(made, b"3")
    assert run_output(made.run) is None
    assert output_fault(run_output(made.run), 0) == ""


def test_a_step_that_did_not_complete_gives_null() -> None:
    made = driver(WHOLE, **FUNCTION, allowFailure=True)
    end(made, None)
    assert made.run.state is RunState.COMPLETED
    assert run_output(made.run) == b"null"


def test_a_mapped_step_gives_the_list_of_its_items() -> None:
    made = driver(WHOLE, **FUNCTION, map={"values": [1, 2, 3]}, allowFailure=True)
    end(made, b'"x"', None, b"5")
    assert json.loads(run_output(made.run) or b"") == ["x", None, 5]


def test_the_fault_names_size_limit_and_remedy() -> None:
    made = driver(WHOLE, **FUNCTION)
    end(made, b'"123456"')
    assert output_fault(run_output(made.run), 8) == ""
    fault = output_fault(run_output(made.run), 7)
    assert fault.startswith("OutputTooLarge: the output of the run has 8 bytes, past the limit of 7:")
    assert "PENSTOCK_MAX_RUN_OUTPUT_SIZE" in fault

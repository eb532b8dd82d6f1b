"""What a run that is COMPLETED gives (docs/sub-pipelines.md)."""

from __future__ import annotations

import json
import tracemalloc
from typing import Any

import pytest
from tests.unit.plan.specs import spec_of
from tests.unit.run.driver import Driver

from penstock_coordinator.core.plan.compile import compile_plan
from penstock_coordinator.core.run.events import Outcome
from penstock_coordinator.core.run.messages import AttemptEnded, SlotsOffered
from penstock_coordinator.core.run.output import OutputTooLarge, run_output
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
        made.send(SlotsOffered(0, line, 1, "agent", len(outputs)))
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


@pytest.mark.parametrize(
    "output", [b"41", b"-7", b"0", b" 5", b"-0", b"1e3", b'"a b"', b'"\\u00e9"', '"é"'.encode(), b"true"]
)
def test_a_value_that_is_given_whole_is_written_in_one_way(output: bytes) -> None:
    made = driver(WHOLE, **FUNCTION)
    end(made, output)
    assert run_output(made.run) == json.dumps(json.loads(output), separators=(",", ":")).encode()


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
    assert run_output(made.run, 0) is None


def test_a_step_that_did_not_complete_gives_null() -> None:
    made = driver(WHOLE, **FUNCTION, allowFailure=True)
    end(made, None)
    assert made.run.state is RunState.COMPLETED
    assert run_output(made.run) == b"null"


def test_a_mapped_step_gives_the_list_of_its_items() -> None:
    made = driver(WHOLE, **FUNCTION, map={"values": [1, 2, 3]}, allowFailure=True)
    end(made, b'"x"', None, b"5")
    assert json.loads(run_output(made.run) or b"") == ["x", None, 5]


def test_parts_of_a_mapped_step() -> None:
    paths = {"second": ["1", "x"], "none": ["7"], "failed": ["2", "x"], "no_position": ["x"]}
    said = {"outputs": {name: {"step": "a", "path": path} for name, path in paths.items()}}
    made = driver(said, **FUNCTION, map={"values": [1, 2, 3]}, allowFailure=True)
    end(made, b'{"x": 1}', b'{"x": 2}', None)
    given = run_output(made.run)
    assert json.loads(given or b"") == {"second": 2, "none": None, "failed": None, "no_position": None}
    assert run_output(made.folded) == given


@pytest.mark.parametrize(("said", "size"), [(WHOLE, 8), ({"outputs": {"x": {"step": "a"}, "y": {"step": "a"}}}, 27)])
def test_the_fault_names_limit_and_remedy(said: dict[str, Any], size: int) -> None:
    made = driver(said, **FUNCTION)
    end(made, b'"123456"')
    assert len(run_output(made.run, size) or b"") == size
    with pytest.raises(OutputTooLarge, match=f"^OutputTooLarge: .* more than {size - 1} bytes.*MAX_RUN_OUTPUT_SIZE"):
        run_output(made.run, size - 1)


def test_what_is_too_large_is_not_made() -> None:
    """10 MB would be, of a map whose items gave the same object."""
    made = driver(WHOLE, **FUNCTION, map={"values": list(range(100))})
    end(made, *[b'"%s"' % (b"x" * 100_000)] * 100)
    assert made.run.state is RunState.FAILED
    assert made.run.reason.startswith("OutputTooLarge")
    tracemalloc.start()
    with pytest.raises(OutputTooLarge):
        run_output(made.run, 1 << 20)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 4 << 20

"""What steps run in: what is refused, what becomes part of a line, and what of it counts."""

from __future__ import annotations

from typing import Any

import pytest
from google.protobuf import json_format

from penstock.v1.pipeline_pb2 import PipelineSpec
from penstock_coordinator.core.plan.cache_keys import cache_key
from penstock_coordinator.core.plan.compile import compile_onto, compile_plan
from penstock_coordinator.core.plan.keeping import same_work
from penstock_coordinator.core.plan.model import Plan, PythonEnvironment
from penstock_coordinator.core.plan.validate import problems

LOCK = f"a==1 --hash=sha256:{'0' * 64}"


def python(*requirements: str, **fields: Any) -> dict[str, Any]:
    return {"environment": {"python": {"requirements": list(requirements), **fields}}}


def spec(*steps: dict[str, Any], **fields: Any) -> PipelineSpec:
    made = [{"name": f"s{number}", "command": {"argv": ["go"]}, **step} for number, step in enumerate(steps)]
    return json_format.ParseDict({"name": "p", "steps": made, **fields}, PipelineSpec())


def compiled(*steps: dict[str, Any], **fields: Any) -> Plan:
    made = spec(*steps, **fields)
    assert problems(made) == []
    return compile_plan(made, "d" * 64)


def environments(plan: Plan) -> list[str]:
    return [plan.lines[step.line].environment for step in plan.steps]


@pytest.mark.parametrize(
    ("step", "field", "says"),
    [
        (python("./here"), "steps[0].environment.python.requirements[0]", "is a path"),
        (python("a", "b c"), "steps[0].environment.python.requirements[1]", "says no version"),
        (python("a", lock=LOCK), "steps[0].environment.python", "give one"),
        (python(*["a"] * 501), "steps[0].environment.python.requirements", "past the limit of 500"),
        (python(python="new"), "steps[0].environment.python.python", "no version of Python"),
        (python(lock=LOCK), "steps[0].environment.python.lock_format", "the format of the lock file is not said"),
        (
            python("a", lockFormat="LOCK_FORMAT_PYLOCK"),
            "steps[0].environment.python.lock_format",
            "there is no lock file",
        ),
        (
            python(lock="a==1", lockFormat="LOCK_FORMAT_REQUIREMENTS"),
            "steps[0].environment.python.lock",
            "has no --hash",
        ),
        (python(lock="a", lockFormat="LOCK_FORMAT_PYLOCK"), "steps[0].environment.python.lock", "is no TOML"),
        (
            python(lock="a" * ((1 << 20) + 1), lockFormat="LOCK_FORMAT_REQUIREMENTS"),
            "steps[0].environment.python.lock",
            "past the limit of 1,048,576",
        ),
        ({**python("a"), "command": None, "pipeline": {"name": "q"}}, "steps[0].environment", "which no agent takes"),
    ],
)
def test_refused(step: dict[str, Any], field: str, says: str) -> None:
    found = problems(spec(step))
    assert [(problem.field, says in problem.description) for problem in found] == [(field, True)], found


def test_the_default_is_checked_too() -> None:
    found = problems(spec({}, defaults=python("-e .")))
    assert [problem.field for problem in found] == ["defaults.environment.python.requirements[0]"]


def test_environments_that_are_written_alike_are_checked_once() -> None:
    assert len(problems(spec(*[python("/a")] * 20))) == 1


def test_different_environments_are_bounded() -> None:
    steps = [python(f"a=={number}") for number in range(257)]
    assert problems(spec(*steps[1:])) == []
    assert [problem.field for problem in problems(spec(*steps))] == ["steps"]


def test_a_step_waits_for_agents_that_make_its_environment() -> None:
    plan = compiled({}, python("B", "a>=1"), python("a >= 1", "b"), {"environment": {}}, defaults=python("a"))
    default, first, second, own = environments(plan)
    assert first == second != default
    assert own == ""
    assert plan.environments == {
        default: PythonEnvironment(("a",)),
        first: PythonEnvironment(("a>=1", "b")),
    }
    assert len(plan.lines) == 3


def test_a_run_of_a_pipeline_takes_nothing_of_the_default() -> None:
    plan = compiled({"command": None, "pipeline": {"name": "q"}}, defaults=python("a"))
    assert (plan.lines, plan.environments) == ((), {})


def test_another_environment_is_other_work() -> None:
    former = compiled(python("a==1"), python("b"))
    plan = compile_onto(former, spec(python("a==2"), python("b")), "e" * 64)
    assert not same_work(former, plan, 0)
    assert same_work(former, plan, 1)


def test_values_of_another_environment_are_not_taken_from_the_cache() -> None:
    def key(**step: Any) -> bytes:
        plan = compiled({"cache": {}, **step})
        return cache_key(plan, plan.steps[0], {}, {})

    same = [key(**python("a", "b>=1")), key(**python("b >= 1", "A"))]
    others = [key(), key(**python("a")), key(**python("a", "b>=1", python="3.12")), key(**python())]
    assert len({*same, *others}) == 5

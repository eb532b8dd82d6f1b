"""What a pipeline says that its runs give: `output` and `outputs`."""

from __future__ import annotations

from typing import Any

import pytest
from tests.unit.plan.specs import base, faults, spec_of

from penstock_coordinator.core.plan.compile import compile_plan
from penstock_coordinator.core.plan.limits import Limits
from penstock_coordinator.core.plan.model import FromStep

A, EACH = 0, 2


def faults_of(said: dict[str, Any], limits: Limits | None = None) -> dict[str, str]:
    spec = spec_of({**base(), **said})
    return faults(spec) if limits is None else faults(spec, limits)


SAID: list[tuple[dict[str, Any], str, str]] = [
    ({"output": {"step": "nobody"}}, "output.step", "there is no step 'nobody'"),
    ({"output": {"step": "A"}}, "output.step", "did you mean 'a'"),
    ({"output": {}}, "output.step", "there is no step ''"),
    ({"output": {"step": "a", "path": ["err"]}}, "output.path[0]", "has no output 'err'"),
    ({"output": {"step": "b", "path": ["x" * 2_000]}}, "output.path[0]", "2,000 characters, past the limit of"),
    ({"output": {"step": "b", "path": ["x"] * 40}}, "output.path", "40 members, past the limit of"),
    ({"output": {"step": "a"}, "outputs": {"x": {"step": "a"}}}, "outputs", "there is an `output` too"),
    ({"outputs": {"x": {"step": "nobody"}}}, "outputs[x].step", "there is no step 'nobody'"),
    ({"outputs": {"x": {"step": "a", "path": ["err"]}}}, "outputs[x].path[0]", "has no output 'err'"),
    ({"outputs": {"../x": {"step": "a"}}}, "outputs[../x]", "no valid name"),
]


@pytest.mark.parametrize(("said", "field", "message"), SAID)
def test_what_is_refused(said: dict[str, Any], field: str, message: str) -> None:
    found = faults_of(said)
    assert list(found) == [field]
    assert message in found[field]


def test_all_that_is_wrong_is_said_at_once() -> None:
    found = faults_of({"outputs": {"x": {"step": "no"}, "y": {"step": "a", "path": ["err"]}, "ok": {"step": "a"}}})
    assert set(found) == {"outputs[x].step", "outputs[y].path[0]"}


def test_there_are_as_many_as_the_limit_and_no_more() -> None:
    limits = Limits(outputs=3)
    said = {f"o{number}": {"step": "a"} for number in range(3)}
    assert faults_of({"outputs": said}, limits) == {}
    found = faults_of({"outputs": {**said, "more": {"step": "a"}}}, limits)
    assert "there are 4 outputs, past the limit of 3" in found["outputs"]


def test_the_plan_keeps_what_the_output_is_made_of() -> None:
    said = {"said": {"step": "a", "path": ["out"]}, "all": {"step": "each"}}
    plan = compile_plan(spec_of({**base(), "outputs": said}), "d")
    assert sorted(plan.outputs) == [("all", FromStep(EACH)), ("said", FromStep(A, ("out",)))]
    assert ("out",) in plan.steps[A].kept_paths
    assert () in plan.steps[EACH].kept_paths


def test_an_output_alone_has_no_name() -> None:
    assert compile_plan(spec_of({**base(), "output": {"step": "a"}}), "d").outputs == (("", FromStep(A)),)
    assert compile_plan(spec_of(base()), "d").outputs == ()

"""Steps that undo others: what is refused, and what plans make of them."""

from __future__ import annotations

from typing import Any

import pytest
from tests.unit.plan.specs import BUNDLE, spec_of

from penstock_coordinator.core.plan.compile import compile_onto, compile_plan
from penstock_coordinator.core.plan.difference import difference
from penstock_coordinator.core.plan.model import (
    FromItem,
    FromParameter,
    FromStep,
    FromUndone,
    MapForm,
    Plan,
    Step,
)
from penstock_coordinator.core.plan.validate import problems


def step(name: str, **fields: Any) -> dict[str, Any]:
    outputs = [{"name": "id", "stdout": True}]
    return {"name": name, "command": {"shell": "true", "outputs": outputs}, **fields}


def of(name: str, *path: str) -> dict[str, Any]:
    return {"step": {"step": name, "path": list(path)}}


def document(*steps: dict[str, Any], **fields: Any) -> dict[str, Any]:
    parameters = [{"name": "n", "type": "PARAMETER_TYPE_INT", "default": 1}]
    return {"name": "p", "bundleDigest": BUNDLE, "parameters": parameters, "steps": list(steps), **fields}


def compiled(*steps: dict[str, Any], **fields: Any) -> Plan:
    spec = spec_of(document(*steps, **fields))
    assert problems(spec) == []
    return compile_plan(spec, "d")


def named(plan: Plan, name: str) -> Step:
    return plan.steps[plan.numbers[name]]


def test_a_step_that_undoes_another_has_no_edges() -> None:
    plan = compiled(
        step("a"),
        step("b", inputs={"x": of("a")}, compensate="undo"),
        step("undo", inputs={"was": of("b", "id"), "x": of("a"), "n": {"parameter": "n"}}, allowFailure=True),
        onFailure="ON_FAILURE_ROLLBACK",
    )
    undo = named(plan, "undo")
    assert (undo.undoes, undo.upstream, undo.downstream, undo.map) == (1, (), (), None)
    assert undo.inputs == (("n", FromParameter("n")), ("was", FromUndone(("id",))), ("x", FromStep(0)))
    assert (named(plan, "b").compensate, named(plan, "b").downstream, named(plan, "a").downstream) == (2, (), (1,))
    assert (plan.undoing, plan.entries, plan.rolls_back) == ((2,), (0,), True)


def test_a_mapped_step_is_undone_by_its_items() -> None:
    plan = compiled(
        step("a", map={"values": [1, 2], "maxParallel": 3}, compensate="undo"),
        step("undo", inputs={"each": {"item": {}}, "was": of("a", "id")}),
    )
    undo = named(plan, "undo")
    assert undo.map is not None
    assert (undo.map.form, undo.map.followed, undo.map.max_parallel) == (MapForm.UNDONE, 0, 3)
    assert (undo.depth, undo.shape, named(plan, "a").followers, named(plan, "a").joiners) == (1, 0, (), ())
    assert undo.inputs == (("each", FromItem(())), ("was", FromUndone(("id",))))


def test_another_version_may_undo_in_another_way() -> None:
    former = compiled(step("a", compensate="undo"), step("undo"))
    spec = spec_of(document(step("better"), step("a", compensate="better")))
    plan = compile_onto(former, spec, "e")
    assert [each.name for each in plan.steps] == ["a", "undo", "better"]
    assert (plan.steps[1].retired, plan.steps[0].compensate, plan.undoing) == (True, 2, (2,))


def test_a_version_that_undoes_is_another() -> None:
    before, after = document(step("a"), step("b")), document(step("a", compensate="b"), step("b"))
    found = difference(spec_of(before), spec_of({**after, "onFailure": "ON_FAILURE_ROLLBACK"}))
    assert [(change.path, change.after) for change in found.changes] == [("on_failure", '"rollback"')]
    assert [(each.step, [change.path for change in each.changes]) for each in found.steps] == [("a", ["compensate"])]


UNDO = step("undo")
A = step("a", compensate="undo")
REFUSED: list[tuple[str, list[dict[str, Any]], str, str]] = [
    ("an unknown step", [step("a", compensate="und"), UNDO], "steps[0].compensate", "did you mean 'undo'"),
    ("itself", [step("a", compensate="a")], "steps[0].compensate", "cannot undo itself"),
    ("of two", [A, step("b", compensate="undo"), UNDO], "steps[1].compensate", "undoes 'a' already"),
    ("of a cleanup step", [{**A, "cleanup": True}, UNDO], "steps[0].compensate", "cleanup step stays done"),
    ("of a compensation", [A, {**UNDO, "compensate": "c"}, step("c")], "steps[1].compensate", "leave `compensate` out"),
    ("depends_on", [A, step("b"), {**UNDO, "dependsOn": ["b"]}], "steps[2].depends_on", "leave `depends_on` out"),
    ("when", [A, {**UNDO, "when": "true"}], "steps[1].when", "leave `when` out"),
    ("a map", [A, {**UNDO, "map": {"values": [1]}}], "steps[1].map", "leave `map` out"),
    ("cleanup", [A, {**UNDO, "cleanup": True}], "steps[1].cleanup", "leave `cleanup` out"),
    ("a rule", [A, {**UNDO, "triggerRule": "TRIGGER_RULE_ALWAYS"}], "steps[1].trigger_rule", "leave `trigger_rule`"),
    ("waiting for it", [A, UNDO, step("b", dependsOn=["undo"])], "steps[2].depends_on[0]", "nothing can read it"),
    ("reading it", [A, UNDO, step("b", inputs={"x": of("undo")})], "steps[2].inputs[x].step.step", "nothing can read"),
    (
        "reading others",
        [A, {**UNDO, "inputs": {"x": of("b")}}, step("b")],
        "steps[1].inputs[x].step.step",
        "make 'b' one of the depends_on of 'a'",
    ),
    (
        "an item",
        [A, {**UNDO, "inputs": {"x": {"item": {}}}}],
        "steps[1].inputs[x].item",
        "which this one undoes, is not",
    ),
]


@pytest.mark.parametrize(("steps", "field", "says"), [each[1:] for each in REFUSED], ids=[each[0] for each in REFUSED])
def test_refusals_name_the_field_and_the_remedy(steps: list[dict[str, Any]], field: str, says: str) -> None:
    found = {problem.field: problem.description for problem in problems(spec_of(document(*steps)))}
    assert says in found.get(field, ""), found


def test_the_output_of_a_run_is_none_of_what_undoes() -> None:
    (found,) = problems(spec_of(document(A, UNDO, output={"step": "undo"})))
    assert (found.field, "name another step" in found.description) == ("output.step", True)


def test_what_becomes_of_a_failure_is_one_of_the_enum() -> None:
    spec = spec_of(document(A, UNDO))
    spec.on_failure = 9  # type: ignore[assignment]  # of a newer client
    (found,) = problems(spec)
    assert (found.field, "OnFailure" in found.description) == ("on_failure", True)

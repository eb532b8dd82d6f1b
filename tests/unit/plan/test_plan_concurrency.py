"""Limits on concurrency in a specification: what is refused, and what a plan makes of the rest."""

from __future__ import annotations

from typing import Any

import pytest
from google.protobuf import json_format

from penstock.v1 import pipeline_pb2 as pb
from penstock_coordinator.core.plan.cel.errors import ConditionError
from penstock_coordinator.core.plan.compile import compile_plan
from penstock_coordinator.core.plan.keys import InvalidKey, KeyExpression, check_keys, has_expressions, key_or_source
from penstock_coordinator.core.plan.model import Concurrency, Plan, Policy
from penstock_coordinator.core.plan.validate import problems


def spec(step: dict[str, Any] | None = None, **fields: Any) -> pb.PipelineSpec:
    made = {"name": "a", "command": {"argv": ["true"]}}
    if step is not None:
        made["concurrency"] = step
    parameters = [
        {"name": "tenant", "type": "PARAMETER_TYPE_STRING"},
        {"name": "n", "type": "PARAMETER_TYPE_INT", "default": 1},
    ]
    return json_format.ParseDict({"name": "p", "steps": [made], "parameters": parameters, **fields}, pb.PipelineSpec())


def plan(step: dict[str, Any] | None = None, **fields: Any) -> Plan:
    made = spec(step, **fields)
    assert problems(made) == []
    return compile_plan(made, "0" * 64)


REFUSED: list[tuple[dict[str, Any], str, str]] = [
    ({}, "", "there is no key"),
    ({"key": ""}, ".key", "the key is empty"),
    ({"key": "k" * 257}, ".key", "past the limit of 256"),
    ({"key": "a\nb"}, ".key", "control character"),
    ({"key": " k"}, ".key", "white space"),
    ({"key": "pipeline:other"}, ".key", "choose another"),
    ({"key": "k", "limit": -1}, ".limit", "use 1 to 100,000"),
    ({"key": "k", "limit": 100_001}, ".limit", "use 1 to 100,000"),
    ({"key": "k", "policy": 9}, ".policy", "no concurrency policy"),
    ({"key_expression": ""}, ".key_expression", "empty"),
    ({"key_expression": "params.tenant +"}, ".key_expression", "at character"),
    ({"key_expression": "params.tenent"}, ".key_expression", "did you mean 'tenant'"),
    ({"key_expression": "params.n"}, ".key_expression", "not a text: use string(...)"),
    ({"key_expression": "params.tenant == 'x'"}, ".key_expression", "not a text"),
    ({"key_expression": "steps.a.output"}, ".key_expression", "parameters of the run (params) alone"),
    ({"key_expression": "item"}, ".key_expression", "parameters of the run (params) alone"),
    ({"key_expression": "'" + "x" * 5_000 + "'"}, ".key_expression", "shorten it"),
]


@pytest.mark.parametrize(("concurrency", "field", "message"), REFUSED)
def test_refused(concurrency: dict[str, Any], field: str, message: str) -> None:
    for made, place in ((spec(concurrency), "steps[0].concurrency"), (spec(concurrency=concurrency), "concurrency")):
        (problem,) = problems(made)
        assert problem.field == place + field
        assert message in problem.description


@pytest.mark.parametrize(("number", "good"), [(-1, False), (0, True), (100_000, True), (100_001, False)])
def test_max_active_runs(number: int, good: bool) -> None:
    found = problems(spec(max_active_runs=number))
    assert [problem.field for problem in found] == ([] if good else ["max_active_runs"])


def test_the_largest_are_accepted() -> None:
    assert problems(spec({"key": "k" * 256, "limit": 100_000})) == []


def test_a_step_that_is_a_run_has_no_key_of_steps() -> None:
    made = spec({"key": "k"})
    made.steps[0].pipeline.name = "other"
    found = {problem.field: problem.description for problem in problems(made)}
    assert "give the pipeline 'other' itself" in found["steps[0].concurrency"]


def test_what_is_not_said() -> None:
    assert plan({"key": "k"}).limited == {0: Concurrency("k", 1, Policy.QUEUE)}
    made = plan(concurrency={"key": "k", "limit": 3, "policy": "CONCURRENCY_POLICY_CANCEL_OLDEST"}, max_active_runs=7)
    assert made.concurrency == Concurrency("k", 3, Policy.CANCEL_OLDEST)
    assert made.max_active_runs == 7
    assert made.limited == {}


def test_steps_with_another_key_have_another_position() -> None:
    made = spec({"key": "k"})
    for name, key in (("b", "k"), ("c", "other"), ("d", "")):
        step = made.steps.add(name=name)
        step.command.argv.append("true")
        if key:
            step.concurrency.key = key
    found = compile_plan(made, "0" * 64)
    assert [step.line for step in found.steps] == [0, 0, 1, 2]
    assert len(set(found.lines)) == 1
    assert sorted(found.limited) == [0, 1]


@pytest.mark.parametrize(
    ("source", "key"),
    [
        ("params.tenant", "x"),
        ("'tenant-' + params.tenant", "tenant-x"),
        ("params.tenant + '/' + string(params.n)", "x/1"),
        ("params.n > 3 ? 'big' : 'small'", "small"),
    ],
)
def test_keys_of_parameters(source: str, key: str) -> None:
    made = plan({"key_expression": source})
    assert has_expressions(made)
    values = {"tenant": "x", "n": 1}
    check_keys(made, values)
    assert key_or_source(made.limited[0], values) == key


@pytest.mark.parametrize("tenant", ["", " x", "a\nb", "k" * 257, "pipeline:p"])
def test_keys_that_cannot_be_made(tenant: str) -> None:
    made = plan({"key_expression": "params.tenant"})
    with pytest.raises(InvalidKey) as caught:
        check_keys(made, {"tenant": tenant, "n": 1})
    assert caught.value.field == "steps[0].concurrency.key_expression"
    assert key_or_source(made.limited[0], {"tenant": tenant}) == "KeyExpression('params.tenant')"


def test_an_expression_that_gives_no_text() -> None:
    with pytest.raises(ConditionError, match=r"not a text: use string\(\.\.\.\)"):
        KeyExpression("params.any").evaluate({"any": 3})


def test_a_plan_without_expressions() -> None:
    assert not has_expressions(plan({"key": "k"}, concurrency={"key": "j"}))

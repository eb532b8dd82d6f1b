"""What is different between two specifications."""

from __future__ import annotations

import json
from typing import Any

from google.protobuf import json_format
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.v1.pipeline_pb2 import PipelineSpec
from penstock_coordinator.core.plan.difference import FieldChange, Kind, SpecDifference, StepDifference, difference


def spec(*steps: dict[str, Any], **fields: Any) -> PipelineSpec:
    return json_format.ParseDict({"name": "p", "steps": list(steps), **fields}, PipelineSpec())


def step(name: str, *upstream: str, **fields: Any) -> dict[str, Any]:
    return {"name": name, "command": {"argv": ["run"]}, "dependsOn": list(upstream), **fields}


def function(name: str, digest: str = "") -> dict[str, Any]:
    return {"name": name, "function": {"module": "m", "qualname": "f", "codeDigest": digest}}


def changes(before: PipelineSpec, after: PipelineSpec) -> list[tuple[str, Any, Any]]:
    """Of the one step that differs."""
    found = difference(before, after)
    assert not found.changes
    assert [each.kind for each in found.steps] == [Kind.CHANGED]
    return [_plain(each) for each in found.steps[0].changes]


def _plain(change: FieldChange) -> tuple[str, Any, Any]:
    before, after = (None if text is None else json.loads(text) for text in (change.before, change.after))
    return change.path, before, after


def test_the_same_is_not_different() -> None:
    one = spec(step("a"), step("b", "a"), function("c", "1"), bundleDigest="x", labels={"a": "b"})
    assert difference(one, one) == SpecDifference([], [])


def test_added_removed_and_changed_steps_in_the_order_of_the_later_one() -> None:
    before = spec(step("gone", when="x"), step("a"), step("b"))
    after = spec(step("b", when="true"), step("new", "b"), step("a"))
    found = difference(before, after).steps
    assert [(each.step, each.kind) for each in found] == [
        ("b", Kind.CHANGED),
        ("new", Kind.ADDED),
        ("gone", Kind.REMOVED),
    ]
    assert found[0].changes == [FieldChange("when", None, '"true"')]


def test_each_changed_field_by_its_path() -> None:
    before = step("a", retry={"maxAttempts": 2, "initialBackoff": "1s"}, inputs={"n": {"value": {"x": [1], "y": 2}}})
    after = step("a", retry={"maxAttempts": 3, "initialBackoff": "1.5s"}, inputs={"n": {"value": {"x": [1.5], "y": 2}}})
    assert sorted(changes(spec(before), spec(after))) == [
        ("inputs.n.value.x", [1], [1.5]),
        ("retry.initial_backoff", "1s", "1.500s"),
        ("retry.max_attempts", 2, 3),
    ]


def test_forms_of_values() -> None:
    before = step("a", triggerRule="TRIGGER_RULE_ALL_DONE", allowFailure=True, labels={"team/x": "1"})
    after = step("a", triggerRule="TRIGGER_RULE_ALWAYS", inputs={"n": {"parameter": "n"}}, labels={"team/x": "2"})
    assert sorted(changes(spec(before), spec(after))) == [
        ("allow_failure", True, None),
        ("inputs", None, {"n": {"parameter": "n"}}),
        ("labels[team/x]", "1", "2"),
        ("trigger_rule", "all_done", "always"),
    ]


def test_a_bool_is_no_number() -> None:
    before, after = ({"value": {"a": value}} for value in (True, 1))
    found = changes(spec(step("a", inputs={"n": before})), spec(step("a", inputs={"n": after})))
    assert found == [("inputs.n.value.a", True, 1)]


def test_named_things_are_compared_by_their_names() -> None:
    outputs = [{"name": "x", "stdout": True}, {"name": "y", "file": "a"}]
    other = [{"name": "y", "file": "b"}, {"name": "x", "stdout": True}]
    one, two = ({"name": "a", "command": {"argv": ["x"], "outputs": each}} for each in (outputs, other))
    assert changes(spec(one), spec(two)) == [("command.outputs.y.file", "a", "b")]


def test_the_order_of_what_comes_first_says_nothing() -> None:
    before, after = spec(step("a"), step("b"), step("c", "a", "b")), spec(step("a"), step("b"), step("c", "b", "a"))
    assert difference(before, after) == SpecDifference([], [])


def test_outside_of_steps() -> None:
    before = spec(step("a"), parameters=[{"name": "n", "type": "PARAMETER_TYPE_INT", "default": 1}], maxParallel=2)
    after = spec(
        step("a"),
        parameters=[{"name": "n", "type": "PARAMETER_TYPE_FLOAT", "default": 1}, {"name": "m", "type": 1}],
        template={"name": "t", "arguments": {"tables": ["x"]}},
    )
    assert sorted(_plain(each) for each in difference(before, after).changes) == [
        ("max_parallel", 2, None),
        ("parameters.m", None, {"type": "string"}),
        ("parameters.n.type", "int", "float"),
        ("template", None, {"name": "t", "arguments": {"tables": ["x"]}}),
    ]


def test_changed_code() -> None:
    def code(before: str, after: str, bundle: str = "2") -> list[StepDifference]:
        return difference(
            spec(function("a", before), bundleDigest="1"), spec(function("a", after), bundleDigest=bundle)
        ).steps

    assert code("x", "x") == []
    assert code("x", "y") == [StepDifference("a", Kind.CHANGED, code_changed=True)]
    assert code("", "") == [StepDifference("a", Kind.CHANGED, code_changed=True)]
    assert code("", "x") == [StepDifference("a", Kind.CHANGED, code_changed=True)]
    assert code("", "", bundle="1") == []


def test_a_step_that_became_another_thing() -> None:
    found = changes(spec(function("a", "x")), spec(step("a")))
    assert sorted(found) == [
        ("command", None, {"argv": ["run"]}),
        ("function", {"module": "m", "qualname": "f"}, None),
    ]


def test_renamed_steps_and_those_that_follow_them() -> None:
    source = {"step": {"step": "load", "path": ["rows"]}}
    renamed = {"step": {"step": "load_all", "path": ["rows"]}}
    before = spec(step("load", when="x"), step("next", "load", inputs={"r": source}), step("end", "next"))
    after = spec(step("end", "then"), step("then", "load_all", inputs={"r": renamed}), step("load_all", when="x"))
    assert difference(before, after).steps == [
        StepDifference("then", Kind.RENAMED, "next"),
        StepDifference("load_all", Kind.RENAMED, "load"),
    ]


def test_what_changed_besides_its_name_is_another_step() -> None:
    found = difference(spec(step("a", when="x")), spec(step("b", when="y"))).steps
    assert found == [StepDifference("b", Kind.ADDED), StepDifference("a", Kind.REMOVED)]
    found = difference(spec(function("a", "x")), spec(function("b", "y"))).steps
    assert [each.kind for each in found] == [Kind.ADDED, Kind.REMOVED]
    found = difference(spec(function("a"), bundleDigest="1"), spec(function("b"), bundleDigest="2")).steps
    assert [each.kind for each in found] == [Kind.ADDED, Kind.REMOVED]


def test_equal_steps_are_matched_in_their_order() -> None:
    before, after = spec(step("a"), step("b"), step("c")), spec(step("x"), step("y"))
    assert difference(before, after).steps == [
        StepDifference("x", Kind.RENAMED, "a"),
        StepDifference("y", Kind.RENAMED, "b"),
        StepDifference("c", Kind.REMOVED),
    ]


names = st.lists(st.sampled_from("abcdefgh"), unique=True, max_size=6)
conditions = st.dictionaries(st.sampled_from("abcdefgh"), st.sampled_from(["x", "y"]))


@settings(deadline=None, max_examples=200)
@given(names, conditions, names, conditions)
def test_steps_are_all_accounted_for(old: list[str], one: dict[str, str], new: list[str], two: dict[str, str]) -> None:
    before = spec(*(step(name, when=one.get(name, "")) for name in old))
    after = spec(*(step(name, when=two.get(name, "")) for name in new))
    found = difference(before, after).steps
    kinds = {each.step: each.kind for each in found}
    assert len(kinds) == len(found)
    former = [each.former_name for each in found if each.kind is Kind.RENAMED]
    assert len(set(former)) == len(former)
    for each in found:
        if each.kind is Kind.RENAMED:
            assert one.get(each.former_name) == two.get(each.step)
    gone = set(old) - set(new)
    assert gone == set(former) | {name for name, kind in kinds.items() if kind is Kind.REMOVED}
    assert set(new) - set(old) == {name for name, kind in kinds.items() if kind in (Kind.ADDED, Kind.RENAMED)}
    changed = {name for name in set(old) & set(new) if one.get(name, "") != two.get(name, "")}
    assert changed == {name for name, kind in kinds.items() if kind is Kind.CHANGED}

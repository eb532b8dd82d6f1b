"""Another version of a pipeline, compiled for runs of the former one."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from tests.unit.plan.specs import BUNDLE, base, faults, spec_of

from penstock_coordinator.core.plan.compile import compile_onto, compile_plan
from penstock_coordinator.core.plan.keeping import same_work
from penstock_coordinator.core.plan.model import CHILDREN, FromStep, Plan

OLD = compile_plan(spec_of(base()), "v1")


def onto(document: dict[str, Any], former: Plan = OLD, digest: str = "v2") -> Plan:
    spec = spec_of(document)
    assert not faults(spec)
    return compile_onto(former, spec, digest)


def step(document: dict[str, Any], name: str) -> dict[str, Any]:
    found: dict[str, Any] = next(each for each in document["steps"] if each["name"] == name)
    return found


def test_the_same_steps_in_another_order_keep_their_numbers() -> None:
    document = base()
    document["steps"].reverse()
    plan = onto(document)
    assert plan.numbers == OLD.numbers
    assert plan.steps == tuple(replace(new, line=old.line) for new, old in zip(OLD.steps, plan.steps, strict=True))
    assert (plan.lineage, plan.digest) == (("v1",), "v2")
    assert [plan.lines[each.line] for each in plan.steps] == [OLD.lines[each.line] for each in OLD.steps]


def test_new_steps_are_numbered_on_and_missing_ones_are_retired() -> None:
    document = base()
    document["steps"].remove(step(document, "c"))
    document["steps"].remove(step(document, "sweep"))
    document["steps"].insert(0, {"name": "n", "command": {"shell": "true"}, "inputs": {"x": {"step": {"step": "b"}}}})
    plan = onto(document)
    assert [each.name for each in plan.steps] == ["a", "b", "each", "c", "sweep", "n"]
    assert [each.number for each in plan.steps] == list(range(6))
    assert plan.numbers == {"a": 0, "b": 1, "each": 2, "n": 5}
    for number in (3, 4):
        gone = plan.steps[number]
        assert (gone.retired, gone.upstream, gone.downstream) == (True, (), ())
        assert (gone.line, gone.cleanup) == (CHILDREN, False)
    assert not plan.cleanup_roots
    assert plan.steps[5].inputs == (("x", FromStep(1)),)
    assert plan.steps[1].downstream == (2, 5)


def test_a_retired_step_comes_back_at_its_number() -> None:
    document = base()
    document["steps"].remove(step(document, "c"))
    without = onto(document)
    again = onto(base(), without, "v3")
    assert again.numbers == OLD.numbers
    assert again.lineage == ("v1", "v2")
    assert not any(each.retired for each in again.steps)
    assert not same_work(without, again, OLD.numbers["c"])


def _edit(name: str, **fields: object) -> Any:
    def edit(document: dict[str, Any]) -> None:
        step(document, name).update(fields)

    return edit


def _argv(document: dict[str, Any]) -> None:
    step(document, "a")["command"]["argv"] = ["echo", "other"]


def _bundle(document: dict[str, Any]) -> None:
    document["bundleDigest"] = "f" * 64


def _digests(document: dict[str, Any]) -> None:
    _bundle(document)
    step(document, "b")["function"]["codeDigest"] = "c" * 64


def _env(document: dict[str, Any]) -> None:
    document["defaults"]["env"]["LEVEL"] = "debug"


ALL = {"a", "b", "each", "c", "sweep"}
COMMANDS = ALL - {"b"}
CHANGES: list[tuple[Any, set[str]]] = [
    (_argv, {"a"}),
    (_edit("b", function={"module": "flow.steps", "qualname": "Other"}), {"b"}),
    (_edit("b", inputs={"rows": {"step": {"step": "a"}}}), {"b"}),
    (_edit("b", when="params.n > 2"), {"b"}),
    (_edit("each", map={"parameter": "any"}), {"each"}),
    (_edit("each", map={"parameter": "items", "maxParallel": 1}), set()),
    (_edit("c", env={"X": "y"}), {"c"}),
    (_env, ALL),
    (_edit("c", cleanup=True), {"c"}),
    (_edit("c", dependsOn=["a"]), set()),
    (_edit("c", triggerRule="TRIGGER_RULE_ALL_DONE"), set()),
    (_edit("c", retry={"maxAttempts": 7}, timeouts={"attempt": "9s"}, queue="gpu", priority=3, labels={}), set()),
    (_edit("c", allowFailure=True, concurrency={"key": "k"}, resources={"cpu": 2}), set()),
    (_bundle, ALL),
    (_digests, ALL),
]


@pytest.mark.parametrize(("edit", "changed"), CHANGES)
def test_what_is_other_work(edit: Any, changed: set[str]) -> None:
    document = base()
    edit(document)
    plan = onto(document)
    assert {name for name, number in plan.numbers.items() if not same_work(OLD, plan, number)} == changed


@pytest.mark.parametrize(
    ("old", "new", "same_bundle", "same"),
    [
        ("c", "c", True, True),
        ("c", "c", False, True),
        ("c", "d", True, False),
        ("c", "", True, True),
        ("c", "", False, False),
        ("", "", True, True),
        ("", "", False, False),
    ],
)
def test_the_code_is_known_by_its_own_digest_or_by_that_of_the_bundle(
    old: str, new: str, same_bundle: bool, same: bool
) -> None:
    plans: list[Plan] = []
    for code, bundle in ((old, BUNDLE), (new, BUNDLE if same_bundle else "f" * 64)):
        document = base()
        document["bundleDigest"] = bundle
        step(document, "b")["function"]["codeDigest"] = code
        spec = spec_of(document)
        plans.append(compile_onto(plans[0], spec, "v2") if plans else compile_plan(spec, "v1"))
    former, plan = plans
    assert same_work(former, plan, 1) is same


def test_a_sub_pipeline_is_the_same_work_while_its_name_and_number_are() -> None:
    document = base()
    document["steps"].append({"name": "sub", "pipeline": {"name": "child"}})
    former = compile_plan(spec_of(document), "v1")
    _bundle(document)
    number = former.numbers["sub"]
    assert same_work(former, onto(document, former), number)
    step(document, "sub")["pipeline"]["versionNumber"] = 2
    assert not same_work(former, onto(document, former), number)

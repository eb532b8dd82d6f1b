"""Maps over several lists and over other maps: what is refused, and what plans are made of them."""

from __future__ import annotations

from typing import Any

import pytest
from tests.unit.plan.specs import BUNDLE, faults, spec_of

from penstock_coordinator.core.plan.compile import compile_plan
from penstock_coordinator.core.plan.model import FromParameter, FromStep, FromValue, MapForm, Plan, StepMap


def step(name: str, over: dict[str, Any] | None = None, **fields: Any) -> dict[str, Any]:
    mapped = {} if over is None else {"map": over}
    return {"name": name, "function": {"module": "m", "qualname": "f"}, **mapped, **fields}


def pipeline(*steps: dict[str, Any]) -> dict[str, Any]:
    parameters = [{"name": "items", "type": "PARAMETER_TYPE_LIST"}]
    return {"name": "p", "parameters": parameters, "bundleDigest": BUNDLE, "steps": list(steps)}


def over(name: str, *path: str, **more: Any) -> dict[str, Any]:
    return {"step": {"step": name, "path": list(path)}, **more}


PLAIN = step("plain")
A = step("a", {"values": [1, 2, 3]})
TWO = {"lists": [{"name": "x", "parameter": "items"}, {"name": "y", "step": {"step": "a"}}]}

REFUSED: list[tuple[str, dict[str, Any], str, str]] = [
    ("joined of a plain step", step("b", over("plain", joined=True)), "map.joined", "no mapped step: leave `joined`"),
    ("nested of a plain step", step("b", over("plain", nested={})), "map.nested", "no mapped step: leave `nested`"),
    ("nested of values", step("b", {"values": [], "nested": {}}), "map.nested", "no mapped step"),
    ("both", step("b", over("a", joined=True, nested={})), "map.joined", "leave one of the two out"),
    ("a path and joined", step("b", over("a", "0", joined=True)), "map.step.path", "leave the path out"),
    ("a path and nested", step("b", over("a", "0", nested={})), "map.step.path", "leave the path out"),
    ("always", step("b", over("a"), triggerRule="TRIGGER_RULE_ALWAYS"), "trigger_rule", "use all_done"),
    ("zip of one", step("b", over("a", combination="MAP_COMBINATION_ZIP")), "map.combination", "several in `lists`"),
    ("negative", step("b", over("a", maxParallel=-1)), "map.max_parallel", "-1 is negative"),
    ("lists and a step", step("b", {**TWO, **over("a")}), "map.step", "leave one of the two out"),
    ("lists and joined", step("b", {**TWO, "joined": True}), "map.joined", "leave one of the two out"),
    (
        "names twice",
        step("b", {"lists": [{"name": "x", "parameter": "items"}] * 2}),
        "map.lists[1].name",
        "lists[0] too: choose another",
    ),
    ("no name", step("b", {"lists": [{"parameter": "items"}]}), "map.lists[0].name", "no valid name"),
    ("no list", step("b", {"lists": [{"name": "x"}]}), "map.lists[0]", "give parameter, step or values"),
    (
        "unknown step in a list",
        step("b", {"lists": [{"name": "x", "step": {"step": "aa"}}]}),
        "map.lists[0].step.step",
        "did you mean 'a'",
    ),
    (
        "a member that is none",
        step("b", TWO, inputs={"i": {"item": {"path": ["z"]}}}),
        "inputs[i].item.path[0]",
        "the item has no member 'z'",
    ),
]


@pytest.mark.parametrize(("wrong", "field", "message"), [each[1:] for each in REFUSED], ids=[e[0] for e in REFUSED])
def test_refused(wrong: dict[str, Any], field: str, message: str) -> None:
    found = faults(spec_of(pipeline(PLAIN, A, wrong)))
    assert list(found) == [f"steps[2].{field}"]
    assert message in found[f"steps[2].{field}"]


def test_cycles_through_lists_are_found() -> None:
    first = step("a", {"lists": [{"name": "x", "step": {"step": "b"}}]})
    found = faults(spec_of(pipeline(first, step("b", over("a")))))
    assert list(found) == ["steps[0].map.lists[0].step.step"]


def test_paths_into_nested_maps_begin_with_positions() -> None:
    inner = step("b", over("a", nested={}))
    right = step("c", inputs={"i": {"step": {"step": "b", "path": ["0", "1"]}}})
    wrong = step("c", inputs={"i": {"step": {"step": "b", "path": ["0", "rows"]}}})
    assert faults(spec_of(pipeline(A, inner, right))) == {}
    found = faults(spec_of(pipeline(A, inner, wrong)))
    assert "is a list" in found["steps[2].inputs[i].step.path[1]"]


def test_a_nested_map_names_an_output_that_a_command_declares() -> None:
    command = {
        "name": "a",
        "command": {"argv": ["true"], "outputs": [{"name": "rows", "stdout": True}]},
        "map": A["map"],
    }
    wrong = step("b", over("a", nested={"path": ["row"]}))
    found = faults(spec_of(pipeline(command, wrong)))
    assert "did you mean 'rows'" in found["steps[1].map.nested.path[0]"]


def compiled(*steps: dict[str, Any]) -> Plan:
    spec = spec_of(pipeline(*steps))
    assert faults(spec) == {}
    return compile_plan(spec, "d")


def test_several_lists() -> None:
    plan = compiled(A, step("b", {**TWO, "combination": "MAP_COMBINATION_ZIP", "maxParallel": 3}))
    assert plan.steps[1].map == StepMap((FromParameter("items"), FromStep(0)), ("x", "y"), True, max_parallel=3)
    assert plan.steps[1].upstream == (0,)
    # The list of outputs is needed as a whole.
    assert plan.steps[0].kept_paths == ((),)
    assert plan.steps[0].joiners == (1,)


def test_item_by_item() -> None:
    plan = compiled(
        A,
        step("b", over("a"), when="item.size > 1 && item['kind'] == 'x'"),
        step("c", over("b")),
        step("whole", over("a"), dependsOn=["a"]),
        step("joined", over("b", joined=True)),
        step("part", over("a", "0", "rows")),
    )
    a, b, c, whole, joined, part = plan.steps
    assert (b.map, b.followed, c.followed) == (StepMap((FromStep(0),), form=MapForm.EACH), 0, 1)
    assert (whole.followed, joined.followed, part.followed) == (0, None, None)
    assert (a.followers, a.joiners) == ((1,), (3, 5))
    assert (b.followers, b.joiners) == ((2,), (4,))
    assert [each.depth for each in plan.steps] == [1] * 6
    assert [each.shape for each in plan.steps] == [0, 0, 0, 0, 4, 5]
    # What conditions read of items is kept, item by item; of `part` one list, of `joined` everything.
    assert a.kept_paths == (("kind",), ("rows",), ("size",))
    assert b.kept_paths == ((),)


def test_nested() -> None:
    plan = compiled(
        A,
        step("b", over("a", nested={"path": ["rows"]})),
        step("c", over("b", nested={}), when="item > 1"),
        step("d", over("c")),
        step("e", over("a", nested={"path": ["more"]})),
    )
    a, b, c, d, e = plan.steps
    assert b.map == StepMap((FromStep(0, ("rows",)),), form=MapForm.NESTED)
    assert [each.depth for each in plan.steps] == [1, 2, 3, 3, 2]
    assert [each.shape for each in plan.steps] == [0, 1, 2, 2, 4]
    # Without a condition on the item the length of the list is all that is kept.
    assert (a.kept_paths, a.kept_lengths) == ((), (("more",), ("rows",)))
    assert (b.kept_paths, b.kept_lengths) == (((),), ((),))
    assert (c.followers, d.followers, e.followers) == ((3,), (), ())


def test_long_chains_of_maps_are_no_recursion() -> None:
    steps = [step("s0", {"values": [1]}), *(step(f"s{n}", over(f"s{n - 1}")) for n in range(1, 5_000))]
    # The last one first: everything it needs is still unknown then.
    plan = compiled(*reversed(steps))
    assert {each.depth for each in plan.steps} == {1}
    assert {each.shape for each in plan.steps} == {4_999}
    assert plan.steps[4_999].map == StepMap((FromValue(b"[1]"),))

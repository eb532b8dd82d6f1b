"""What conditions answer."""

from __future__ import annotations

from typing import Any

import pytest

from penstock_coordinator.core.plan.conditions import Condition, ConditionError

PARAMS = {
    "n": 3,
    "f": 2.5,
    "whole": 3.0,
    "s": "hello",
    "b": True,
    "l": [1, 2, 3],
    "m": {"x": 1, "y": {"z": "deep"}},
    "none": None,
    "huge": 12345678901234567890123,
    "a.b": 1,
}
STEPS: dict[str, dict[str, Any]] = {
    "a": {"state": "COMPLETED", "output": {"rows": 10, "ok": True, "tags": ["x", "y"], "0": "zero", "none": None}},
    "skipped": {"state": "SKIPPED", "output": None},
    "my-step": {"state": "FAILED", "output": None},
    "mapped": {"state": "COMPLETED", "output": [{"ok": True, "n": 1}, None, {"ok": False, "n": 3}]},
}


def evaluate(source: str, item: Any = 7) -> bool:
    return Condition(source).evaluate(PARAMS, STEPS, item)


TRUE = [
    "true",
    "!false",
    "!!true",
    "params.n == 3",
    "params.n > 2.5",
    "params.f < params.n",
    "params.whole == params.n",
    "3 == 3.0",
    "params['n'] == 3",
    "params['a.b'] == 1",
    "params.`a.b` == 1",
    "params.n-1 == 2",
    "-params.n == -3",
    "- -3 == 3",
    "params.huge > 1.5 && params.huge != 1e22",
    "7 / 2 == 3",
    "-7 / 2 == -3",
    "7 % 3 == 1",
    "-7 % 3 == -1",
    "7 / 2.0 == 3.5",
    "1 + 2 * 3 == 7",
    "(1 + 2) * 3 == 9",
    "10 - 2 - 3 == 5",
    "0x10 == 16",
    "1e3 == 1000",
    ".5 == 0.5",
    "params.s + '!' == \"hello!\"",
    "'a' < 'b'",
    "false < true",
    "'\\u00e4\\n\\x41\\101\\t' == 'ä\\nAA\\t'",
    r"r'\d' == '\\d'",
    "'''a'b''' == \"a'b\"",
    '"""a\nb""" == "a\\nb"',
    "params.l == [1, 2.0, 3]",
    "[true] != [1]",
    "true != params.n",
    "params.s != params.n || true",
    "params.m == {'x': 1, 'y': {'z': 'deep'}}",
    "params.m.y.z == 'deep'",
    "params.none == null",
    "params.n != null",
    "2 in params.l",
    "2.0 in params.l",
    "!('2' in params.l)",
    "!(true in [1])",
    "'x' in params.m",
    "[1] in [[1.0]]",
    "null in [null]",
    "params.l[0] == 1",
    "params.l[params.n - 1] == 3",
    "[5, 6][1] == 6",
    "{'k': 1}.k == 1",
    "{'k': 1}['k'] == 1",
    "size(params.s) == 5 && params.l.size() == 3 && size(params.m) == 2",
    "params.s.startsWith('he') && params.s.endsWith('lo') && params.s.contains('ell')",
    "params.s.matches('^h.*o$')",
    "matches(params.s, 'l+')",
    "!params.s.matches('^l')",
    "int('12') == 12 && int(2.9) == 2 && int(-2.9) == -2",
    "double('1.5') == 1.5 && double(2) == 2",
    "string(3) == '3' && string(3.0) == '3' && string(2.5) == '2.5' && string(true) == 'true'",
    "params.b ? params.n == 3 : params.nope",
    "false ? 1 > 0 : true ? true : false",
    "has(params.m.x)",
    "!has(params.m.q)",
    "!has(params.m.q.r.s)",
    "has(params.m['x'])",
    "!has(steps.skipped.output.rows)",
    "has(steps.a.output.none)",
    "steps.a.state == 'COMPLETED'",
    "steps['my-step'].state == 'FAILED'",
    "steps.`my-step`.state in ['FAILED', 'CANCELLED']",
    "steps.a.output.rows >= 10 && steps.a.output.ok",
    "steps.a.output.tags[1] == 'y'",
    "steps.a.output['0'] == 'zero'",
    "steps.skipped.output == null",
    "steps.mapped.output[2].n == 3",
    "size(steps.mapped.output) == 3",
    "steps.mapped.output.filter(x, x != null).exists(x, x.ok)",
    "item == 7",
    "item in [6, 7]",
    "params.l.all(x, x > 0)",
    "!params.l.all(x, x > 1)",
    "params.l.exists(x, x == 2)",
    "params.l.exists_one(x, x == 2)",
    "params.l.filter(x, x > 1) == [2, 3]",
    "params.l.map(x, x * x) == [1, 4, 9]",
    "params.l.map(x, x > 1, x * 10) == [20, 30]",
    "params.m.exists(k, k == 'y')",
    "[].all(x, false)",
    "![].exists(x, true)",
    "[1, 2].map(x, [3, 4].map(y, x * y)) == [[3, 4], [6, 8]]",
    "[1].map(x, [2].map(x, x)) == [[2]]",
    "[{'v': [1]}].exists(x, x.v[0] == 1)",
    # One side that decides is enough.
    "true || params.m.q == 1",
    "params.m.q == 1 || true",
    "!(params.m.q == 1 && false)",
    "[{}, {'ok': true}].exists(x, x.ok)",
    "![{}, {'ok': false}].all(x, x.ok)",
    "params.n == 3 // a remark",
    "[1, 2,].size() == 2",
]


@pytest.mark.parametrize("source", TRUE)
def test_true(source: str) -> None:
    assert evaluate(source) is True


FAILING = [
    ("params.gone", "the run has no parameter 'gone'"),
    ("params.m.q == 1", "params.m.q is not there: there is no 'q': it is an object with 'x', 'y'"),
    ("params.m.x.y == 1", "there is no 'y': at 'x' is a number"),
    ("params.l[3] == 1", "a list of 3, counted from 0"),
    ("params.l[params.n] == 1", "the list has 3 items"),
    ("params.m[params.s] == 1", "the object has no member 'hello'"),
    ("steps.skipped.output.rows > 1", "it is null; test the step's state first"),
    ("1 / 0 == 1", "division by zero"),
    ("1.0 / 0 == 1", "division by zero"),
    ("5 % 0 == 1", "division by zero"),
    ("5 % params.f == 1", "% is of whole numbers"),
    ("params.n + params.s == 1", "not for a whole number and a text"),
    ("params.s > 1", "have no order"),
    ("params.l > params.l", "have no order"),
    ("params.b > 0", "have no order"),
    ("params.n", "gives a whole number, not true or false"),
    ("steps.a.output", "gives an object, not true or false"),
    ("item", "gives a whole number"),
    ("!params.n", "params.n is a whole number, not true or false"),
    ("-params.s == 1", "a text is no number"),
    ("params.n && true", "params.n is a whole number, not true or false"),
    ("params.n ? true : false", "not true or false"),
    ("params.n.all(x, true)", "all() is of lists and objects"),
    ("params.l.all(x, x)", "x is a whole number, not true or false"),
    ("'l' in params.s", "use contains() for texts"),
    ("params.n.contains('x')", "contains() is of texts"),
    ("size(params.n) == 1", "size() is of"),
    ("int(params.s) == 1", "int() does not take 'hello'"),
    ("int('1_0') == 1", "int() does not take"),
    ("int(params.huge) == 1", "int() does not take"),
    ("double('nan') == 1.0", "double() does not take"),
    ("double('1e999') == 1.0", "double() does not take"),
    ("9223372036854775807 + 1 > 0", "more than 64 bits"),
    ("params.huge * 2 > 0", "more than 64 bits"),
    ("{params.s: 1, 'hello': 2}.hello == 1", "twice"),
    ("{params.n: 1} == {}", "keys of objects are texts"),
]


@pytest.mark.parametrize(("source", "message"), FAILING)
def test_failing(source: str, message: str) -> None:
    with pytest.raises(ConditionError) as raised:
        evaluate(source)
    assert message in str(raised.value)


def test_the_item_is_needed() -> None:
    with pytest.raises(ConditionError, match="reads the item"):
        Condition("item > 1").evaluate({}, {})


def test_an_item_of_null_is_an_item() -> None:
    assert Condition("item == null").evaluate({}, {}, None) is True


def test_the_budget_bounds_what_the_lists_make_of_it() -> None:
    numbers = list(range(50_000))
    for source in (
        "params.l.all(x, params.l.exists(y, y == x))",
        "params.l.all(x, !(-1 in params.l))",
        "params.l.map(x, params.s + params.s) == []",
        "params.l.all(x, params.l != [])",
        "params.s.matches('a*b')",
    ):
        with pytest.raises(ConditionError, match="takes too long"):
            Condition(source).evaluate({"l": numbers, "s": "x" * 200_000}, {})
    assert not Condition("params.l == params.k").evaluate({"l": numbers, "k": numbers[:-1]}, {})


def test_values_nested_too_deeply_are_an_error() -> None:
    one: Any = []
    other: Any = []
    for _ in range(5_000):
        one, other = [one], [other]
    with pytest.raises(ConditionError, match="nested too deeply"):
        Condition("params.one == params.other").evaluate({"one": one, "other": other}, {})


READS: list[tuple[str, dict[str, tuple[tuple[str, ...], ...]], bool, bool]] = [
    ("steps.a.state == 'COMPLETED'", {}, True, False),
    ("steps.a.output.rows > 1 && steps.a.output.rows < 5", {"a": (("rows",),)}, False, False),
    ("steps.a.output.x.y == 1 || steps.a.output.x == 2", {"a": (("x",),)}, False, False),
    ("steps.a.output.x[3]['k'] == 1", {"a": (("x", "3", "k"),)}, False, False),
    ("steps.a.output == null || steps.a.output.x == 1", {"a": ((),)}, False, False),
    ("steps.a.output.x[params.n] == item", {"a": (("x",),)}, False, True),
    ("has(steps.a.output.x) && size(steps.b.output) > 0", {"a": (("x",),), "b": ((),)}, False, False),
    ("params.l.exists(x, steps.a.output.y == x)", {"a": (("y",),)}, False, False),
]


@pytest.mark.parametrize(("source", "paths", "state", "item"), READS)
def test_what_is_read_is_known(
    source: str, paths: dict[str, tuple[tuple[str, ...], ...]], state: bool, item: bool
) -> None:
    condition = Condition(source)
    assert condition.output_paths == paths
    assert condition.reads_state is state
    assert condition.reads_item is item
    assert condition.steps == ({"a"} if state else paths.keys())
    assert condition.source == source


def test_equal_sources_are_equal_conditions() -> None:
    assert Condition("true") == Condition("true")
    assert len({Condition("true"), Condition("true"), Condition("false")}) == 2

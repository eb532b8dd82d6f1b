"""What conditions are refused for at submission."""

from __future__ import annotations

import contextlib
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock_coordinator.core.plan.cel import kinds
from penstock_coordinator.core.plan.conditions import Condition, ConditionError, InvalidCondition, Scope, check
from penstock_coordinator.core.run.states import StepState

STRING, INT, FLOAT, BOOL, LIST, MAP, ANY = range(1, 8)
SCOPE = Scope(
    parameters={"s": STRING, "n": INT, "f": FLOAT, "b": BOOL, "l": LIST, "m": MAP, "any": ANY, "rows": INT, "a.b": INT},
    upstream={"a", "b", "my-step"},
    steps={"a", "b", "my-step", "far", "extract"},
    mapped=True,
)
UNMAPPED = Scope(SCOPE.parameters, SCOPE.upstream, SCOPE.steps, mapped=False)

BAD = [
    # syntax
    ("", "the expression is empty (at character 1)"),
    ("  // nothing", "the expression is empty"),
    ("1 +", "found the end where a value is expected (at character 4)"),
    ("params.n >", "found the end where a value is expected"),
    ("(params.n > 1", "found the end where ')' is expected"),
    ("params.n > 1)", "found ')' where an operator or the end is expected"),
    ("params.n = 1", "'=' is no operator: compare with '==' (at character 10)"),
    ("params.b & params.b", "write '&&'"),
    ("params.b and params.b", "found 'and' where an operator or the end is expected (at character 10)"),
    ("params.s == 'x", "has no end on its line (at character 13)"),
    ("params.s == 'x\ny'", "has no end on its line"),
    ('params.s == "' + "\\" * 61 + "\n", "has no end on its line"),
    (r"params.s == '\q'", r"unknown escape \q"),
    (r"params.s == '\ud800'", "is no character"),
    (r"params.s == '\U00110000'", "is no character"),
    ("params.s == b'x'", "there are no bytes here"),
    ("params.n == 1u", "'1u' is no number"),
    ("params.n == 99999999999999999999", "whole numbers have 64 bits"),
    ("params.f == 1e999", "too large"),
    ("params.n == 1 ? true", "where ':' is expected"),
    ("params.", "where the name of a member is expected"),
    ("params..n == 1", "found '.' where the name of a member is expected"),
    (".params.n == 1", "found '.' where a value is expected"),
    ("while == 1", "'while' is a reserved word"),
    ("Message{x: 1} == 1", "objects of a named type do not exist"),
    ("params.\uff4e == 1", "means nothing here"),
    ("params.n\x00 == 1", "'\\x00' means nothing here"),
    ("$(touch pwned.flag)", "'$' means nothing here"),
    ("__import__('os').system('touch pwned.flag')", "there is no function"),
    ("{% if true %}", "is expected"),
    ("(" * 60 + "true" + ")" * 60, "nested deeper than 48"),
    ("!" * 2_000 + "true", "nested deeper than 48"),
    ("-" * 2_000 + "1 == 1", "nested deeper than 48"),
    ("[" * 2_000, "nested deeper than 48"),
    ("+".join(["1"] * 60) + " == 60", "nested deeper than 48"),
    ("true ? " * 60 + "true" + " : true" * 60, "is expected"),
    ("true ? true : " * 60 + "true", "nested deeper than 48"),
    # names
    ("x == 1", "'x' is not known: the variables are params, steps, item"),
    ("rows > 1", "for the parameter write params.rows"),
    ("a.state == 'FAILED'", "for the step write steps.a.state"),
    ("params.nn == 1", "the pipeline has no parameter 'nn': did you mean 'n'?"),
    ("params['nope'] == 1", "no parameter 'nope': check the spelling"),
    ("params == {}", "name one of the parameters"),
    ("params[params.s] == 1", "name one of the parameters"),
    ("steps == {}", "name one of the upstream steps"),
    ("steps[params.s].state == 'FAILED'", "name one of the upstream steps"),
    ("steps.far.state == 'FAILED'", "'far' is no direct upstream of this one: add it to depends_on"),
    ("steps.extrct.state == 'FAILED'", "there is no step 'extrct': did you mean 'extract'?"),
    ("steps.a == null", "there are .state and .output"),
    ("steps.a.result == 1", "there are .state and .output"),
    ("steps.a.state.x == 1", "it has no members"),
    ("has(steps.a)", "there are .state and .output"),
    ("now() > 1", "there is no function 'now'"),
    ("params.s.lenght() > 1", "there is no function 'lenght'"),
    ("params.s.startswith('x')", "did you mean 'startsWith'?"),
    ("duration('1s') == duration('1s')", "there is no function 'duration'"),
    ("contains(params.s, 'x')", "contains is written text.contains(part)"),
    ("params.n.int() == 1", "int is written int(value)"),
    ("size() == 1", "size is written"),
    ("params.s.contains() ", "contains is written"),
    ("has(params)", "has is written has(value.member)"),
    ("has(params.n, params.n)", "has is written"),
    ("params.l.all(x)", "all is written list.all(x, test)"),
    ("all(params.l, x, x > 1)", "all is written list.all(x, test)"),
    ("params.l.map(x, x, x, x) == []", "map is written list.map(x, result)"),
    ("params.l.all(1, true)", "the first argument of all is the name of a variable"),
    ("params.l.all(item, true)", "'item' is taken"),
    ("params.l.all(x, y)", "'y' is not known: the variables are params, steps, item, x"),
    ("params.l.all(x, true) && x", "'x' is not known"),
    ("params.l[-1] == 1", "positions count from 0"),
    ("params.l[1.5] == 1", "a position by a whole number"),
    ("steps.a.output" + ".x" * 33 + " == 1", "longer than 32 members"),
    # kinds
    ("params.n", "the expression gives a whole number, not true or false"),
    ("'true'", "gives a text"),
    ("params.s", "gives a text"),
    ("[params.b]", "gives a list"),
    ("{}", "gives an object"),
    ("null", "gives null"),
    ("params.n + 1", "gives a whole number"),
    ("params.f * 2", "gives a fraction"),
    ("size(steps.a.output)", "gives a whole number"),
    ("steps.a.state", "gives a text"),
    ("params.l.filter(x, x > 1)", "gives a list"),
    ("true ? 1 : 2", "gives a whole number"),
    ("params.s > 1", "a text and a whole number have no order"),
    ("params.l > [1]", "a list has no order"),
    ("params.s == 1", "a text never equals a whole number"),
    ("params.b == 'true'", "true or false never equals a text"),
    ("params.s + 1 == 'x1'", "'+' is not for a text and a whole number"),
    ("params.b + params.b == 2", "'+' is not for true or false"),
    ("params.s - 'x' == ''", "'-' is not for a text"),
    ("params.f % 2 == 0", "'%' is of whole numbers"),
    ("-params.s == ''", "- is of numbers"),
    ("!params.n", "! is of true and false"),
    ("params.n && params.b", "&& is of true and false"),
    ("params.n ? true : false", "? is of true and false"),
    ("params.n in params.s", "write whole.contains(part)"),
    ("params.n.x == 1", "'n' is a whole number: it has no members"),
    ("params.l.x == 1", "its items are numbered"),
    ("params.n.contains('x')", "text.contains(part) does not take a whole number"),
    ("params.s.contains(1)", "does not take a whole number"),
    ("size(params.n) == 1", "does not take a whole number"),
    ("int(params.l) == 1", "does not take a list"),
    ("params.s.all(x, true)", "all is of lists and objects, not of a text"),
    ("params.l.all(x, 1)", "all is of true and false"),
    ("{1: 2} == {}", "the keys of objects are texts"),
    ("steps.a.state == 'SUCCEEDED'", "'SUCCEEDED' is no state of a step"),
    ("'completed' == steps.a.state", "did you mean 'COMPLETED'?"),
    ("steps.a.state in ['FAILED', 'SKIPED']", "did you mean 'SKIPPED'?"),
    ("steps.a.state == 1", "a text never equals a whole number"),
    ("params.s.matches(params.s)", "the pattern of matches is written out"),
    ("params.s.matches('(')", "the pattern is not valid: missing )"),
    ("params.s.matches('(a{1000}){1000}')", "the pattern is not valid"),
    ("params.s.matches('" + "a" * 257 + "')", "longer than 256 characters"),
    # cost
    ("params.l.all(x, params.l.all(y, x < y))", "too costly"),
    ("params.l.exists(x, params.l.exists(y, params.l.exists(z, x == y && y == z)))", "do not nest macros"),
    ("params.l.map(x, params.l).size() > 0 && params.l.all(x, params.l.map(y, y).size() > 0)", "too costly"),
]  # fmt: skip


@pytest.mark.parametrize(("source", "message"), BAD)
def test_refused(source: str, message: str) -> None:
    with pytest.raises(InvalidCondition) as raised:
        check(source, SCOPE)
    assert message in str(raised.value)
    assert str(raised.value).isascii()
    assert 0 <= raised.value.position <= len(source)


GOOD = [
    "true",
    "params.n > 2.5",
    "params.any",
    "params.any.x.y == 1 || params['a.b'] == 2",
    "steps.a.output",
    "steps.`my-step`.state in ['FAILED', params.s]",
    "steps.a.output.rows > params.n && steps.b.state == 'COMPLETED'",
    "item.name.startsWith('x') || item in params.l",
    "params.any == 'x' ? params.b : steps.a.output.ok",
    "params.m.exists(k, k == 'x') && params.l.all(x, x != null)",
    "['x', 'y'].all(k, steps.a.output.exists(r, r.kind == k))",
    "params.l.filter(x, x in params.any).size() > 3",
    "params.s == null || params.n == params.f",
    "params.s.matches('^[a-z]+[0-9]*$')",
    " || ".join(["params.n == 1"] * 200),
    " && ".join(["(params.n == 1 || params.b)"] * 100),
]


@pytest.mark.parametrize("source", GOOD)
def test_accepted(source: str) -> None:
    check(source, SCOPE)
    Condition(source)


def test_the_item_is_of_mapped_steps() -> None:
    with pytest.raises(InvalidCondition, match="the step is not mapped"):
        check("item > 1", UNMAPPED)


def test_the_states_are_those_of_the_run_core() -> None:
    assert tuple(state.name for state in StepState) == kinds.STATES


def test_reading_takes_time_by_the_length_alone() -> None:
    def seconds(times: int, nonce: int) -> float:
        # What was read before is remembered: each source is another one.
        source = " || ".join(["steps.a.output.x[1].y == 'abc' + string(params.n)"] * times) + f" // {nonce}"
        before = time.process_time()
        check(source, SCOPE)
        return time.process_time() - before

    small = min(seconds(20, nonce) for nonce in range(5))
    assert min(seconds(80, nonce) for nonce in range(5)) < 16 * small


WORDS = [
    *("params.n", "params.s", "params.l", "params.m", "params.any", "params.b", "params['a.b']", "item", "x", "y"),
    *("steps.a.output", "steps.a.state", "steps.b.output.k", "steps.far.state", "'FAILED'", "'t'", "''", "0", "1"),
    *("2.5", "true", "false", "null", "[]", "[1, 'a']", "{}", "{'k': 1}", "(", ")", "[", "]", ".k", ".size()", ","),
    *("+", "-", "*", "/", "%", "<", "<=", ">", "==", "!=", "in", "&&", "||", "!", "?", ":", "size(", "has(", "int("),
    *("double(", "string(", ".contains(", ".matches('a+')", ".all(x,", ".exists(y,", ".map(x,", ".filter(x,"),
    *("'", '"', "\\", "`", "//", "0x", "1e", "\x00", "\u00e4", "{", "}", "="),
]


@settings(max_examples=1_000, deadline=None)
@given(st.lists(st.sampled_from(WORDS), max_size=14).map(" ".join) | st.text(max_size=20))
def test_whatever_is_written_is_refused_or_answered(source: str) -> None:
    """No expression ends in anything but its own two errors, before a run and in one."""
    try:
        check(source, SCOPE)
    except InvalidCondition:
        return
    condition = Condition(source)
    steps = {name: {"state": "COMPLETED", "output": {"k": [1, "a", None]}} for name in condition.steps}
    params = {"s": "t", "n": 3, "f": 2.5, "b": True, "l": [1, "a"], "m": {"k": 1}, "any": None, "rows": 1, "a.b": 0}
    with contextlib.suppress(ConditionError):
        assert condition.evaluate(params, steps, {"k": "v"}) in (True, False)

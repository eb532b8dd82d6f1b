"""Values between steps: what is kept, what is given."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.plan.specs import BUNDLE, spec_of

from penstock_coordinator.core.plan.compile import compile_plan
from penstock_coordinator.core.plan.conditions import minimal
from penstock_coordinator.core.plan.model import Path, Plan
from penstock_coordinator.core.plan.paths import NoSuchPath, follow
from penstock_coordinator.core.plan.values import (
    InvalidJson,
    UnresolvableInput,
    dump,
    extract,
    inputs_of,
    parse,
    rebuild,
)

HUGE = b'{"n":123456789012345678901234567890,"f":1.0,"s":"\\ud800\\u0000"}'


def test_nothing_is_lost() -> None:
    assert dump(parse(HUGE)) == HUGE
    assert extract([("n",), ("f",), ("s",)], HUGE) == (b"123456789012345678901234567890", b"1.0", b'"\\ud800\\u0000"')


@pytest.mark.parametrize(
    "data", [b"", b"{", b"NaN", b"[Infinity]", b"-Infinity", b"'x'", b"\xff", b"[" * 100_000, b"1" * 5_000]
)
def test_no_json(data: bytes) -> None:
    with pytest.raises(InvalidJson, match="not valid JSON"):
        parse(data)
    with pytest.raises(InvalidJson):
        extract([("x",)], data)


def test_a_number_past_all_doubles_is_kept_as_it_is_but_not_in_part() -> None:
    assert extract([()], b"1e400") == (b"1e400",)
    with pytest.raises(InvalidJson):
        extract([("x",)], b'{"x":1e400}')


def test_nothing_kept_is_not_even_read() -> None:
    assert extract([], b"no json") == ()
    assert extract([()], b"no json") == (b"no json",)


def test_what_is_not_there_is_empty() -> None:
    output = b'{"a":{"b":null},"l":[1,[2]]}'
    paths: list[Path] = [("a", "b"), ("a", "c"), ("l", "1", "0"), ("l", "2"), ("l", "x"), ("a", "b", "c")]
    assert extract(paths, output) == (b"null", b"", b"2", b"", b"", b"")
    assert rebuild(paths, extract(paths, output)) == {"a": {"b": None}, "l": {"1": {"0": 2}}}


FOLLOW: list[tuple[Path, Any, str]] = [
    (("x",), {"a": 1, "b": 2}, "there is no 'x': it is an object with 'a', 'b'"),
    (("a", "x"), {"a": {}}, "there is no 'x': at 'a' is an object without members"),
    (("a", "x"), {"a": "text"}, "at 'a' is a text"),
    (("a", "b", "x"), {"a": {"b": None}}, "at 'a.b' is null"),
    (("a", "2"), {"a": [1, 2]}, "at 'a' is a list of 2, counted from 0"),
    (("a", "-1"), {"a": [1, 2]}, "a list of 2"),
    (("a", "01"), {"a": [1, 2]}, "a list of 2"),
    (("a", "\u0661"), {"a": [1, 2]}, "a list of 2"),
    (("0",), [], "it is an empty list"),
    (("0",), True, "it is true or false"),
    (("x",), {str(number): 1 for number in range(10)}, "and 5 more"),
    (("x" * 1000,), {}, "xxx"),
]


@pytest.mark.parametrize(("path", "value", "message"), FOLLOW)
def test_where_a_path_stops(path: Path, value: Any, message: str) -> None:
    with pytest.raises(NoSuchPath) as raised:
        follow(path, value)
    assert message in str(raised.value)
    assert len(str(raised.value)) < 400


def test_a_path_follows_objects_and_lists() -> None:
    assert follow((), 1) == 1
    assert follow(("a", "1", "b"), {"a": [0, {"b": None}]}) is None
    assert follow(("0",), {"0": "named"}) == "named"


names = st.sampled_from(["a", "b", "0", "1", ""])
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
    max_leaves=12,
)
paths_of = st.sets(st.lists(names, max_size=3).map(tuple), max_size=5).map(lambda paths: list(minimal(paths)))


@given(values, paths_of)
def test_what_is_rebuilt_answers_as_the_output_does(value: Any, paths: list[Path]) -> None:
    kept = rebuild(paths, extract(paths, dump(value)))
    for path in paths:
        try:
            there = follow(path, value)
        except NoSuchPath:
            with pytest.raises(NoSuchPath):
                follow(path, kept)
        else:
            found = follow(path, kept)
            assert dump(found) == dump(there)


# --- inputs


def plan() -> Plan:
    def function(name: str, **fields: Any) -> dict[str, Any]:
        return {"name": name, "function": {"module": "m", "qualname": "f"}, **fields}

    inputs = {
        "constant": {"value": {"k": 1}},
        "parameter": {"parameter": "n"},
        "whole": {"step": {"step": "a"}},
        "part": {"step": {"step": "a", "path": ["rows", "1"]}},
        "other": {"step": {"step": "a", "path": ["n"]}},
        "item": {"item": {}},
        "member": {"item": {"path": ["id"]}},
        "first": {"step": {"step": "each", "path": ["0", "x"]}},
    }
    return compile_plan(
        spec_of(
            {
                "name": "p",
                "bundleDigest": BUNDLE,
                "parameters": [{"name": "n", "type": "PARAMETER_TYPE_INT"}],
                "steps": [
                    function("a"),
                    function("each", map={"values": [1, 2]}),
                    function("z", map={"values": [1]}, inputs=inputs),
                ],
            }
        ),
        "d",
    )


def resolve(a: bytes, each: bytes = b'[{"x":1}]', item: Any = None) -> dict[str, bytes]:
    made = plan()
    item = {"id": 7} if item is None else item
    return inputs_of(made, made.steps[2], {"n": 2**53}, lambda: dump(item), lambda number: (a, each)[number])


def test_inputs() -> None:
    whole = b'{ "rows": [1, 12345678901234567890123], "n": 1.50 }'
    assert resolve(whole) == {
        "constant": b'{"k":1}',
        "parameter": b"9007199254740992",
        "whole": whole,
        "part": b"12345678901234567890123",
        "other": b"1.5",
        "item": b'{"id":7}',
        "member": b"7",
        "first": b"1",
    }


def test_outputs_that_are_null_give_null() -> None:
    found = resolve(b"null", b"null")
    assert found["whole"] == found["part"] == found["other"] == found["first"] == b"null"
    assert resolve(b"null", b"[null]")["first"] == b"null"


def test_paths_that_lead_nowhere() -> None:
    good = b'{"rows":[1,2],"n":1}'
    with pytest.raises(UnresolvableInput, match=r"the input 'part' reads 'rows.1' of the output of the step 'a', but"):
        resolve(b'{"rows":[1],"n":1}')
    with pytest.raises(UnresolvableInput, match=r"the input 'part' .* at 'rows' is null"):
        resolve(b'{"rows":null,"n":1}')
    with pytest.raises(UnresolvableInput, match=r"the input 'first' reads '0.x' of .* it is an empty list"):
        resolve(good, b"[]")
    for output in (b'{"rows":', b'{"n":1,"rows":[1,1e400]}'):
        with pytest.raises(UnresolvableInput, match="reads a value that is not valid JSON"):
            resolve(output)
    with pytest.raises(UnresolvableInput, match="the input 'member' reads 'id' of the item, but"):
        resolve(good, item={"no": 1})


def test_an_output_is_parsed_once_however_many_paths_go_into_it() -> None:
    made = plan()
    asked: list[int] = []

    def outputs(number: int) -> bytes:
        asked.append(number)
        return (b'{"rows":[1,2],"n":1}', b'[{"x":1}]')[number]

    inputs_of(made, made.steps[2], {"n": 1}, lambda: dump({"id": 1}), outputs)
    assert sorted(asked) == [0, 0, 1]

"""The parameters of a run."""

from __future__ import annotations

import json
from typing import Any

import pytest
from google.protobuf.json_format import ParseDict
from google.protobuf.struct_pb2 import Value

from penstock.v1 import pipeline_pb2 as pb
from penstock.v1.run_service_pb2 import StartRunRequest
from penstock_coordinator.core.plan.limits import Limits
from penstock_coordinator.core.plan.parameters import InvalidParameters, bind

DECLARED = [
    ParseDict(each, pb.Parameter())
    for each in (
        {"name": "text", "type": "PARAMETER_TYPE_STRING", "default": "hello"},
        {"name": "count", "type": "PARAMETER_TYPE_INT"},
        {"name": "ratio", "type": "PARAMETER_TYPE_FLOAT", "default": 1},
        {"name": "flag", "type": "PARAMETER_TYPE_BOOL", "default": False},
        {"name": "items", "type": "PARAMETER_TYPE_LIST", "default": [1, 2.5, None]},
        {"name": "table", "type": "PARAMETER_TYPE_MAP", "default": {"b": 1, "a": {"x": []}}},
        {"name": "any", "type": "PARAMETER_TYPE_ANY", "default": None},
    )
]


def value(plain: Any) -> Value:
    message = Value()
    ParseDict(plain, message)
    return message


def bound(**given: Any) -> bytes:
    return bind(DECLARED, {name: value(each) for name, each in given.items()})


def refused(given: dict[str, Value], limits: Limits | None = None) -> dict[str, str]:
    with pytest.raises(InvalidParameters) as raised:
        bind(DECLARED, given, limits or Limits())
    return {problem.field: problem.description for problem in raised.value.problems}


def test_defaults_and_the_order_of_declaration() -> None:
    assert bound(count=3) == (
        b'{"text":"hello","count":3,"ratio":1.0,"flag":false,"items":[1,2.5,null],'
        b'"table":{"a":{"x":[]},"b":1},"any":null}'
    )


def test_what_is_given_wins() -> None:
    made = json.loads(bound(count=-0.0, ratio=2, text="", items=[], table={}, any=[{"k": 1e300}], flag=True))
    assert made == {"text": "", "count": 0, "ratio": 2.0, "flag": True, "items": [], "table": {}, "any": [{"k": 1e300}]}


@pytest.mark.parametrize(
    "text", ["", "\x00", "; touch pwned.flag #", "ü\u2028\U0001f600", '"}\\', "'; DROP TABLE runs"]
)
def test_any_text_is_stored_as_it_is(text: str) -> None:
    stored = bound(count=1, text=text, any={text: text})
    assert stored.isascii()
    assert json.loads(stored)["text"] == text
    assert json.loads(stored)["any"] == {text: text}


def test_the_map_of_a_request_can_be_bound() -> None:
    request = StartRunRequest(pipeline="p", parameters={"count": Value(number_value=4)})
    assert json.loads(bind(DECLARED, request.parameters))["count"] == 4
    assert list(request.parameters) == ["count"]


BAD: list[tuple[str, Any, str]] = [
    ("count", "three", "the text 'three' is not a whole number: give the number without quotes"),
    ("count", "3", "give the number without quotes"),
    ("count", 3.5, "3.5 is not a whole number: round it"),
    ("count", True, "true or false is not a whole number"),
    ("count", 2.0**53 + 2, "beyond 2^53"),
    ("count", [1], "a list is not a whole number"),
    ("count", None, "null is not a whole number"),
    ("ratio", "0.5", "give the number without quotes"),
    ("ratio", False, "true or false is not a number"),
    ("text", 3, "a number is not a text: put it in quotes"),
    ("text", None, "leave it out for its default"),
    ("flag", "true", "give true or false without quotes"),
    ("flag", 1, "a number is not true or false"),
    ("items", {"a": 1}, "an object is not a list"),
    ("table", [1], "a list is not an object"),
]


@pytest.mark.parametrize(("name", "plain", "message"), BAD)
def test_types_are_strict(name: str, plain: Any, message: str) -> None:
    found = refused({"count": value(1), name: value(plain)})
    assert list(found) == [f"parameters.{name}"]
    assert message in found[f"parameters.{name}"]


def test_unknown_and_missing_at_once() -> None:
    found = refused({"cuont": value(1), "flag": value(0), "\x00": value(1)})
    assert "did you mean 'count'?" in found["parameters.cuont"]
    assert "it is missing, and has no default: give it a whole number" in found["parameters.count"]
    assert "parameters.flag" in found
    assert "no parameter '\\x00'" in found["parameters.\\x00"]


def test_a_pipeline_without_parameters() -> None:
    with pytest.raises(InvalidParameters, match="the pipeline has none"):
        bind([], {"x": value(1)})
    assert bind([], {}) == b"{}"


def test_no_json() -> None:
    assert (
        "nan is no JSON number"
        in refused({"count": value(1), "any": Value(number_value=float("nan"))})["parameters.any"]
    )
    assert "inf is no JSON number" in refused({"count": Value(number_value=float("inf"))})["parameters.count"]
    assert "a value is missing" in refused({"count": Value()})["parameters.count"]
    deep: Any = 1
    for _ in range(29):
        deep = [deep]
    assert "deeper than the limit of 28" in refused({"count": value(1), "items": value(deep)})["parameters.items"]


def test_the_size_in_all() -> None:
    limits = Limits(parameters_bytes=500)
    assert "500" in refused({"count": value(1), "text": value("x" * 600)}, limits)["parameters"]
    # As JSON it is more than on the wire.
    assert "500" in refused({"count": value(1), "text": value("\u00e4" * 150)}, limits)["parameters"]
    assert len(bind(DECLARED, {"count": value(1), "text": value("x" * 300)}, limits)) < 500

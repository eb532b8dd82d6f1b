"""What a specification says of the template that it was made from."""

from __future__ import annotations

import math

import pytest
from google.protobuf.struct_pb2 import Value
from tests.unit.plan.specs import base_spec, faults


def deep(levels: int) -> Value:
    value = Value(number_value=1)
    for _ in range(levels):
        outer = Value()
        outer.list_value.values.append(value)
        value = outer
    return value


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (Value(number_value=math.nan), "no JSON number"),
        (Value(), "a value is missing"),
        (deep(29), "nested deeper than the limit of 28"),
    ],
    ids=["NaN", "nothing", "deep"],
)
def test_arguments_of_a_template_are_json(value: Value, message: str) -> None:
    """The coordinator does not look at them, but whoever gets the specification has to read it."""
    spec = base_spec()
    spec.template.name = "load_$[env]"
    spec.template.arguments["größe"].CopyFrom(deep(28))
    assert not faults(spec)
    spec.template.arguments["x"].CopyFrom(value)
    spec.template.name = "x" * 513
    found = faults(spec)
    assert message in found["template.arguments[x]"]
    assert "past the limit of 512" in found["template.name"]

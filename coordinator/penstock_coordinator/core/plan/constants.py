"""Between google.protobuf.Value and plain JSON."""

from __future__ import annotations

from google.protobuf.struct_pb2 import ListValue, Value

from penstock_coordinator.core.plan.model import Json
from penstock_coordinator.core.plan.values import dump

MAX_WHOLE = 2**53
"""Beyond it a double does not hold every whole number."""


def plain(value: Value) -> Json:
    """The value as plain JSON. Numbers without a fraction become whole numbers up to 2^53; members are sorted, as a
    map has no order on the wire."""
    match value.WhichOneof("kind"):
        case "string_value":
            return value.string_value
        case "number_value":
            return plain_number(value.number_value)
        case "bool_value":
            return value.bool_value
        case "list_value":
            return plain_list(value.list_value)
        case "struct_value":
            fields = value.struct_value.fields
            return {name: plain(fields[name]) for name in sorted(fields)}
    return None


def plain_list(values: ListValue) -> list[Json]:
    return [plain(each) for each in values.values]


def plain_number(number: float) -> int | float:
    return int(number) if abs(number) <= MAX_WHOLE and number.is_integer() else number


def constant(value: Value) -> bytes:
    return dump(plain(value))

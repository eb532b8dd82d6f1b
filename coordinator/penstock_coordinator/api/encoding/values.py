"""Times, spans and JSON values."""

from __future__ import annotations

from typing import TYPE_CHECKING

from google.protobuf.duration_pb2 import Duration
from google.protobuf.struct_pb2 import NULL_VALUE, ListValue, Struct, Value
from google.protobuf.timestamp_pb2 import Timestamp

if TYPE_CHECKING:
    from penstock_coordinator.core.plan.model import Json

_SECOND = 1_000_000


def instant(microseconds: int) -> Timestamp:
    seconds, rest = divmod(microseconds, _SECOND)
    return Timestamp(seconds=seconds, nanos=rest * 1_000)


def known_instant(microseconds: int | None) -> Timestamp | None:
    """None, as a message's argument, leaves the field unset."""
    return None if microseconds is None else instant(microseconds)


def span(microseconds: int) -> Duration:
    """Not negative."""
    seconds, rest = divmod(max(microseconds, 0), _SECOND)
    return Duration(seconds=seconds, nanos=rest * 1_000)


def wire_value(value: Json) -> Value:
    match value:
        case None:
            return Value(null_value=NULL_VALUE)
        case bool():
            return Value(bool_value=value)
        case int() | float():
            return Value(number_value=value)
        case str():
            return Value(string_value=value)
        case list():
            return Value(list_value=ListValue(values=[wire_value(each) for each in value]))
        case dict():
            return Value(struct_value=Struct(fields={name: wire_value(each) for name, each in value.items()}))
        case _:
            raise TypeError(f"no JSON value: {type(value)}")

"""Times, spans and JSON values."""

from __future__ import annotations

from typing import TYPE_CHECKING

from google.protobuf.duration_pb2 import Duration
from google.protobuf.struct_pb2 import NULL_VALUE, Value
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
    message = Value()
    fill(message, value)
    return message


def fill(message: Value, value: Json) -> None:
    """Write a JSON value into an empty message. In place, because messages that are put into others are copied."""
    match value:
        case str():
            message.string_value = value
        case bool():
            message.bool_value = value
        case int() | float():
            message.number_value = value
        case None:
            message.null_value = NULL_VALUE
        case list():
            members = message.list_value.values
            message.list_value.SetInParent()
            for each in value:
                fill(members.add(), each)
        case dict():
            fields = message.struct_value.fields
            message.struct_value.SetInParent()
            for name, each in value.items():
                fill(fields[name], each)
        case _:
            raise TypeError(f"no JSON value: {type(value)}")

"""Between plain JSON values and google.protobuf.Value."""

from __future__ import annotations

from google.protobuf import struct_pb2

from penstock.json_values import MAX_WHOLE_NUMBER, Json


def to_value(value: Json) -> struct_pb2.Value:
    """`value` must be plain JSON (see `penstock.json_values.plain_json`)."""
    message = struct_pb2.Value()
    _fill(message, value)
    return message


def to_list_value(values: list[Json]) -> struct_pb2.ListValue:
    message = struct_pb2.ListValue()
    for each in values:
        _fill(message.values.add(), each)
    return message


def _fill(message: struct_pb2.Value, value: Json) -> None:
    match value:
        case None:
            message.null_value = struct_pb2.NULL_VALUE
        case bool():
            message.bool_value = value
        case int() | float():
            message.number_value = value
        case str():
            message.string_value = value
        case list():
            message.list_value.SetInParent()
            for each in value:
                _fill(message.list_value.values.add(), each)
        case dict():
            message.struct_value.SetInParent()
            for key, each in value.items():
                _fill(message.struct_value.fields[key], each)


def from_value(message: struct_pb2.Value) -> Json:
    """Numbers without a fraction come back as int."""
    match message.WhichOneof("kind"):
        case "bool_value":
            return message.bool_value
        case "number_value":
            return _number(message.number_value)
        case "string_value":
            return message.string_value
        case "list_value":
            return [from_value(each) for each in message.list_value.values]
        case "struct_value":
            return {key: from_value(each) for key, each in sorted(message.struct_value.fields.items())}
        case _:
            return None


def _number(value: float) -> int | float:
    return int(value) if value.is_integer() and abs(value) <= MAX_WHOLE_NUMBER else value

"""`dump`: from a `PipelineSpec` to the YAML that `load` reads back as the same message."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import yaml
from google.protobuf.descriptor import EnumDescriptor, FieldDescriptor
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message

from penstock.json_values import Json
from penstock.quantities import format_nanoseconds
from penstock.v1 import pipeline_pb2
from penstock.wire_values import from_value
from penstock.yaml_format.expressions import Expression, is_writable, write_expression
from penstock.yaml_format.reading import plain_scalar

# YAML takes these for line breaks too; only double quotes keep them.
_ODD_BREAKS = frozenset("\r\x85\u2028\u2029")
_SOURCES = frozenset({"value", "parameter", "step", "item"})


class _Dumper(yaml.SafeDumper):
    """Indents lists below their key and never writes anchors."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, False)

    def ignore_aliases(self, _data: Any) -> bool:
        return True


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = "|" if "\n" in text else None if _is_plain(text) else '"'
    if _ODD_BREAKS & set(text):
        style = '"'
    represent: Any = dumper.represent_scalar
    scalar: yaml.ScalarNode = represent("tag:yaml.org,2002:str", text, style=style)
    return scalar


def _is_plain(text: str) -> bool:
    """PyYAML quotes what YAML 1.1 reads as something else; the core schema has more of it, such as 1e5."""
    try:
        return isinstance(plain_scalar(text), str)
    except ValueError:
        return False


_Dumper.add_representer(str, _represent_text)


def dump(spec: pipeline_pb2.PipelineSpec) -> str:
    """Short forms where there is one; steps and parameters in their order."""
    return yaml.dump(_message(spec), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100)


def _message(message: Message) -> dict[str, Any]:
    return {field.name: _field(field, value) for field, value in message.ListFields()}


def _field(field: FieldDescriptor, value: Any) -> Any:
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        entry = field.message_type.fields_by_name["value"]
        return {key: _single(entry, value[key]) for key in sorted(value)}
    if field.is_repeated:
        return _repeated(field, value)
    return _single(field, value)


def _repeated(field: FieldDescriptor, values: Any) -> Any:
    if field.full_name in ("penstock.v1.PipelineSpec.steps", "penstock.v1.PipelineSpec.parameters"):
        names = [each.name for each in values]
        if len(set(names)) == len(names):
            return {each.name: _without_name(each) for each in values}
    return [_single(field, each) for each in values]


def _without_name(message: Message) -> Any:
    shortened = _single_message(message)
    if isinstance(shortened, dict):
        shortened.pop("name", None)
        if isinstance(message, pipeline_pb2.Parameter) and shortened.keys() == {"type"}:
            return shortened["type"]
    return shortened


def _single(field: FieldDescriptor, value: Any) -> Any:
    if field.message_type is not None:
        return _single_message(value)
    if field.enum_type is not None:
        return _enum(field.enum_type, value)
    return value


def _enum(enum: EnumDescriptor, value: int) -> str:
    prefix = enum.values[0].name.removesuffix("UNSPECIFIED")
    return enum.values_by_number[value].name.removeprefix(prefix).lower()


def _single_message(message: Message) -> Any:
    shorten: Callable[[Message], Any] = _SHORT.get(message.DESCRIPTOR.full_name, _message)
    return shorten(message)


def _duration(message: Message) -> str:
    return format_nanoseconds(cast("Duration", message).ToNanoseconds())


def _function(message: Message) -> Any:
    action = cast("pipeline_pb2.FunctionAction", message)
    if ":" in action.module or "#" in action.qualname or not action.module or not action.qualname:
        return _message(action)
    digest = f"#{action.code_digest}" if action.code_digest else ""
    return f"{action.module}:{action.qualname}{digest}"


def _command(message: Message) -> Any:
    action = cast("pipeline_pb2.CommandAction", message)
    members = _message(action)
    if members.keys() == {"argv"}:
        return members["argv"]
    return members["shell"] if members.keys() == {"shell"} else members


def _input(message: Message) -> Any:
    source = cast("pipeline_pb2.Input", message)
    match source.WhichOneof("source"):
        case "value":
            return _constant(from_value(source.value))
        case "parameter":
            return _reference(source, Expression("params", source.parameter))
        case "step":
            return _reference(source, Expression("steps", source.step.step, tuple(source.step.path)))
        case "item":
            return _reference(source, Expression("item", path=tuple(source.item.path)))
        case _:
            return {}


def _constant(value: Json) -> Any:
    """What could be read as a reference goes below `value`, where everything is taken as it stands."""
    if _holds_expression(value) or (isinstance(value, dict) and _SOURCES & value.keys()):
        return {"value": value}
    return value


def _holds_expression(value: Json) -> bool:
    if isinstance(value, str):
        return "${" in value
    members: Any = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return any(_holds_expression(member) for member in members)


def _reference(message: Message, expression: Expression) -> Any:
    return write_expression(expression) if is_writable(expression) else _message(message)


def _map(message: Message) -> Any:
    spec = cast("pipeline_pb2.MapSpec", message)
    form = _several(spec) if spec.lists else _one_list(spec)
    if form is None:
        return _message(spec)
    members = {field.name for field, _ in spec.ListFields()}
    if members <= {"parameter", "step", "values"} and form.keys() == {"over"}:
        return form["over"]
    return {**form, **({"max_parallel": spec.max_parallel} if spec.max_parallel else {})}


def _several(spec: pipeline_pb2.MapSpec) -> dict[str, Any] | None:
    """None: there is no short form."""
    from penstock.v1.pipeline_pb2 import MAP_COMBINATION_ZIP

    names = [each.name for each in spec.lists]
    members = {field.name for field, _ in spec.ListFields()} - {"max_parallel", "lists", "combination"}
    if members or len(set(names)) < len(names) or spec.combination not in (0, MAP_COMBINATION_ZIP):
        return None
    form = "zip" if spec.combination else "product"
    return {form: {each.name: _list_over(each) for each in spec.lists}}


def _one_list(spec: pipeline_pb2.MapSpec) -> dict[str, Any] | None:
    if spec.combination:
        return None
    if not spec.joined and not spec.HasField("nested"):
        form = _list_over(spec)
        return form if isinstance(form, dict) else {"over": form}
    if spec.WhichOneof("over") != "step" or (spec.joined and spec.HasField("nested")):
        return None
    if spec.HasField("nested"):
        whole = Expression("steps", spec.step.step, tuple(spec.nested.path))
        return {"nested": write_expression(whole)} if is_writable(whole) and not spec.step.path else None
    output = Expression("steps", spec.step.step, tuple(spec.step.path))
    return {"joined": write_expression(output)} if is_writable(output) else None


def _list_over(spec: pipeline_pb2.MapSpec | pipeline_pb2.MapList) -> Any:
    """What stands for a list: a text, a list, or an object with the message's member."""
    match spec.WhichOneof("over"):
        case "parameter":
            return _short_over(Expression("params", spec.parameter), {"parameter": spec.parameter})
        case "step":
            output = Expression("steps", spec.step.step, tuple(spec.step.path))
            return _short_over(output, {"step": _message(spec.step)})
        case "values":
            values = [from_value(value) for value in spec.values.values]
            return {"values": values} if _holds_expression(values) else values
        case _:
            return {}


def _short_over(expression: Expression, message: dict[str, Any]) -> Any:
    return write_expression(expression) if is_writable(expression) else message


def _concurrency(message: Message) -> Any:
    limited = cast("pipeline_pb2.Concurrency", message)
    members = _message(limited)
    return members["key"] if members.keys() == {"key"} and "${" not in limited.key else members


def _cache(message: Message) -> Any:
    members = _message(cast("pipeline_pb2.CachePolicy", message))
    if members == {"disabled": True}:
        return False
    return members or True


def _secret(message: Message) -> Any:
    members = _message(message)
    return members["name"] if members.keys() == {"name"} else members


def _environment(message: Message) -> Any:
    members = _message(message)
    python = members.get("python", {})
    return python["requirements"] if python.keys() == {"requirements"} else members


def _value(message: Message) -> Any:
    from google.protobuf.struct_pb2 import Value

    return from_value(cast("Value", message))


def _list_value(message: Message) -> Any:
    from google.protobuf.struct_pb2 import ListValue

    return [from_value(value) for value in cast("ListValue", message).values]


_SHORT: dict[str, Callable[[Message], Any]] = {
    "google.protobuf.Duration": _duration,
    "google.protobuf.Value": _value,
    "google.protobuf.ListValue": _list_value,
    "penstock.v1.FunctionAction": _function,
    "penstock.v1.CommandAction": _command,
    "penstock.v1.Input": _input,
    "penstock.v1.MapSpec": _map,
    "penstock.v1.Concurrency": _concurrency,
    "penstock.v1.CachePolicy": _cache,
    "penstock.v1.SecretUse": _secret,
    "penstock.v1.Environment": _environment,
}

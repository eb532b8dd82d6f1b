"""From a plain value to the form of protobuf's JSON mapping, led by the message's descriptor.

Members may be snake_case or camelCase, enum values have their short names in any case, spans of time and sizes are
as people write them. Everything is checked here, so that an error names the place in the document.
"""

from __future__ import annotations

import sys
from typing import Any

from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor

from penstock.names import nearest
from penstock.quantities import SIZE_REMEDY, SPAN_REMEDY, nanoseconds, size_bytes
from penstock.yaml_format.reading import Path, YamlDocument
from penstock.yaml_format.short_forms import ShortForms, check_constant

_INTEGERS = {FieldDescriptor.CPPTYPE_INT32: 31, FieldDescriptor.CPPTYPE_INT64: 63}
"""How many bits a number has besides its sign."""
_FLOATS = frozenset({FieldDescriptor.CPPTYPE_DOUBLE, FieldDescriptor.CPPTYPE_FLOAT})

_LARGEST = sys.float_info.max

# Members that people may write under another name.
_ALIASES = {("penstock.v1.Resources", "memory"): "memory_bytes"}

# Lists of messages with a name of their own may be written as a mapping from that name.
_NAMED = frozenset(
    {
        "penstock.v1.Parameter",
        "penstock.v1.StepSpec",
        "penstock.v1.CommandOutput",
        "penstock.v1.MapList",
        "penstock.v1.SecretUse",
    }
)

# What the document may say besides the message's fields; it is read before.
_WRITTEN_BESIDES = {
    "penstock.v1.PipelineSpec": ("bundle", "kinds", "structure"),
    "penstock.v1.StepSpec": ("type", "config", "from"),
}

# What only a template may say of a step.
TEMPLATE_MEMBERS = frozenset({"for_each", "as", "if", "unless"})
_TEMPLATE_REMEDY = (
    "it is part of a template: declare the template's arguments under `structure:` (an empty one will do)"
)


class Normaliser:
    def __init__(self, document: YamlDocument) -> None:
        self._document = document
        self._forms = ShortForms(document)

    def message(self, descriptor: Descriptor, value: Any, path: Path) -> Any:
        """What stands for a message of this type, as json_format.ParseDict takes it."""
        match descriptor.full_name:
            case "google.protobuf.Duration":
                return self._span(value, path)
            case "google.protobuf.Value":
                return check_constant(value, path, self._document)
            case "google.protobuf.ListValue":
                return check_constant(self._list(value, path), path, self._document)
        value = self._forms.write_out(descriptor.full_name, value, path)
        if not isinstance(value, dict):
            raise self._document.error(
                f"{_shown(value)} stands where an object is needed", path, self._members_remedy(descriptor)
            )
        return self._members(descriptor, value, path)

    def members(self, field: FieldDescriptor, value: Any, path: Path) -> list[Any]:
        """What stands for a repeated field, wherever in the document it is written."""
        return self._repeated(field, value, path)

    def _members(self, descriptor: Descriptor, value: dict[str, Any], path: Path) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for key, member in value.items():
            field = self._field(descriptor, key, path)
            if field.name in result:
                raise self._document.error("the field is given twice", (*path, key), "give it once")
            if member is None and not _takes_null(field):
                continue
            result[field.name] = self._value(field, member, (*path, key))
        self._check_oneofs(descriptor, result, path)
        return result

    def _field(self, descriptor: Descriptor, key: str, path: Path) -> FieldDescriptor:
        key_name = _ALIASES.get((descriptor.full_name, key), key)
        field = descriptor.fields_by_name.get(key_name) or descriptor.fields_by_camelcase_name.get(key)
        if field is None:
            known = {*descriptor.fields_by_name, *_WRITTEN_BESIDES.get(descriptor.full_name, ())}
            remedy = _TEMPLATE_REMEDY if key in TEMPLATE_MEMBERS else nearest(key, known)
            raise self._document.error("there is no such field", (*path, key), remedy)
        return field

    def _check_oneofs(self, descriptor: Descriptor, result: dict[str, Any], path: Path) -> None:
        for oneof in descriptor.oneofs:
            given = [field.name for field in oneof.fields if field.name in result]
            if len(given) > 1:
                raise self._document.error(f"{' and '.join(given)} are both given", path, "give one of them")

    def _members_remedy(self, descriptor: Descriptor) -> str:
        return "give an object with " + ", ".join(field.name for field in descriptor.fields)

    def _value(self, field: FieldDescriptor, value: Any, path: Path) -> Any:
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            return self._map(field.message_type, value, path)
        if field.is_repeated:
            return self._repeated(field, value, path)
        return self._single(field, value, path)

    def _map(self, entry: Descriptor, value: Any, path: Path) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise self._document.error(f"{_shown(value)} is no object", path, "write `name: value` lines")
        field = entry.fields_by_name["value"]
        return {key: self._single(field, each, (*path, key)) for key, each in value.items()}

    def _repeated(self, field: FieldDescriptor, value: Any, path: Path) -> list[Any]:
        message = field.message_type
        if isinstance(value, dict) and message is not None and message.full_name in _NAMED:
            return [self._named(message, name, each, (*path, name)) for name, each in value.items()]
        members = self._list(value, path)
        return [self._single(field, each, (*path, at)) for at, each in enumerate(members)]

    def _named(self, descriptor: Descriptor, name: str, value: Any, path: Path) -> dict[str, Any]:
        message: dict[str, Any] = self.message(descriptor, {} if value is None else value, path)
        if message.get("name", name) != name:
            raise self._document.error(f"the name is also given as {message['name']!r}", path, "leave out `name`")
        return {"name": name, **message}

    def _list(self, value: Any, path: Path) -> list[Any]:
        if not isinstance(value, list):
            raise self._document.error(f"{_shown(value)} is no list", path, "write a list, for example [a, b]")
        return value

    def _single(self, field: FieldDescriptor, value: Any, path: Path) -> Any:
        if field.message_type is not None:
            return self.message(field.message_type, value, path)
        if field.enum_type is not None:
            return self._enum(field.enum_type, value, path)
        if field.full_name == "penstock.v1.Resources.memory_bytes":
            return self._size(value, path)
        return self._scalar(field, value, path)

    def _scalar(self, field: FieldDescriptor, value: Any, path: Path) -> Any:
        kind = field.cpp_type
        if kind == FieldDescriptor.CPPTYPE_STRING:
            return self._checked(value, path, isinstance(value, str), "no text", "put it in quotes")
        if kind == FieldDescriptor.CPPTYPE_BOOL:
            return self._checked(value, path, isinstance(value, bool), "no bool", "write true or false")
        whole = isinstance(value, int) and not isinstance(value, bool)
        if kind in _INTEGERS:
            self._checked(value, path, whole, "no whole number", "write a number such as 3")
            fits = -(1 << _INTEGERS[kind]) <= value < 1 << _INTEGERS[kind]
            return self._checked(value, path, fits, "out of range", f"it has at most {_INTEGERS[kind]} bits")
        if kind in _FLOATS:
            number = whole or isinstance(value, float)
            self._checked(value, path, number, "no number", "write a number such as 0.5")
            return self._checked(value, path, abs(value) <= _LARGEST, "out of range", "write a smaller number")
        raise AssertionError(f"no field of the specification is of this kind: {field.full_name}")

    def _checked(self, value: Any, path: Path, holds: bool, problem: str, remedy: str) -> Any:
        if not holds:
            raise self._document.error(f"{_shown(value)} is {problem}", path, remedy)
        return value

    def _enum(self, enum: EnumDescriptor, value: Any, path: Path) -> str:
        prefix = _enum_prefix(enum)
        known = {name.removeprefix(prefix) for name in enum.values_by_name if not name.endswith("_UNSPECIFIED")}
        name = str(value).upper().replace("-", "_").removeprefix(prefix)
        if not isinstance(value, str) or name not in known:
            remedy = nearest(name.lower(), {each.lower() for each in known})
            raise self._document.error(f"{_shown(value)} is not known", path, remedy)
        return f"{prefix}{name}"

    def _span(self, value: Any, path: Path) -> str:
        try:
            seconds, rest = divmod(nanoseconds(value), 10**9)
        except ValueError as error:
            raise self._document.error(str(error), path, SPAN_REMEDY) from None
        return f"{seconds}.{rest:09}s"

    def _size(self, value: Any, path: Path) -> int:
        try:
            return size_bytes(value)
        except ValueError as error:
            raise self._document.error(str(error), path, SIZE_REMEDY) from None


def _takes_null(field: FieldDescriptor) -> bool:
    """A null in a member of JSON values is a value; named things need no members; elsewhere it is "not said"."""
    message = field.message_type
    return message is not None and message.full_name == "google.protobuf.Value"


def _enum_prefix(enum: EnumDescriptor) -> str:
    return enum.values[0].name.removesuffix("UNSPECIFIED")


def _shown(value: Any) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case dict():
            return "an object"
        case list():
            return "a list"
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:59]}…"

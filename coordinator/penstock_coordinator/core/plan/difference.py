"""What is different between two specifications, field by field and step by step.

Steps are matched by name. A step that is gone and one that came are the same, renamed, if all else is equal; names of
steps in inputs, maps and `depends_on` are compared as if the renamed ones had had their new names before.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from google.protobuf import json_format
from google.protobuf.descriptor import EnumDescriptor, FieldDescriptor
from google.protobuf.message import Message

from penstock.v1 import pipeline_pb2 as pb
from penstock_coordinator.core.plan.validation.report import member

_RENAMING_ROUNDS = 16
"""Renamed steps are found from the first ones on; those that only a longer search would find count as replaced."""
_AS_JSON = frozenset({"google.protobuf.Duration", "google.protobuf.Value", "google.protobuf.ListValue"})
_REFERENCE = "penstock.v1.OutputReference"


class Kind(Enum):
    ADDED = 1
    REMOVED = 2
    CHANGED = 3
    RENAMED = 4


@dataclass(frozen=True, slots=True)
class FieldChange:
    """Values as JSON texts; None: not there."""

    path: str
    before: str | None
    after: str | None


@dataclass(frozen=True, slots=True)
class StepDifference:
    step: str
    kind: Kind
    former_name: str = ""
    changes: list[FieldChange] = field(default_factory=list)
    code_changed: bool = False


@dataclass(frozen=True, slots=True)
class SpecDifference:
    """`steps` are those that differ, in the order of the later specification, removed ones last."""

    changes: list[FieldChange]
    steps: list[StepDifference]


def difference(before: pb.PipelineSpec, after: pb.PipelineSpec) -> SpecDifference:
    return _Comparison(before, after).difference()


class _Comparison:
    def __init__(self, before: pb.PipelineSpec, after: pb.PipelineSpec) -> None:
        self._before = before
        self._after = after
        self._old = {step.name: step for step in before.steps}
        self._new = {step.name: step for step in after.steps}
        self._renamed = self._find_renamed()
        self._former = {new: old for old, new in self._renamed.items()}

    def difference(self) -> SpecDifference:
        found = [self._step(step) for step in self._after.steps]
        gone = [
            StepDifference(step.name, Kind.REMOVED)
            for step in self._before.steps
            if step.name not in self._new and step.name not in self._renamed
        ]
        return SpecDifference(list(self._outside()), [*(each for each in found if each is not None), *gone])

    def _outside(self) -> Iterator[FieldChange]:
        old = _members(self._before, self._renamed, skip="steps")
        return _changes(old, _members(self._after, {}, skip="steps"), "")

    def _step(self, step: pb.StepSpec) -> StepDifference | None:
        former = self._former.get(step.name)
        if former is not None:
            return StepDifference(step.name, Kind.RENAMED, former)
        old = self._old.get(step.name)
        if old is None:
            return StepDifference(step.name, Kind.ADDED)
        code_changed = self._code_changed(old, step)
        if old == step and not code_changed:
            return None
        changes = list(_changes(_step_members(old, self._renamed), _step_members(step, {}), ""))
        if not changes and not code_changed:
            return None
        return StepDifference(step.name, Kind.CHANGED, "", changes, code_changed)

    def _code_changed(self, old: pb.StepSpec, new: pb.StepSpec) -> bool:
        """Where a digest of the function is not known, the bundle's counts."""
        if not (old.HasField("function") and new.HasField("function")):
            return False
        if old.function.code_digest and new.function.code_digest:
            return old.function.code_digest != new.function.code_digest
        return self._before.bundle_digest != self._after.bundle_digest

    def _find_renamed(self) -> dict[str, str]:
        """New names by former ones. Equal steps are matched in their order."""
        gone = [step for step in self._before.steps if step.name not in self._new]
        came: dict[str, list[pb.StepSpec]] = {}
        for step in self._after.steps if gone else ():
            if step.name not in self._old:
                came.setdefault(_content(step, {}, self._after.bundle_digest), []).append(step)
        renamed: dict[str, str] = {}
        for _ in range(_RENAMING_ROUNDS):
            left = [step for step in gone if not self._match(step, came, renamed)]
            if not came or len(left) == len(gone):
                break
            gone = left
        return renamed

    def _match(self, step: pb.StepSpec, came: dict[str, list[pb.StepSpec]], renamed: dict[str, str]) -> bool:
        content = _content(step, renamed, self._before.bundle_digest)
        same = came.get(content)
        if not same:
            return False
        renamed[step.name] = same.pop(0).name
        if not same:
            del came[content]
        return True


def _content(step: pb.StepSpec, renamed: Mapping[str, str], bundle_digest: str) -> str:
    """All of a step but its name, with what tells its code."""
    code = (step.function.code_digest or bundle_digest) if step.HasField("function") else ""
    return json.dumps([_step_members(step, renamed), code], sort_keys=True)


def _step_members(step: pb.StepSpec, renamed: Mapping[str, str]) -> dict[str, Any]:
    """Without the name, and without the code's digest: that it is another is said in words."""
    members = _members(step, renamed, skip="name")
    members.get("function", {}).pop("code_digest", None)
    if "depends_on" in members:
        members["depends_on"] = sorted(renamed.get(name, name) for name in members["depends_on"])
    return members


def _members(message: Message, renamed: Mapping[str, str], skip: str = "") -> dict[str, Any]:
    """A message as plain values: enums by their short names, lists of things with a name by it."""
    members = {field.name: _value(field, value, renamed) for field, value in message.ListFields() if field.name != skip}
    if message.DESCRIPTOR.full_name == _REFERENCE and "step" in members:
        members["step"] = renamed.get(members["step"], members["step"])
    return members


def _value(field: FieldDescriptor, value: Any, renamed: Mapping[str, str]) -> Any:
    message = field.message_type
    if message is not None and message.GetOptions().map_entry:
        entry = message.fields_by_name["value"]
        return {key: _single(entry, each, renamed) for key, each in value.items()}
    if not field.is_repeated:
        return _single(field, value, renamed)
    singles = [_single(field, each, renamed) for each in value]
    if message is not None and "name" in message.fields_by_name:
        named = {each.get("name", ""): each for each in singles}
        if len(named) == len(singles):
            return {name: _without_name(single) for name, single in named.items()}
    return singles


def _without_name(members: dict[str, Any]) -> dict[str, Any]:
    return {key: each for key, each in members.items() if key != "name"}


def _single(field: FieldDescriptor, value: Any, renamed: Mapping[str, str]) -> Any:
    if field.message_type is not None:
        if field.message_type.full_name in _AS_JSON:
            return json_format.MessageToDict(value)
        return _members(value, renamed)
    return _enum(field.enum_type, value) if field.enum_type is not None else value


def _enum(enum: EnumDescriptor, value: int) -> Any:
    known = enum.values_by_number.get(value)
    return value if known is None else known.name.removeprefix(enum.values[0].name.removesuffix("UNSPECIFIED")).lower()


def _changes(before: Any, after: Any, path: str) -> Iterator[FieldChange]:
    if isinstance(before, dict) and isinstance(after, dict):
        for key in [*before, *(key for key in after if key not in before)]:
            inner = f"{path}[{member(key)}]" if not key.isidentifier() else f"{path}.{key}" if path else key
            if key not in after:
                yield FieldChange(inner, _text(before[key]), None)
            elif key not in before:
                yield FieldChange(inner, None, _text(after[key]))
            else:
                yield from _changes(before[key], after[key], inner)
    elif _text(before) != _text(after):
        yield FieldChange(path, _text(before), _text(after))


def _text(value: Any) -> str:
    return json.dumps(_whole(value), ensure_ascii=False, sort_keys=True)


def _whole(value: Any) -> Any:
    """Numbers without a fraction as people write them: JSON's numbers come as doubles."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, list):
        return [_whole(each) for each in value]
    return {key: _whole(each) for key, each in value.items()} if isinstance(value, dict) else value

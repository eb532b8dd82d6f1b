"""From a YAML template to the plain document that it stands for: loops, conditions and `$[…]` written out.

The expansion is a function of the document and the arguments alone, and bounded. Errors name the place in the file.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from penstock.json_values import Json
from penstock.names import NAME, NAME_REMEDY
from penstock.quantities import format_size
from penstock.yaml_format.copies import Copies, Copy
from penstock.yaml_format.reading import MAX_TEXT_BYTES, Path, YamlDocument
from penstock.yaml_format.structure import SECTION
from penstock.yaml_format.substitution import (
    Place,
    SubstitutionError,
    kind_of,
    read_variable,
    scalar_text,
    substitute,
)

MAX_STEPS = 100_000
MAX_BYTES = MAX_TEXT_BYTES

LOOP_MEMBERS = ("for_each", "as")
_OWN_MEMBERS = frozenset({*LOOP_MEMBERS, "if", "unless"})
_SOURCES = frozenset({"parameter", "step", "item"})
_PLACES = {
    **dict.fromkeys(
        ("name", "description", "labels", "env", "queue", "depends_on", "dependsOn", "bundle", "kinds", "allow_pickle"),
        Place.TEXT,
    ),
    **dict.fromkeys(("type", "compensate", "from", "function", "argv", "key"), Place.TEXT),
    **dict.fromkeys(("config", "inputs", "map", "output", "outputs"), Place.CONSTANT),
    **dict.fromkeys(("when", "key_expression", "keyExpression"), Place.CONDITION),
    "shell": Place.SCRIPT,
    "parameters": Place.RAW,
}


def expand(document: YamlDocument, arguments: Mapping[str, Json]) -> YamlDocument:
    """The document without its `structure:`; the use is kept in its member `template`."""
    return _Expansion(document, dict(arguments)).document()


@dataclass(slots=True)
class _Expansion:
    source: YamlDocument
    arguments: dict[str, Json]
    places: dict[Path, tuple[int, int]] = field(default_factory=dict)
    bytes: int = 0
    steps: int = 0

    def document(self) -> YamlDocument:
        content: Any = self.source.value
        name = content.get("name")
        result: dict[str, Json] = {}
        for key, value in content.items():
            self._keep_place((key,), (key,))
            if key == "steps":
                result[key] = self._steps(value)
                if value and not result[key]:
                    raise self.source.error(
                        "nothing is left after the expansion of the template",
                        (key,),
                        "give the lists of for_each an item, or let an `if:` hold",
                    )
            elif key == "template":
                raise self.source.error("a template cannot say what it was made from", (key,), "leave it out")
            elif key != SECTION:
                result[key] = self._value(value, (key,), (key,), self.arguments, _PLACES.get(key, Place.VALUE))
        result["template"] = {"name": name if isinstance(name, str) else "", "arguments": dict(self.arguments)}
        return YamlDocument(result, self.places)

    # Steps

    def _steps(self, steps: Any) -> Json:
        copies = Copies(self.source)
        if isinstance(steps, dict):
            for family, body in steps.items():
                self._family(copies, family, body, ("steps", family))
            return self._settled(copies, {copy.name: copy for copy in copies.included()})
        if not isinstance(steps, list):
            return steps  # type: ignore[no-any-return]  # JSON, which the reader refuses with its place
        for at, body in enumerate(steps):
            family = body.get("name") if isinstance(body, dict) else None
            if not isinstance(family, str):
                raise self.source.error("the step has no name", ("steps", at), "give each step of a list a name")
            body = {key: value for key, value in body.items() if key != "name"}
            self._family(copies, family, body, ("steps", at))
        return self._settled(copies, {copy.name: copy for copy in copies.included()})

    def _settled(self, copies: Copies, included: dict[str, Copy]) -> Json:
        """Bodies by name, after what they name is resolved."""
        return {name: copies.resolved(copy) for name, copy in included.items()}

    def _family(self, copies: Copies, family: str, body: Any, old: Path) -> None:
        looped = isinstance(body, dict) and "for_each" in body
        copies.add_family(family, looped)
        for name, scope in self._loop(family, body if isinstance(body, dict) else {}, old, self.arguments):
            self._count_step(old)
            if looped and not NAME.fullmatch(name):
                raise self.source.error(f"{name!r} is no valid name of a step", old, f"{NAME_REMEDY}; see `as:`")
            new: Path = ("steps", name)
            self._keep_place(old, new)
            included = not isinstance(body, dict) or self._holds(body, old, scope)
            copies.add(Copy(family, name, included, self._step(body, old, new, scope), new, old))

    def _count_step(self, old: Path) -> None:
        self.steps += 1
        if self.steps > MAX_STEPS:
            raise self.source.error(
                f"the template makes more than {MAX_STEPS:,} steps", old, "make the lists of for_each shorter"
            )

    def _step(self, body: Any, old: Path, new: Path, scope: Mapping[str, Json]) -> Json:
        if not isinstance(body, dict):
            return self._value(body, old, new, scope, Place.VALUE)
        result: dict[str, Json] = {}
        for member, value in body.items():
            if member in _OWN_MEMBERS:
                continue
            at, to = (*old, member), (*new, member)
            self._keep_place(at, to)
            if member == "inputs" and isinstance(value, dict):
                result[member] = self._inputs(value, at, to, scope)
            elif member == "map":
                result[member] = self._map(value, at, to, scope)
            elif member == "pipeline":
                place = Place.TEXT if isinstance(value, str) else Place.VALUE
                result[member] = self._value(value, at, to, scope, place)
            elif member == "command":
                result[member] = self._command(value, at, to, scope)
            elif member == "compensate" and isinstance(value, dict):
                self._keep_place(at, to)
                result[member] = self._step(value, at, to, scope)
            else:
                result[member] = self._value(value, at, to, scope, _PLACES.get(member, Place.VALUE))
        return result

    def _command(self, value: Any, old: Path, new: Path, scope: Mapping[str, Json]) -> Json:
        """A list is argv, a text a script, unless it is an argument that is a list."""
        whole = self._whole(value, old, scope)
        if isinstance(value, list) or (whole is not None and isinstance(whole[0], list)):
            return self._value(value, old, new, scope, Place.TEXT)
        if not isinstance(value, dict):
            return self._value(value, old, new, scope, Place.SCRIPT)
        places = {"shell": Place.SCRIPT, "argv": Place.TEXT, "outputs": Place.TEXT, "input_files": Place.TEXT}
        return {
            key: self._value(each, (*old, key), (*new, key), scope, places.get(key, Place.RAW))
            for key, each in value.items()
        }

    def _inputs(self, inputs: dict[str, Any], old: Path, new: Path, scope: Mapping[str, Json]) -> dict[str, Json]:
        result: dict[str, Json] = {}
        for key, source in inputs.items():
            looped = isinstance(source, dict) and "for_each" in source
            at = (*old, key)
            for name, inner in self._loop(key, source if looped else {}, at, scope):
                if name in result:
                    raise self.source.error(f"two inputs are named {name!r}", at, "give them other names with `as:`")
                self._keep_place(at, (*new, name))
                value = self._looped_source(source, at) if looped else source
                result[name] = self._input(value, (*at, "from") if looped else at, (*new, name), inner)
        return result

    def _looped_source(self, source: dict[str, Any], old: Path) -> Any:
        unknown = source.keys() - {*LOOP_MEMBERS, "from"}
        if unknown or "from" not in source:
            raise self.source.error(
                f"{min(unknown)!r} has no place in a repeated input" if unknown else "the repeated input has no `from`",
                old,
                "write {for_each: …, as: …, from: …}",
            )
        return source["from"]

    def _input(self, value: Any, old: Path, new: Path, scope: Mapping[str, Json]) -> Json:
        if isinstance(value, dict) and value.keys() & _SOURCES:
            return self._value(value, old, new, scope, Place.TEXT)
        if isinstance(value, dict) and value.keys() == {"value"}:
            return self._value(value, old, new, scope, Place.RAW)
        whole = self._whole(value, old, scope)
        if whole is not None:
            return {"value": whole[0]}
        return self._value(value, old, new, scope, Place.CONSTANT)

    def _map(self, value: Any, old: Path, new: Path, scope: Mapping[str, Json]) -> Json:
        whole = self._whole(value, old, scope)
        if whole is not None:
            return {"values": whole[0]}
        place = Place.RAW if isinstance(value, dict) and value.keys() == {"values"} else Place.CONSTANT
        return self._value(value, old, new, scope, place)

    def _whole(self, value: Any, old: Path, scope: Mapping[str, Json]) -> tuple[Json] | None:
        """The value of the variable that the text is; None if it is something else."""
        if not isinstance(value, str) or not value.strip().startswith("$[") or "${" in value:
            return None
        text = value.strip()
        try:
            variable = read_variable(text[2:-1])
        except SubstitutionError:
            return None
        if variable.text != text:
            return None
        return (self._text(value, old, scope, Place.RAW),)

    # Loops and conditions

    def _loop(
        self, base: str, body: Mapping[str, Any], old: Path, scope: Mapping[str, Json]
    ) -> Iterator[tuple[str, Mapping[str, Json]]]:
        """The name and the scope of each copy; without `for_each` the one that there is."""
        if "for_each" not in body:
            if "as" in body:
                raise self.source.error(
                    "`as` names the copies of a loop", (*old, "as"), "add for_each, or leave it out"
                )
            yield str(self._text(base, old, scope, Place.TEXT)), scope
            return
        if "$[" in base:
            raise self.source.error(
                "the name of a loop stands for all of its copies",
                old,
                "name the copies with `as:`, and the loop plainly",
            )
        for row in self._rows(body["for_each"], (*old, "for_each"), scope):
            inner = {**scope, **row}
            yield self._copy_name(base, body, old, row, inner), inner

    def _copy_name(
        self, base: str, body: Mapping[str, Any], old: Path, row: Mapping[str, Json], scope: Mapping[str, Json]
    ) -> str:
        if "as" in body:
            if not isinstance(body["as"], str):
                raise self.source.error("the name of the copies is no text", (*old, "as"), "for example load_$[table]")
            return str(self._text(body["as"], (*old, "as"), scope, Place.TEXT))
        try:
            return "_".join([base, *(scalar_text(value) for value in row.values())])
        except SubstitutionError:
            raise self.source.error(
                "the copies cannot be named by their values", (*old, "for_each"), "name them with `as:`"
            ) from None

    def _rows(self, loop: Any, old: Path, scope: Mapping[str, Json]) -> Iterator[dict[str, Json]]:
        if not isinstance(loop, dict) or not loop:
            raise self.source.error("for_each names no variable", old, 'for example for_each: {table: "$[tables]"}')
        lists = [self._list(value, (*old, name), scope) for name, value in loop.items()]
        for name in loop:
            if name in scope:
                raise self.source.error(f"{name!r} is an argument or an outer variable", (*old, name), "rename it")
        if math.prod(map(len, lists)) > MAX_STEPS:
            raise self.source.error(
                f"the loop makes more than {MAX_STEPS:,} copies", old, "make the lists of for_each shorter"
            )
        for values in itertools.product(*lists):
            yield dict(zip(loop, values, strict=True))

    def _list(self, value: Any, old: Path, scope: Mapping[str, Json]) -> list[Json]:
        """A list as it stands; a whole number N is 0 to N - 1."""
        found = self._value(value, old, old, scope, Place.RAW)
        if isinstance(found, list):
            return found
        if isinstance(found, int) and not isinstance(found, bool) and found >= 0:
            if found > MAX_STEPS:
                raise self.source.error(f"{found:,} copies are past the limit of {MAX_STEPS:,}", old, "make it smaller")
            return list(range(found))
        raise self.source.error(f"{kind_of(found)} is no list to loop over", old, "give a list, or a count from 0 on")

    def _holds(self, body: Mapping[str, Any], old: Path, scope: Mapping[str, Json]) -> bool:
        wanted = "if" not in body or self._test(body["if"], (*old, "if"), scope)
        return wanted and not ("unless" in body and self._test(body["unless"], (*old, "unless"), scope))

    def _test(self, condition: Any, old: Path, scope: Mapping[str, Json]) -> bool:
        """A bool, or {name: value} and {name: [values]}, which must all be so."""
        if isinstance(condition, dict):
            return all(self._equals(name, value, (*old, name), scope) for name, value in condition.items())
        found = self._value(condition, old, old, scope, Place.RAW)
        if isinstance(found, bool):
            return found
        raise self.source.error(
            f"{kind_of(found)} is neither true nor false", old, "give a bool, or compare: {name: value}"
        )

    def _equals(self, name: str, value: Any, old: Path, scope: Mapping[str, Json]) -> bool:
        expected = self._value(value, old, old, scope, Place.RAW)
        try:
            found = read_variable(name).value(scope)
        except SubstitutionError as error:
            raise self.source.error(str(error), old, error.remedy) from None
        among = expected if isinstance(expected, list) else [expected]
        return _canonical(found) in [_canonical(each) for each in among]

    # Values

    def _value(self, value: Any, old: Path, new: Path, scope: Mapping[str, Json], place: Place) -> Json:
        self._keep_place(old, new)
        if isinstance(value, str):
            return self._text(value, old, scope, place)
        if isinstance(value, list):
            return [self._value(each, (*old, at), (*new, at), scope, place) for at, each in enumerate(value)]
        if not isinstance(value, dict):
            return value  # type: ignore[no-any-return]  # a scalar of JSON
        result: dict[str, Json] = {}
        for key, member in value.items():
            name = str(self._text(key, (*old, key), scope, Place.TEXT))
            if name in result:
                raise self.source.error(f"the key {name!r} comes twice", (*old, key), "make them differ")
            inner = _PLACES.get(key, place) if place is Place.VALUE else place
            result[name] = self._value(member, (*old, key), (*new, name), scope, inner)
        return result

    def _text(self, text: str, old: Path, scope: Mapping[str, Json], place: Place) -> Json:
        try:
            value = substitute(text, scope, place)
        except SubstitutionError as error:
            raise self.source.error(str(error), old, error.remedy) from None
        self.bytes += len(value) + 1 if isinstance(value, str) else len(json.dumps(value))
        if self.bytes > MAX_BYTES:
            raise self.source.error(
                f"the template grows past {format_size(MAX_BYTES)}", old, "make the lists of for_each shorter"
            )
        return value

    def _keep_place(self, old: Path, new: Path) -> None:
        if old in self.source.places:
            self.places[new] = self.source.places[old]


def _canonical(value: Json) -> str:
    return json.dumps(value, sort_keys=True)

"""The types of a pipeline's parameters, and whether a value fits one."""

from __future__ import annotations

import json
import re
from enum import StrEnum

from penstock.errors import ParameterError, PenstockError
from penstock.json_values import Json, plain_json

_INT = re.compile(r"[-+]?[0-9]{1,40}")
"""Longer ones are past what a parameter can be, and Python reads none of more than 4,300 digits."""
_SHOWN = 60


class ParameterType(StrEnum):
    STRING = "string"
    INT = "int"
    FLOAT = "float"
    BOOL = "bool"
    LIST = "list"
    MAP = "map"
    ANY = "any"


_PYTHON: dict[ParameterType, tuple[type, ...]] = {
    ParameterType.STRING: (str,),
    ParameterType.INT: (int,),
    ParameterType.FLOAT: (int, float),
    ParameterType.BOOL: (bool,),
    ParameterType.LIST: (list,),
    ParameterType.MAP: (dict,),
}


def fits(kind: ParameterType, value: Json) -> bool:
    if kind is ParameterType.ANY:
        return True
    if isinstance(value, bool):
        return kind is ParameterType.BOOL
    return isinstance(value, _PYTHON[kind])


def check_fits(kind: ParameterType, value: Json, field: str, error: type[PenstockError] = ParameterError) -> Json:
    """`value`, if it is of the type. An error that names `field` otherwise."""
    if not fits(kind, value):
        raise error(f"{_shown(value)} does not fit the type {kind.value}", field=field, remedy=_remedy(kind, value))
    return value


def _shown(value: Json) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


def _remedy(kind: ParameterType, value: Json) -> str:
    if value is None:
        return "only a parameter of type any can be null"
    return {
        ParameterType.STRING: "give a text",
        ParameterType.INT: "give a whole number",
        ParameterType.FLOAT: "give a number",
        ParameterType.BOOL: "give true or false",
        ParameterType.LIST: "give a list",
        ParameterType.MAP: "give an object with text keys",
    }.get(kind, "")


def parse_text(kind: ParameterType, text: str, name: str) -> Json:
    """The value that a text of the command line means for a type: a string as it stands, everything else as JSON.

    ParameterError names `name`.
    """
    if kind is ParameterType.STRING:
        return plain_json(text, name, ParameterError)
    if kind is ParameterType.BOOL and text.lower() in ("true", "false"):
        return text.lower() == "true"
    if kind is ParameterType.INT and _INT.fullmatch(text):
        return plain_json(int(text), name, ParameterError)
    try:
        read = json.loads(text, object_pairs_hook=lambda pairs: _object(pairs, name))
    except (ValueError, RecursionError):
        if kind is not ParameterType.ANY:
            raise ParameterError(
                f"{_shown(text)} does not fit the type {kind.value}", field=name, remedy=_FORMS[kind]
            ) from None
        return plain_json(text, name, ParameterError)
    return check_fits(kind, plain_json(read, name, ParameterError), name)


def _object(pairs: list[tuple[str, Json]], name: str) -> dict[str, Json]:
    made: dict[str, Json] = {}
    for key, value in pairs:
        if key in made:
            raise ParameterError(f"the key {_shown(key)} is given twice", field=name, remedy="remove one of them")
        made[key] = value
    return made


_FORMS = {
    ParameterType.INT: "give a whole number, for example 3",
    ParameterType.FLOAT: "give a number, for example 0.5",
    ParameterType.BOOL: "give true or false",
    ParameterType.LIST: "give JSON, for example '[1, 2]'",
    ParameterType.MAP: """give JSON, for example '{"a": 1}'""",
}

"""The types of a pipeline's parameters, and whether a value fits one."""

from __future__ import annotations

from enum import StrEnum

from penstock.errors import ParameterError, PenstockError
from penstock.json_values import Json


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
        raise error(f"{value!r} does not fit the type {kind.value}", field=field, remedy=_remedy(kind, value))
    return value


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

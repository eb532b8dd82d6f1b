"""The functions and macros that conditions may use: a table for the checks, and what each does."""

from __future__ import annotations

import enum
import math
import re
from collections.abc import Callable
from dataclasses import dataclass

import re2  # type: ignore[import-untyped]  # the package has no type information

from penstock_coordinator.core.plan.cel.errors import ConditionError
from penstock_coordinator.core.plan.model import Json
from penstock_coordinator.core.plan.naming import quoted

MAX_PATTERN = 256
_PATTERN_MEMORY = 1 << 20
_WHOLE_TEXT = re.compile(r"[+-]?[0-9]{1,19}")
_NUMBER_TEXT = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_LARGEST = 2**63


class Kind(enum.Enum):
    """What is known of a value before a run. The values are for messages."""

    BOOL = "true or false"
    INT = "a whole number"
    FLOAT = "a fraction"
    TEXT = "a text"
    LIST = "a list"
    MAP = "an object"
    NULL = "null"
    ANY = "anything"


@dataclass(frozen=True, slots=True)
class Signature:
    form: str
    """How it is written, for messages."""
    takes: tuple[frozenset[Kind], ...]
    gives: Kind
    call: Callable[..., Json]
    as_member: bool = True
    as_global: bool = False


def kind_of(value: Json) -> Kind:
    if value is None:
        return Kind.NULL
    return _KINDS[type(value)]


_KINDS: dict[type, Kind] = {
    bool: Kind.BOOL,
    int: Kind.INT,
    float: Kind.FLOAT,
    str: Kind.TEXT,
    list: Kind.LIST,
    dict: Kind.MAP,
}


def _size(value: Json) -> int:
    if type(value) in (str, list, dict):
        return len(value)
    raise ConditionError(f"size() is of a text, a list or an object, not of {kind_of(value).value}")


def _texts(function: Callable[[str, str], bool], name: str) -> Callable[[Json, Json], bool]:
    def call(text: Json, part: Json) -> bool:
        if type(text) is not str or type(part) is not str:
            raise ConditionError(f"{name}() is of texts, not of {kind_of(text).value} and {kind_of(part).value}")
        return function(text, part)

    return call


def _int(value: Json) -> int:
    if type(value) is float and math.isfinite(value):
        value = math.trunc(value)
    if type(value) is str and _WHOLE_TEXT.fullmatch(value):
        value = int(value)
    if type(value) is int and -_LARGEST <= value < _LARGEST:
        return value
    raise ConditionError(f"int() does not take {_shown(value)}")


def _double(value: Json) -> float:
    if type(value) is int or type(value) is float or (type(value) is str and _NUMBER_TEXT.fullmatch(value)):
        try:
            number = float(value)
        except OverflowError:
            number = math.inf
        if math.isfinite(number):
            return number
    raise ConditionError(f"double() does not take {_shown(value)}")


def _string(value: Json) -> str:
    match value:
        case str():
            return value
        case bool():
            return "true" if value else "false"
        case int():
            return _digits(value)
        case float():
            return str(int(value)) if value.is_integer() and abs(value) < 1e21 else repr(value)
    raise ConditionError(f"string() does not take {_shown(value)}")


def _digits(value: int) -> str:
    if abs(value) >= 1 << 512:
        raise ConditionError("string() does not take numbers of more than 154 digits")
    return str(value)


def _shown(value: Json) -> str:
    return quoted(value) if type(value) is str else kind_of(value).value


def pattern(text: str) -> Callable[[str], bool]:
    """Whether a text holds the pattern somewhere; in time that grows with the text alone. Raises `ValueError` with
    what is wrong with the pattern."""
    if len(text) > MAX_PATTERN:
        raise ValueError(f"the pattern is longer than {MAX_PATTERN} characters")
    options = re2.Options()
    options.max_mem = _PATTERN_MEMORY
    options.log_errors = False
    try:
        search = re2.compile(text, options).search
    except re2.error as error:
        reason = error.args[0] if error.args else ""
        shown = reason.decode(errors="replace") if isinstance(reason, bytes) else str(reason)
        raise ValueError(f"the pattern is not valid: {shown[:80]}") from None
    return lambda value: search(value) is not None


def _needs_pattern(*_: Json) -> bool:
    raise AssertionError("the evaluation compiles patterns once")


_ANY = frozenset(Kind)
_TEXT = frozenset({Kind.TEXT})

FUNCTIONS: dict[str, Signature] = {
    "size": Signature(
        "size(value) or value.size()",
        (frozenset({Kind.TEXT, Kind.LIST, Kind.MAP}),),
        Kind.INT,
        _size,
        as_global=True,
    ),
    "contains": Signature(
        "text.contains(part)", (_TEXT, _TEXT), Kind.BOOL, _texts(lambda text, part: part in text, "contains")
    ),
    "startsWith": Signature("text.startsWith(part)", (_TEXT, _TEXT), Kind.BOOL, _texts(str.startswith, "startsWith")),
    "endsWith": Signature("text.endsWith(part)", (_TEXT, _TEXT), Kind.BOOL, _texts(str.endswith, "endsWith")),
    "matches": Signature("text.matches('pattern')", (_TEXT, _TEXT), Kind.BOOL, _needs_pattern, as_global=True),
    "int": Signature(
        "int(value)", (frozenset({Kind.INT, Kind.FLOAT, Kind.TEXT}),), Kind.INT, _int, as_member=False, as_global=True
    ),
    "double": Signature(
        "double(value)",
        (frozenset({Kind.INT, Kind.FLOAT, Kind.TEXT}),),
        Kind.FLOAT,
        _double,
        as_member=False,
        as_global=True,
    ),
    "string": Signature(
        "string(value)",
        (frozenset({Kind.INT, Kind.FLOAT, Kind.TEXT, Kind.BOOL}),),
        Kind.TEXT,
        _string,
        as_member=False,
        as_global=True,
    ),
}

MACROS: dict[str, tuple[int, ...]] = {
    "all": (2,),
    "exists": (2,),
    "exists_one": (2,),
    "filter": (2,),
    "map": (2, 3),
}
"""How many arguments each takes, with the variable."""

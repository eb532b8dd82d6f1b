"""Plain JSON values: what constants, parameters and outputs are made of."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, TypeAlias

from penstock.errors import PenstockError

Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"

# JSON numbers are doubles on the wire: beyond this a whole number may lose digits.
MAX_WHOLE_NUMBER = 2**53
_SHOWN_BITS = 128
MAX_DEPTH = 28
"""Lists and objects inside of each other. Deeper ones no coordinator takes, and past some 30 no message holds them."""


def plain_json(value: Any, field: str, error: type[PenstockError], depth: int = 0) -> Json:
    """A copy of `value` made of JSON types alone (tuples become lists). Raises `error` naming `field`."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return _check_text(value, field, error)
    if isinstance(value, int):
        return _check_whole(int(value), field, error)
    if isinstance(value, float):
        return _check_finite(float(value), field, error)
    if depth >= MAX_DEPTH:
        raise error(f"the value is nested deeper than {MAX_DEPTH}", field=field, remedy="make it flatter")
    if isinstance(value, list | tuple):
        return [plain_json(each, f"{field}[{at}]", error, depth + 1) for at, each in enumerate(value)]
    if isinstance(value, Mapping):
        return {
            _check_key(key, field, error): plain_json(each, f"{field}.{key}", error, depth + 1)
            for key, each in value.items()
        }
    raise error(
        f"{type(value).__name__} is no JSON value",
        field=field,
        remedy="use None, bool, int, float, str, lists and dicts of these",
    )


def _check_text(value: str, field: str, error: type[PenstockError]) -> str:
    try:
        value.encode()
    except UnicodeEncodeError:
        raise error("the text is not valid Unicode", field=field, remedy="remove lone surrogates") from None
    return str(value)


def _check_key(key: Any, field: str, error: type[PenstockError]) -> str:
    if not isinstance(key, str):
        raise error(f"the key {key!r} is no text", field=field, remedy="JSON objects have text keys")
    return _check_text(key, field, error)


def _check_whole(value: int, field: str, error: type[PenstockError]) -> int:
    if abs(value) > MAX_WHOLE_NUMBER:
        # Python refuses to write down more than some thousands of digits, and nobody would read them.
        shown = str(value) if value.bit_length() <= _SHOWN_BITS else f"a number of {value.bit_length():,} bits"
        raise error(
            f"{shown} is beyond 2^53, where whole numbers lose digits",
            field=field,
            remedy="pass it as a string",
        )
    return value


def _check_finite(value: float, field: str, error: type[PenstockError]) -> float:
    if not math.isfinite(value):
        raise error(f"{value} is no JSON number", field=field, remedy="use a finite number, None or a string")
    return value

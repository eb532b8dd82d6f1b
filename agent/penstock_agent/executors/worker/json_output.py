"""The return value of a step as JSON.

Besides what `json` itself writes (tuples as lists, keys as text): whatever has one obvious JSON form. The rest is
refused, with its place in the value and what to do about it.
"""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import enum
import json
import numbers
import pathlib
import uuid
from collections.abc import Callable
from typing import Any

from penstock_agent.executors.channel import Failure

_REMEDIES: tuple[tuple[tuple[type, ...], str], ...] = (
    ((set, frozenset), "a set has no order: return sorted(...) or a list"),
)
_REMEDY = (
    "return None, bool, int, float, str, lists and dicts of these, a dataclass, a date, a path, a data frame or an"
    " Artifact; for other types register_codec, or allow pickles for this step by its name:"
    " @pipeline(allow_pickle=[...])"
)


class Unserialisable(Exception):
    """`path` is the place of the offending value in the output, such as `output["rows"][3]`."""

    def __init__(self, path: str, problem: str, remedy: str) -> None:
        super().__init__(f"{path}: {problem}; {remedy}" if remedy else f"{path}: {problem}")


def json_encoder(default: Callable[[Any], Any]) -> json.JSONEncoder:
    """`default` takes one step towards JSON for what is none."""
    return json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=default)


def refuse(value: object, default: Callable[[Any], Any]) -> None:
    """Raise `Unserialisable` for the first part of a value that has no JSON form; nothing if there is none."""
    _find(value, "output", frozenset(), default)


def plain(value: Any) -> Any:
    """One step towards JSON. TypeError: there is no obvious one."""
    for types, convert in _CONVERSIONS:
        if isinstance(value, types):
            return convert(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if callable(getattr(value, "model_dump", None)) and not isinstance(value, type):
        return value.model_dump(mode="json")
    if type(value).__module__ == "numpy" and getattr(value, "ndim", None) == 0:
        return value.item()
    raise TypeError(type(value).__name__)


_CONVERSIONS: tuple[tuple[tuple[type, ...], Callable[[Any], Any]], ...] = (
    ((enum.Enum,), lambda value: value.value),
    ((datetime.datetime, datetime.date, datetime.time), lambda value: value.isoformat()),
    ((uuid.UUID, pathlib.PurePath, decimal.Decimal), str),
    ((numbers.Integral,), int),
)


def _find(value: Any, path: str, above: frozenset[int], default: Callable[[Any], Any]) -> None:
    """Raise `Unserialisable` for the first value that has no JSON form."""
    if id(value) in above:
        raise Unserialisable(path, "the value contains itself", "return a tree")
    if len(above) > 200:
        raise Unserialisable(path, "the value is nested too deeply", "make it flatter")
    if isinstance(value, dict):
        for key, member in value.items():
            _check_key(key, path)
            _find(member, f"{path}[{key!r}]", above | {id(value)}, default)
    elif isinstance(value, list | tuple):
        for place, member in enumerate(value):
            _find(member, f"{path}[{place}]", above | {id(value)}, default)
    else:
        _check_single(value, path, above, default)


def _check_key(key: object, path: str) -> None:
    if not isinstance(key, str | int | float | bool | None):
        raise Unserialisable(path, f"the key {key!r:.100} is a {type(key).__name__}", "use text as keys")
    if isinstance(key, str):
        _check_text(key, f"{path} (a key)")


def _check_text(value: str, path: str) -> None:
    try:
        value.encode()
    except UnicodeEncodeError:
        raise Unserialisable(path, "the text is no valid Unicode", "remove lone surrogates") from None


def _check_single(value: Any, path: str, above: frozenset[int], default: Callable[[Any], Any]) -> None:
    try:
        json.dumps(value, allow_nan=False)
    except ValueError:
        raise Unserialisable(path, f"{value!r} is no JSON number", "return a finite number, None or text") from None
    except TypeError:
        try:
            step = default(value)
        except TypeError:
            raise Unserialisable(path, f"a {type(value).__qualname__} has no JSON form", _remedy(value)) from None
        _find(step, path, above | {id(value)}, default)
    else:
        if isinstance(value, str):
            _check_text(value, path)


def _remedy(value: object) -> str:
    return next((remedy for types, remedy in _REMEDIES if isinstance(value, types)), _REMEDY)


def too_large(size: int, limit: int) -> Failure:
    return Failure(
        "OutputTooLarge",
        f"the output has {size:,} bytes of JSON, and at most {limit:,} are kept; "
        f"write it to a file or a store and return its place",
    )

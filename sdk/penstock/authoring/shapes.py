"""Whether what was given for an option is a list or an object at all, before its members are looked at."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from penstock.errors import DefinitionError


def members_of(value: Any, field: str, remedy: str) -> tuple[Any, ...]:
    """Of a list, a tuple or the like; a text or an object is none. Raises `DefinitionError`."""
    if isinstance(value, Iterable) and not isinstance(value, str | bytes | Mapping):
        return tuple(value)
    raise DefinitionError(f"{value!r} is no list", field=field, remedy=remedy)


def entries_of(value: Any, field: str, remedy: str) -> Mapping[Any, Any]:
    """The object, or an empty one for None. Raises `DefinitionError`."""
    if value is None:
        return {}
    if isinstance(value, Mapping):
        return value
    raise DefinitionError(f"{value!r} is no dict", field=field, remedy=remedy)

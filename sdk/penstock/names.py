"""The names of pipelines, steps and parameters."""

from __future__ import annotations

import difflib
import re
from typing import TYPE_CHECKING, Any

from penstock.errors import DefinitionError

if TYPE_CHECKING:
    from collections.abc import Iterable

LONGEST_NAME = 128
NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
NAME_REMEDY = "use 1 to 128 letters, digits, '_', '.' and '-', beginning with a letter, a digit or '_'"


def check_name(name: Any, field: str) -> str:
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise DefinitionError(f"{name!r} is no valid name", field=field, remedy=NAME_REMEDY)
    return name


def nearest(name: str, known: Iterable[str]) -> str:
    """A remedy for an unknown name: the nearest known one, or the list of all."""
    choices = sorted(known)
    close = difflib.get_close_matches(name, choices, n=1)
    if close:
        return f"did you mean {close[0]!r}?"
    return "known: " + ", ".join(choices) if choices else "none is known"

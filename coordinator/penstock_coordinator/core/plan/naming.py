"""Names, and how texts of strangers are shown in messages."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable

NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
"""Of pipelines, steps, parameters, queues and outputs. Use `fullmatch`."""


def name_form(length: int = 128) -> str:
    """How a name of at most so many characters is made."""
    return f"use 1 to {length} letters, digits, '_', '.' and '-', beginning with a letter, a digit or '_'"


_SHOWN = 60
_COMPARED = 400


def quoted(text: str) -> str:
    """The text in quotes, in printable ASCII, shortened: safe in any message."""
    shown = text if len(text) <= _SHOWN else text[: _SHOWN - 20] + "…" + text[-12:]
    return ascii(shown).replace("\\u2026", "...")


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name that is most like `name`, if one is. Looks closely at a few hundred candidates at most."""
    length = len(name)
    folded = name.casefold()
    candidates: list[str] = []
    for other in known:
        if abs(len(other) - length) <= 2:
            if other.casefold() == folded:
                return other
            if len(candidates) < _COMPARED and (other[:1] == name[:1] or other[-1:] == name[-1:]):
                candidates.append(other)
    close = difflib.get_close_matches(name[:200], candidates, n=1, cutoff=0.6)
    return close[0] if close else None


def suggestion(name: str, known: Iterable[str]) -> str:
    """A remedy for an unknown name: the nearest known one, or how to look."""
    near = nearest(name, known)
    return f"did you mean {quoted(near)}?" if near is not None else "check the spelling"


def run_id_text(run_id: bytes) -> str:
    """The id of a run as people and agents read it: a UUID in its usual form."""
    digits = run_id.hex()
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"

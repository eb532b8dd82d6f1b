"""Steps that do what their script says: a bundle for the agents. The evaluator asks `produced` for outputs."""

from __future__ import annotations

import json
import os
import threading
import zlib
from typing import Any

HANG_SECONDS = 60.0
ERRORS: dict[str, type[Exception]] = {each.__name__: each for each in (ValueError, KeyError, RuntimeError)}


def behave(script: dict[str, Any], **inputs: Any) -> Any:
    """`by_place` holds lists of outcomes, one list per kind of item; an attempt takes the outcome of its number, the
    last one serves all later attempts."""
    from penstock import context

    here = context.current()
    place = () if here.item is None else here.item if isinstance(here.item, tuple) else (here.item,)
    outcomes = outcomes_at(script["by_place"], place)
    outcome = outcomes[min(here.attempt, len(outcomes)) - 1]
    if outcome == "crash":
        os._exit(9)
    if outcome == "hang":
        threading.Event().wait(HANG_SECONDS)
    if outcome in ERRORS:
        raise ERRORS[outcome]("as the script says")
    return produced(script["gives"], script["constant"], inputs)


def outcomes_at(by_place: list[list[str]], place: tuple[int, ...]) -> list[str]:
    return by_place[sum((level + 1) * at for level, at in enumerate(place)) % len(by_place)]


def produced(gives: str, constant: Any, inputs: dict[str, Any]) -> Any:
    """Everything hangs on every input, so that a wrong value anywhere shows in the output."""
    digest = zlib.crc32(json.dumps(plain(inputs), sort_keys=True).encode()) % 1000
    match gives:
        case "constant":
            return constant
        case "digest":
            return digest
        case "list":
            return [digest + each for each in range(digest % 4)]
        case "rows":
            return {"n": digest, "rows": [digest - each for each in range(digest % 3 + (digest > 300))]}
        case "text":
            return f"text {digest}"
    raise NotImplementedError(gives)


def plain(value: Any) -> Any:
    """Whole numbers as such, however they travelled."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, dict):
        return {name: plain(each) for name, each in value.items()}
    return [plain(each) for each in value] if isinstance(value, list) else value

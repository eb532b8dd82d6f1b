"""Words that explanations have in common."""

from __future__ import annotations

from penstock_coordinator.core.plan.model import Json
from penstock_coordinator.core.plan.values import dump
from penstock_coordinator.core.run.explain.situations import (
    KeySituation,
    Reason,
)
from penstock_coordinator.core.run.spans import spelled

NAMED = 10
"""So many steps, agents or values are named; of more the number is told."""
VALUE_CHARACTERS = 200
_SECOND = 1_000_000


def listed(names: list[str]) -> str:
    more = [f"{len(names) - NAMED} more"] if len(names) > NAMED else []
    return conjoined(names[:NAMED] + more)


def conjoined(parts: list[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def about(span: int) -> str:
    """For people: no more digits than tell something."""
    for unit in (86_400 * _SECOND, 3_600 * _SECOND, 60 * _SECOND):
        if span >= 2 * unit:
            return spelled(span // unit * unit)
    return spelled(max(span // _SECOND, 0) * _SECOND) if span >= 10 * _SECOND else spelled(span // 100_000 * 100_000)


def value_text(value: Json) -> str:
    text = dump(value).decode()
    return text if len(text) <= VALUE_CHARACTERS else text[: VALUE_CHARACTERS - 1] + "…"


def limit_reason(kind: str, begin: str, found: KeySituation) -> Reason:
    return Reason(kind, f"{begin} {place_text(found)}.", place_details(found))


def place_text(found: KeySituation) -> str:
    """What is waited for, and who has it."""
    holders = [f"run {h.run_id}" + (f' step "{h.step}"' if h.step else "") for h in found.holders]
    text = f'for a place under the key "{found.key}", whose limit is {found.limit}'
    if holders:
        text += f" and which {listed(holders)} {'holds' if len(holders) == 1 else 'hold'}"
    if found.ahead:
        text += f"; {found.ahead} others come first"
    return text


def place_details(found: KeySituation) -> dict[str, Json]:
    details: dict[str, Json] = {"key": found.key, "limit": found.limit, "ahead": found.ahead}
    details["holders"] = [{"run_id": h.run_id, "step": h.step} for h in found.holders]
    return details

"""Words that explanations have in common."""

from __future__ import annotations

from penstock_coordinator.core.plan.keys import PIPELINE_PREFIX
from penstock_coordinator.core.plan.model import Json
from penstock_coordinator.core.plan.values import dump
from penstock_coordinator.core.run.explain.situations import (
    KeySituation,
    Reason,
)
from penstock_coordinator.core.run.spans import spelled

NAMED = 10
"""So many steps, holders or values are named; of more the number is told."""
NAMED_AGENTS = 3
"""So many agents are named in a sentence: there may be hundreds that are all alike."""
VALUE_CHARACTERS = 200
_SECOND = 1_000_000


def listed(names: list[str]) -> str:
    more = [f"{len(names) - NAMED} more"] if len(names) > NAMED else []
    return conjoined(names[:NAMED] + more)


def agents_listed(texts: list[str], named: int = NAMED_AGENTS) -> str:
    more = len(texts) - named
    return conjoined(texts[:named] + ([counted(more, "other")] if more > 0 else []))


def counted(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def one_line(text: str) -> str:
    """What others wrote, as a part of a sentence."""
    joined = " ".join(text.split())
    return joined if len(joined) <= VALUE_CHARACTERS else joined[: VALUE_CHARACTERS - 1] + "…"


def conjoined(parts: list[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def about(span: int) -> str:
    """For people: no more digits than tell something."""
    for unit in (86_400 * _SECOND, 3_600 * _SECOND, 60 * _SECOND):
        if span >= 2 * unit:
            return spelled(span // unit * unit)
    return spelled(span // _SECOND * _SECOND) if span >= 10 * _SECOND else f"{max(span, 0) // 100_000 / 10:g} s"


_BYTES = ((1 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB"))


def amount(name: str, number: float) -> str:
    """So much of a resource: "23.5 GiB of memory", "4 CPUs", "2 of gpu"."""
    if name == "memory_bytes":
        return f"{quantity(name, number)} of memory"
    if name == "cpu":
        return f"{number:g} CPU" + ("" if number == 1 else "s")
    return f"{number:g} of {name}"


def quantity(name: str, number: float) -> str:
    if name != "memory_bytes":
        return f"{number:g}"
    size, unit = next(((size, unit) for size, unit in _BYTES if number >= size), (1, "bytes"))
    return f"{round(number / size, 1):g} {unit}"


def value_text(value: Json) -> str:
    text = dump(value).decode()
    return text if len(text) <= VALUE_CHARACTERS else text[: VALUE_CHARACTERS - 1] + "…"


def limit_reason(kind: str, begin: str, found: KeySituation) -> Reason:
    return Reason(kind, f"{begin} {place_text(found)}.", place_details(found))


def place_text(found: KeySituation) -> str:
    """What is waited for, and who has it."""
    holders = [f"run {h.run_id}" + (f' step "{h.step}"' if h.step else "") for h in found.holders]
    if found.key.startswith(PIPELINE_PREFIX):
        name, below, above = found.key.removeprefix(PIPELINE_PREFIX).partition(" (below ")
        text = f'because max_active_runs of "{name}"{below}{above} is {found.limit}'
        text += f" and {listed(holders)} {'has' if len(holders) == 1 else 'have'} begun" if holders else ""
    else:
        text = f'for a place under the key "{found.key}", whose limit is {found.limit}'
        text += f" and which {listed(holders)} {'holds' if len(holders) == 1 else 'hold'}" if holders else ""
    if found.ahead:
        text += f"; {counted(found.ahead, 'other')} {'comes' if found.ahead == 1 else 'come'} first"
    return text


def place_details(found: KeySituation) -> dict[str, Json]:
    details: dict[str, Json] = {"key": found.key, "limit": found.limit, "ahead": found.ahead}
    details["holders"] = [{"run_id": h.run_id, "step": h.step} for h in found.holders]
    return details

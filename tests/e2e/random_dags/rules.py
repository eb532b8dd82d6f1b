"""Trigger rules as the documentation has them: what becomes of a step, by what its upstream counts as."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable

HOLDS = "HOLDS"
SUCCESS, FAILED, SKIPPED, UPSTREAM_FAILED = "COMPLETED", "FAILED", "SKIPPED", "UPSTREAM_FAILED"
COUNTED = (SUCCESS, FAILED, SKIPPED, UPSTREAM_FAILED)
LOOK_AT_ITEMS = ("one_success", "one_failed", "one_done")


def ruled(rule: str, seen: Iterable[str]) -> str:
    """HOLDS, or the state in which the step comes to rest."""
    return _RULES[rule](Counter(seen))


def _bad(seen: Counter[str]) -> int:
    return seen[FAILED] + seen[UPSTREAM_FAILED]


def _all_success(seen: Counter[str]) -> str:
    if _bad(seen):
        return UPSTREAM_FAILED
    return SKIPPED if seen[SKIPPED] else HOLDS


def _one_success(seen: Counter[str]) -> str:
    if seen[SUCCESS]:
        return HOLDS
    return UPSTREAM_FAILED if _bad(seen) else SKIPPED


def _none_failed_min_one_success(seen: Counter[str]) -> str:
    if _bad(seen):
        return UPSTREAM_FAILED
    return HOLDS if seen[SUCCESS] else SKIPPED


def _or_skipped(holds: bool) -> str:
    return HOLDS if holds else SKIPPED


_RULES: dict[str, Callable[[Counter[str]], str]] = {
    "all_success": _all_success,
    "all_failed": lambda seen: _or_skipped(not seen[SUCCESS] and not seen[SKIPPED]),
    "all_done": lambda seen: HOLDS,
    "one_success": _one_success,
    "one_failed": lambda seen: _or_skipped(_bad(seen) > 0),
    "one_done": lambda seen: _or_skipped(seen[SUCCESS] + seen[FAILED] > 0),
    "none_failed": lambda seen: UPSTREAM_FAILED if _bad(seen) else HOLDS,
    "none_failed_min_one_success": _none_failed_min_one_success,
    "none_skipped": lambda seen: _or_skipped(not seen[SKIPPED]),
    "all_skipped": lambda seen: _or_skipped(not seen[SUCCESS] and not _bad(seen)),
    "always": lambda seen: HOLDS,
}
RULES = tuple(_RULES)

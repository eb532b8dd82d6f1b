"""Which step runs each new generation has begun anew: what is stored of them from before is history."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from typing import TypeAlias

from penstock_coordinator.core.run.events import WHOLE, Range, RunReopened

Opening: TypeAlias = tuple[int, tuple[Range, ...], tuple[tuple[int, tuple[Range, ...]], ...]]
"""(generation, steps that were reset as wholes, reset items by step)."""


def opening(event: RunReopened) -> Opening:
    return event.generation, event.steps, event.items


def began_in(openings: Sequence[Opening], step: int, item: int) -> int:
    """The generation in which the step run was PENDING for the last time at its beginning."""
    for generation, steps, items in reversed(openings):
        if _covers(steps, step):
            return generation
        for number, ranges in items:
            # A mapped step is under way again with any of its items.
            if number == step and (item == WHOLE or _covers(ranges, item)):
                return generation
    return 1


def _covers(ranges: Sequence[Range], position: int) -> bool:
    """Of ascending ranges."""
    at = bisect_right(ranges, position, key=lambda each: each[0]) - 1
    return at >= 0 and position < ranges[at][1]

"""Many positions as few ranges."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from penstock_coordinator.core.run.events import Range


def packed(positions: Sequence[int]) -> tuple[Range, ...]:
    """Half-open ranges that cover exactly the given ascending positions."""
    if len(positions) == 1:
        return ((positions[0], positions[0] + 1),)
    ranges: list[Range] = []
    first = stop = -1
    for position in positions:
        if position != stop:
            if stop >= 0:
                ranges.append((first, stop))
            first = position
        stop = position + 1
    if stop >= 0:
        ranges.append((first, stop))
    return tuple(ranges)


def covered(ranges: Iterable[Range], position: int) -> bool:
    return any(first <= position < stop for first, stop in ranges)

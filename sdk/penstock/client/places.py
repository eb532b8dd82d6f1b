"""Which item of a mapped step is meant."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

Place: TypeAlias = int | Sequence[int] | None
"""3, or (0, 3) in a nested map, outermost first; None (and an empty one) is the step as a whole."""


def place_numbers(item: Place) -> list[int]:
    """As requests have it."""
    if item is None:
        return []
    return [item] if isinstance(item, int) else list(item)

"""What can go wrong with a commit, as options of the memory stores."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from penstock_coordinator.ports import Record


@dataclass(slots=True)
class Faults:
    """Faults of the journal of one coordinator. All may be changed at any time.

    The contract hides them: a commit that fails or whose fate is unknown is tried again by the journal itself, so
    callers see that it takes longer, and that `available` is False meanwhile.
    """

    failures: deque[CommitFailure] = field(default_factory=deque)
    """Of the next attempts to commit, one each; an attempt with none left succeeds."""
    hold: asyncio.Event | None = None
    """While it is there and not set, commits wait before they store anything."""
    refuse: Callable[[Record], str | None] | None = None
    """A reason, and the record is unstorable."""
    entered: asyncio.Event = field(default_factory=asyncio.Event)
    """Set whenever a commit has arrived: what a test waits for before it goes on."""
    slow: Callable[[], tuple[float, float]] | None = None
    """Draws the seconds that a commit takes before it stores anything, and those that its answer is under way."""
    on_attempt: Callable[[Sequence[Record]], None] | None = None
    """Hears every attempt before it stores."""


class CommitFailure(Exception):
    """One failed attempt to commit."""


class FailBefore(CommitFailure):
    """Nothing was stored."""


class CommitUnknown(CommitFailure):
    """All was stored, and the answer lost."""

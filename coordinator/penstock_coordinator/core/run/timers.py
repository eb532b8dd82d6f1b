"""The instants at which something will have to happen in a run, as data.

A run keeps them in heaps and never takes one out: `deadlines` passes over those whose cause is gone.
"""

from __future__ import annotations

import enum
from typing import NamedTuple


class TimerKind(enum.IntEnum):
    WAKE = 1
    """A wait has an end."""
    QUEUED = 2
    """READY for too long, this time."""
    OVERALL = 3
    """Too long since the first time READY."""
    RUN = 4
    """The run's timeout."""
    CANCEL = 5
    """What is being stopped has had its time."""


class Timer(NamedTuple):
    """`first` and `stop` are a range of items of `step`; (-1, 0) if it is not mapped. `since` is the instant at which
    the clock was started: a later start of the same clock makes this timer void."""

    due: int
    kind: TimerKind
    step: int = -1
    first: int = -1
    stop: int = 0
    since: int = 0

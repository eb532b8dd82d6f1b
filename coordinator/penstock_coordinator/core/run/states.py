"""The states of runs and step runs. The numbers are those of the proto, and of journals for ever."""

from __future__ import annotations

import enum


class RunState(enum.IntEnum):
    PENDING = 1
    RUNNING = 2
    PAUSED = 3
    CANCELLING = 4
    ROLLING_BACK = 5
    COMPLETED = 6
    FAILED = 7
    CANCELLED = 8
    ROLLED_BACK = 9

    @property
    def at_rest(self) -> bool:
        return self >= RunState.COMPLETED


class StepState(enum.IntEnum):
    PENDING = 1
    READY = 2
    RUNNING = 3
    WAITING = 4
    COMPLETED = 5
    FAILED = 6
    SKIPPED = 7
    UPSTREAM_FAILED = 8
    CANCELLED = 9
    ROLLED_BACK = 10

    @property
    def at_rest(self) -> bool:
        return self >= StepState.COMPLETED

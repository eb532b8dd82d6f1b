"""Dead letters: step runs that FAILED and that somebody has to look at."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import msgspec

from penstock_coordinator.ports.common import RunId

LETTER_MESSAGE_CHARACTERS = 500
"""Of a failure's message, in a letter; the whole of it is with the step run."""


class LetterState(enum.IntEnum):
    """The numbers are those of penstock.v1.DeadLetterState."""

    OPEN = 1
    REQUEUED = 2
    """Its step run was reset: by a requeue, a retry or a rerun."""
    PURGED = 3


class LetterRow(msgspec.Struct, frozen=True, gc=False):
    """The letter that a record brings with it. Its id is the run's with `seq`."""

    seq: int
    """Of the event that the step run failed with."""
    step: int
    item: int
    generation: int
    budget: int
    """A `core.run.events.Budget`."""
    attempts: int
    at: int
    pipeline: str
    step_name: str
    display_name: str
    reason: str
    message: str
    error_class: str = ""
    """Of the exception that user code raised, with its module."""


class LetterClosing(msgspec.Struct, frozen=True, gc=False):
    """The step runs that a new generation resets: their open letters, older than `seq`, are REQUEUED."""

    seq: int
    at: int
    requested_by: str
    steps: tuple[tuple[int, int], ...]
    """Ranges, half open: with all their items."""
    items: tuple[tuple[int, tuple[tuple[int, int], ...]], ...]
    """Ranges of single items, by step."""


@dataclass(frozen=True, slots=True)
class DeadLetter:
    run_id: RunId
    letter: LetterRow
    state: LetterState
    close_time: int | None
    closed_by: str
    """Who asked for it, as they called themselves."""

    @property
    def place(self) -> LetterPlace:
        return self.letter.at, self.run_id, self.letter.seq


LetterPlace = tuple[int, RunId, int]
"""(at, run id, seq): lists are in descending order of it."""


@dataclass(frozen=True, slots=True)
class LetterFilter:
    """Empty: any. All that is given must match."""

    pipeline: str = ""
    run_id: RunId | None = None
    step: str = ""
    """Its name in the specification."""
    reason: str = ""
    budgets: tuple[int, ...] = ()
    labels: tuple[tuple[str, str], ...] = ()
    """Of the run."""
    since: int | None = None
    """Failed at this instant or later."""
    before: int | None = None
    error_class: str = ""
    """With its modules, or without."""
    states: tuple[int, ...] = (int(LetterState.OPEN),)


class DeadLetterStore(Protocol):
    """What records brought. All methods raise `Unavailable`."""

    async def list_letters(self, where: LetterFilter, limit: int, after: LetterPlace | None = None) -> list[DeadLetter]:
        """The newest failure first; those that come after the place."""

    async def get(self, run_id: RunId, seq: int) -> DeadLetter | None: ...

    async def runs(self, where: LetterFilter, limit: int, below: RunId) -> list[RunId]:
        """Runs with OPEN letters of the filter, the newest run first, below the id."""

    async def of_run(self, where: LetterFilter, run_id: RunId) -> list[LetterRow]:
        """The run's OPEN letters of the filter, in the order of their numbers."""

    async def count(self, where: LetterFilter) -> tuple[int, int]:
        """OPEN letters of the filter, and the runs that they are of."""

    async def count_open(self, most: int) -> int:
        """OPEN letters, `most` at the most: it takes no longer, however many there are."""

    async def purge(self, run_id: RunId, seqs: Sequence[int], now: int, requested_by: str) -> int:
        """Those of them that are OPEN are PURGED; how many."""

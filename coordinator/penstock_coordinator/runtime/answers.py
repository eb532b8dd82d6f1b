"""Who is told what became of a turn: one caller, or one of the many runs that a caller started at once."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Protocol

from penstock_coordinator.runtime.views import Undecided

if TYPE_CHECKING:
    from penstock_coordinator.ports import AppendOutcome


class Answer(Protocol):
    """As a future; told once."""

    def done(self) -> bool: ...

    def set_result(self, outcome: AppendOutcome, /) -> None: ...

    def set_exception(self, error: Exception, /) -> None: ...

    def cancel(self) -> object: ...


class Answers:
    """Of many, for one who waits for all of them: a future and a callback for each would cost more than its turn."""

    def __init__(self, count: int) -> None:
        self.outcomes: list[AppendOutcome | BaseException | None] = [None] * count
        self._missing = count
        self._all: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def part(self, position: int) -> Answer:
        return _Part(self, position)

    async def all(self, patience: float) -> list[AppendOutcome | BaseException]:
        """In the order of their positions; a `CancelledError` where nothing is known of what was asked for. Raises
        `Undecided` after so many seconds."""
        timer = asyncio.get_running_loop().call_later(patience, self._lose_patience, patience)
        try:
            await self._all
        finally:
            timer.cancel()
        return [outcome for outcome in self.outcomes if outcome is not None]

    def _lose_patience(self, seconds: float) -> None:
        if not self._all.done():
            self._all.set_exception(Undecided(seconds))

    def tell(self, position: int, outcome: AppendOutcome | BaseException) -> None:
        self.outcomes[position] = outcome
        self._missing -= 1
        if not self._missing and not self._all.done():
            self._all.set_result(None)


class _Part:
    __slots__ = ("_answers", "_position")

    def __init__(self, answers: Answers, position: int) -> None:
        self._answers = answers
        self._position = position

    def done(self) -> bool:
        return self._answers.outcomes[self._position] is not None

    def set_result(self, outcome: AppendOutcome) -> None:
        self._answers.tell(self._position, outcome)

    def set_exception(self, error: Exception) -> None:
        self._answers.tell(self._position, error)

    def cancel(self) -> object:
        if not self.done():
            self._answers.tell(self._position, asyncio.CancelledError())
        return True

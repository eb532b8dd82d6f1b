"""A circuit breaker: what is known to fail is not tried, so that nobody waits for it and it is left in peace.

Closed, every call goes through; so many failures in a row open it. Open, calls are refused at once. When a pause is
over it is half open: one call alone tries. If that goes well the breaker closes, else it is open for twice as long.
What calls say that began before the last change is not heard: a statement that was lost ten seconds ago is no news.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import Callable, Iterator

from penstock_coordinator.ports import Dependency, DependencyState, ShareUse, Unavailable

FAILURES = 3
FIRST_PAUSE = 0.25
LONGEST_PAUSE = 2.0
"""Seconds. The database may have been back for so long before it is used again."""

CLOSED, OPEN, HALF_OPEN = DependencyState.CLOSED, DependencyState.OPEN, DependencyState.HALF_OPEN


class Refused(Unavailable):
    """The breaker is open: nothing was tried."""

    def __init__(self, name: str, seconds: float, reason: str) -> None:
        super().__init__(f"{name} failed ({reason}) and is not tried for {seconds:.2f} s")
        self.retry_after = int(max(seconds, 0.05) * 1e6)


class Breaker:
    """`now` gives seconds, `chance` numbers from 0 to 1: several coordinators shall not try in step."""

    def __init__(
        self,
        name: str,
        failures: int = FAILURES,
        first_pause: float = FIRST_PAUSE,
        longest_pause: float = LONGEST_PAUSE,
        now: Callable[[], float] = time.monotonic,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._name = name
        self._most_failures = failures
        self._first_pause = first_pause
        self._longest_pause = longest_pause
        self._now = now
        self._chance = chance
        self._state = CLOSED
        self._era = 0
        """One more with each change of state: calls of former ones are not heard."""
        self._pause = first_pause
        self._again_at = 0.0
        self.failures = 0
        """In a row."""
        self.reason = ""
        """Of the last failure."""

    @property
    def state(self) -> DependencyState:
        return self._state

    @property
    def retry_in(self) -> float:
        """Seconds until somebody may try."""
        if self._state is CLOSED:
            return 0.0
        return max(self._again_at - self._now(), 0.0)

    def dependency(self, name: str, shares: tuple[ShareUse, ...] = ()) -> Dependency:
        """What health shows."""
        return Dependency(name, self._state, self.failures, int(self.retry_in * 1e6), self.reason, shares)

    def check(self) -> None:
        """Raises `Refused` for calls that need not even queue."""
        if self._state is HALF_OPEN or (self._state is OPEN and self._now() < self._again_at):
            raise self._refusal()

    def enter(self) -> int:
        """To be called before each try; the answer goes back with its outcome. Raises `Refused`."""
        self.check()
        if self._state is OPEN:
            self._move(HALF_OPEN)
        return self._era

    def try_now(self) -> None:
        """What it guards was seen to answer: the next call may try, and need not wait for the end of the pause."""
        if self._state is OPEN:
            self._again_at = self._now()

    def succeeded(self, era: int) -> None:
        if era != self._era:
            return
        self.failures, self.reason = 0, ""
        self._pause = self._first_pause
        if self._state is not CLOSED:
            self._move(CLOSED)

    def failed(self, era: int, reason: str) -> None:
        if era != self._era:
            return
        self.failures += 1
        self.reason = reason
        if self._state is HALF_OPEN:
            self._pause = min(self._pause * 2, self._longest_pause)
            self._open()
        elif self.failures >= self._most_failures:
            self._open()

    def gave_up(self, era: int) -> None:
        """Whoever called went away: nothing was learnt, and the next one may try."""
        if era == self._era and self._state is HALF_OPEN:
            self._again_at = self._now()
            self._move(OPEN)

    @contextlib.contextmanager
    def watching(self, is_fault: Callable[[Unavailable], bool] = lambda _: True) -> Iterator[None]:
        """One try: how it ends is heard. What raises anything but `Unavailable`, or one that is no fault, has
        answered: what was made of the answer is another matter. Raises `Refused` before anything is tried."""
        era = self.enter()
        try:
            yield
        except (asyncio.CancelledError, GeneratorExit):
            self.gave_up(era)
            raise
        except Unavailable as error:
            if is_fault(error):
                self.failed(era, type(error.__cause__ or error).__name__)
            else:
                self.succeeded(era)
            raise
        except BaseException:
            self.succeeded(era)
            raise
        self.succeeded(era)

    def _open(self) -> None:
        self._again_at = self._now() + self._pause * (0.5 + self._chance() / 2)
        self._move(OPEN)

    def _move(self, state: DependencyState) -> None:
        self._state = state
        self._era += 1

    def _refusal(self) -> Refused:
        seconds = self._longest_pause / 4 if self._state is HALF_OPEN else self.retry_in
        return Refused(self._name, seconds, self.reason)

"""What new work is let in. What was accepted is never shed; what is refused is told when to come back.

Four things can be short: places for runs that wait to begin, time of the event loop, commits, and memory. Each is
measured against its bound, and the scarcest of them is the pressure: 0 is idle, 1 is full. Runs of priority above 0 may
come until it is 1; the last tenth is theirs alone. Those below 0 are refused from a half on.

Deciding is arithmetic: what is measured is looked at now and then by `runtime/strain.py`, not by each call.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from penstock_coordinator.ports import Unavailable
from penstock_coordinator.runtime.views import Overloaded

if TYPE_CHECKING:
    from collections.abc import Callable

LOW_SHARE, NORMAL_SHARE, HIGH_SHARE = 0.5, 0.9, 1.0
SHORTEST_WAIT, LONGEST_WAIT = 100_000, 10_000_000
"""Microseconds. Whoever tells a caller spreads them."""
LOOK_AGAIN = 1_000_000
SLOWEST_DRAIN = 0.5
"""Runs per second: what is assumed while none begins."""
SMOOTHING = 0.2
BACKLOG = "backlog"


@dataclass(frozen=True, slots=True)
class Bounds:
    """Spans in microseconds; memory in bytes, 0: none."""

    backlog: int = 100_000
    """Runs that were accepted and have not begun."""
    lag: int = 500_000
    """How late the event loop comes to what is due, again and again."""
    commit: int = 2_000_000
    """How long what is decided waits for its commit."""
    memory: int = 0
    """Of the process, resident."""


DEFAULT_BOUNDS = Bounds()


@dataclass(frozen=True, slots=True)
class Strain:
    """What was measured last, each against its bound."""

    lag: float = 0.0
    commits: float = 0.0
    memory: float = 0.0

    @property
    def worst(self) -> tuple[float, str]:
        return max((self.lag, "lag"), (self.commits, "commits"), (self.memory, "memory"))


_WORDS = {
    "lag": "the coordinator has more to do than it has time for",
    "commits": "more is being written than the database takes",
    "memory": "the coordinator's memory is nearly full",
}


def share_of(priority: int) -> float:
    """How much of what there is may be in use when a run of that priority comes."""
    return NORMAL_SHARE if not priority else HIGH_SHARE if priority > 0 else LOW_SHARE


class Admission:
    """`now` gives microseconds of a clock that only goes on."""

    def __init__(self, bounds: Bounds, now: Callable[[], int], refusals: dict[str, int] | None = None) -> None:
        """`refusals`: where they are counted on."""
        self.bounds = bounds
        self.backlog = 0
        self.away = ""
        """Why nothing can be committed now."""
        self.strain = Strain()
        self._worst, self._cause = self.strain.worst
        self.refusals: dict[str, int] = {} if refusals is None else refusals
        """By what was short, since the start of the process."""
        self.drain_rate = 0.0
        """Runs that begin, or end without, per second."""
        self._now = now
        self._begun = 0
        self._measured_at = now()
        self._turn = 0
        """When the last of those who were told to come back would find a place."""

    # --- runs

    def waits(self) -> None:
        """One more run has been accepted and has not begun."""
        self.backlog += 1

    def begun(self) -> None:
        """One of them has, or will not."""
        self.backlog -= 1
        self._begun += 1

    @property
    def pressure(self) -> float:
        return max(self.backlog / self.bounds.backlog, self._worst)

    # --- measuring

    def measure(self, strain: Strain, away: str) -> None:
        """What has been found; to be told more than once a second."""
        self.strain, self.away = strain, away
        self._worst, self._cause = strain.worst
        now = self._now()
        passed = now - self._measured_at
        if passed > 0:
            self.drain_rate += SMOOTHING * (self._begun * 1e6 / passed - self.drain_rate)
            self._begun, self._measured_at = 0, now

    # --- deciding

    def check_runs(self, lowest_priority: int, count: int = 1) -> None:
        """Raises `Unavailable` or `Overloaded` if there is no room for so many more runs."""
        self.check_commits()
        bounds, share = self.bounds, share_of(lowest_priority)
        over = self.backlog + count - bounds.backlog * share
        if over > 0 and (self.backlog or count > 1):  # one alone always fits
            self._refuse(BACKLOG)
            ever = count <= bounds.backlog * share
            wait = self._until_room(min(over, count)) if ever else None
            raise Overloaded(self._backlog_words(count, share), wait, BACKLOG)
        self.check_load(share)

    def check_commits(self) -> None:
        """Raises `Unavailable` if what is decided now would only wait."""
        if self.away:
            raise self._is_away()

    def check_load(self, share: float = NORMAL_SHARE) -> None:
        """For what starts no run. Raises `Overloaded`."""
        if self._worst >= share:
            self._refuse(self._cause)
            raise Overloaded(_WORDS[self._cause], int(min(self._worst, 5.0) * LOOK_AGAIN), self._cause)

    def check_full(self) -> None:
        """Before anything is known of a run that somebody asks for: whether there is no room for any. Raises as
        `check_runs` does."""
        if self.away or self.backlog >= self.bounds.backlog or self._worst >= HIGH_SHARE:
            self.check_runs(1)

    def _refuse(self, short: str) -> None:
        self.refusals[short] = self.refusals.get(short, 0) + 1

    def _is_away(self) -> Unavailable:
        self._refuse("database")
        error = Unavailable(self.away)
        error.retry_after = LOOK_AGAIN
        return error

    def _backlog_words(self, count: int, share: float) -> str:
        bound = self.bounds.backlog
        if count > bound * share:
            return (
                f"{count:,} runs are asked for at once, and {int(bound * share):,} may wait to begin: start fewer at"
                " once, or have the operator raise PENSTOCK_MAX_BACKLOG"
            )
        part = "" if share == HIGH_SHARE else f", of which runs of this priority may use {share:.0%}"
        return (
            f"{self.backlog:,} runs wait to begin, {count:,} more are asked for, and the limit is {bound:,}{part}:"
            " wait until some have begun, start another agent, or have the operator raise PENSTOCK_MAX_BACKLOG"
        )

    def _until_room(self, count: float) -> int:
        """Each who is refused stands behind those who were before: they come back as room comes free, not in a wave."""
        now, rate = self._now(), max(self.drain_rate, SLOWEST_DRAIN)
        self._turn = min(max(self._turn, now) + int(count * 1e6 / rate), now + LONGEST_WAIT)
        return max(self._turn - now, SHORTEST_WAIT)

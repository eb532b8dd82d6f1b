"""Simulated time: one heap of what is to happen, one source of chance, and a clock of its own for every party."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from heapq import heappop, heappush
from random import Random
from typing import Any, TypeAlias

Action: TypeAlias = Callable[..., None]

SECOND = 1_000_000
MILLISECOND = 1_000


class Timeline:
    """What is to happen, in the order of true time; what is due at the same instant happens in the order in which it
    was planned. Instants are true microseconds, which no party of the simulation can see."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)  # noqa: S311 - chance that can be had again is the point
        self.now = 0
        self.steps = 0
        self._heap: list[tuple[int, int, Action, tuple[Any, ...]]] = []
        self._count = 0
        self.trace: list[tuple[Any, ...]] = []
        """(instant, who, what, details...), of plain values only: its text is the same in every process."""

    def at(self, instant: int, action: Action, *arguments: Any) -> None:
        self._count += 1
        heappush(self._heap, (instant, self._count, action, arguments))

    def after(self, span: int, action: Action, *arguments: Any) -> None:
        self._count += 1
        heappush(self._heap, (self.now + span, self._count, action, arguments))

    def go_on_until(self, instant: int, most: int) -> bool:
        """What is due happens, up to the first thing that is planned for that instant or later, and that one too: there
        is to be one. False if more than `most` things have happened since the beginning; then it stops there."""
        heap = self._heap
        while self.now < instant:
            self.now, _, action, arguments = heappop(heap)
            self.steps += 1
            action(*arguments)
            if self.steps > most:
                return False
        return True

    def note(self, who: str, what: str, *details: Any) -> None:
        self.trace.append((self.now, who, what, *details))


class PartyClock:
    """A party's own clocks: one that never goes back, and the wall clock, which may jump. Both run at the party's own
    rate, and begin anywhere."""

    def __init__(self, timeline: Timeline, rate: float = 1.0, began: int = 1_000 * SECOND, wall: int = 0) -> None:
        self._timeline = timeline
        self.rate = rate
        self._began = began
        self.wall_offset = wall
        """What people set forward or back."""

    def monotonic(self) -> int:
        return self._began + int(self._timeline.now * self.rate)

    def now(self) -> int:
        """The wall clock, microseconds since 1970."""
        return 1_750_000_000 * SECOND + self.wall_offset + int(self._timeline.now * self.rate)

    def true_span(self, span: int) -> int:
        """True time until so much has passed on this clock; never too short."""
        return max(0, int(span / self.rate) + 1)


class Footing:
    """Of a process: whether it stands still, and what waits for that to end."""

    __slots__ = ("froze_at", "until", "waiting")

    def __init__(self) -> None:
        self.until = 0
        self.froze_at = 0
        """The last time."""
        self.waiting: deque[tuple[Process, Action, tuple[Any, ...]]] = deque()
        """What was to happen meanwhile."""


class Process:
    """Something that lives on the timeline, can be frozen, and ends for good. `inside`: it is a part of that process,
    stands still with it, and may end before it."""

    def __init__(self, timeline: Timeline, name: str, inside: Process | None = None) -> None:
        self.timeline = timeline
        self.name = name
        self.alive = True
        self.footing: Footing = Footing() if inside is None else inside.footing

    @property
    def frozen(self) -> bool:
        return self.footing.until > self.timeline.now

    def stood_still_at(self, instant: int, longer_than: int) -> bool:
        """Whether the last time that it was frozen was then, and longer than that."""
        footing = self.footing
        return footing.froze_at < instant < footing.until and footing.until - footing.froze_at > longer_than

    def freeze(self, span: int) -> None:
        """Nothing of it happens until then; what was to happen waits, in its order."""
        footing = self.footing
        if not self.frozen:
            footing.froze_at = self.timeline.now
        footing.until = max(footing.until, self.timeline.now + span)
        self.timeline.at(footing.until, self._thaw)

    def thaw(self) -> None:
        """It goes on now."""
        self.footing.until = min(self.footing.until, self.timeline.now)
        self._thaw()

    def _thaw(self) -> None:
        footing = self.footing
        while footing.waiting and footing.until <= self.timeline.now:
            part, action, arguments = footing.waiting.popleft()
            if part.alive:
                action(*arguments)

    def after(self, span: int, action: Action, *arguments: Any) -> None:
        """Unless the process has ended by then."""
        self.timeline.after(span, self.run, action, *arguments)

    def run(self, action: Action, *arguments: Any) -> None:
        """Now, or when the process goes on; never if it has ended."""
        if not self.alive:
            return
        footing = self.footing
        if footing.waiting or footing.until > self.timeline.now:
            footing.waiting.append((self, action, arguments))
        else:
            action(*arguments)

    def note(self, what: str, *details: Any) -> None:
        self.timeline.trace.append((self.timeline.now, self.name, what, *details))

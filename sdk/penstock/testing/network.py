"""The network between agents and coordinators: streams that keep the order of what is said, and can break.

A stream that breaks loses the tail of what was on its way, in each direction; each end hears of it in its own time,
or not at all until it misses the other. With `ghosts` the tail that was on its way to the coordinator still arrives
there while the coordinator has not heard of the break, be it after the agent's next stream was opened.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from penstock.testing.timeline import MILLISECOND, SECOND, Process

if TYPE_CHECKING:
    from penstock.testing.timeline import Timeline


@dataclass
class Weather:
    """What the network is like for one agent."""

    delay: int = 2 * MILLISECOND
    """The longest that a message takes, if nothing is wrong."""
    out_cut: bool = False
    """Nothing of the agent arrives."""
    in_cut: bool = False
    """Nothing arrives at the agent."""

    @property
    def cut(self) -> bool:
        return self.out_cut or self.in_cut


class End:
    """One end of a stream: who reads there, and how it is told."""

    __slots__ = ("hears", "hears_end", "last_arrival", "open", "process")

    def __init__(self, process: Process, hears: Callable[[Any], None], hears_end: Callable[[], None]) -> None:
        self.process = process
        self.hears = hears
        self.hears_end = hears_end
        self.open = True
        """It has not heard of the end."""
        self.last_arrival = 0


class Link:
    """One stream. `agent` and `coordinator` are its ends."""

    __slots__ = ("agent", "broken", "coordinator", "ghosts", "timeline", "weather")

    def __init__(self, timeline: Timeline, weather: Weather, agent: End, coordinator: End) -> None:
        self.timeline = timeline
        self.weather = weather
        self.agent = agent
        self.coordinator = coordinator
        self.broken = False
        self.ghosts = False

    def to_coordinator(self, message: Any) -> None:
        self._carry(self.coordinator, message, self.weather.out_cut)

    def to_agent(self, message: Any) -> None:
        self._carry(self.agent, message, self.weather.in_cut)

    def _carry(self, end: End, message: Any, cut: bool) -> None:
        if self.broken or cut:
            return
        arrival = self.timeline.now + 50 + int(self.timeline.random.random() * self.weather.delay)
        # A stream keeps its order.
        end.last_arrival = arrival = max(arrival, end.last_arrival + 1)
        self.timeline.at(arrival, self._arrive, end, message)

    def _arrive(self, end: End, message: Any) -> None:
        if not end.open or (self.broken and not (self.ghosts and end is self.coordinator)):
            return
        # What is read later than it arrived, because the reader is frozen, is read in the same order.
        end.process._run(self._read, (end, message))

    @staticmethod
    def _read(end: End, message: Any) -> None:
        if end.open:
            end.hears(message)

    # --- its end

    def close(self, closer: End) -> None:
        """One end closes it: what it has said still arrives, then the other one hears of the end."""
        if not closer.open:
            return
        closer.open = False
        other = self.coordinator if closer is self.agent else self.agent
        if self.broken or (self.weather.in_cut if other is self.agent else self.weather.out_cut):
            return
        arrival = max(self.timeline.now + 60, other.last_arrival + 1)
        other.last_arrival = arrival
        self.timeline.at(arrival, self._ended, other)

    def snap(self) -> None:
        """It breaks: what is on its way is lost; each end hears of it in its own time."""
        if self.broken:
            return
        self.broken = True
        for end in (self.agent, self.coordinator):
            if end.open:
                chance = self.timeline.random.random()
                delay = int(chance * 20 * MILLISECOND) if chance < 0.7 else int(chance * 4 * SECOND)
                self.timeline.after(delay, self._ended, end)

    def vanish(self, end: End) -> None:
        """The process at this end is gone, its machine is not: the other one hears of it soon."""
        end.open = False
        self.broken = True
        other = self.coordinator if end is self.agent else self.agent
        if other.open and not self.weather.cut:
            self.timeline.after(int(self.timeline.random.random() * 30 * MILLISECOND), self._ended, other)

    def _ended(self, end: End) -> None:
        end.process._run(self._hear_end, (end,))

    @staticmethod
    def _hear_end(end: End) -> None:
        if end.open:
            end.open = False
            end.hears_end()

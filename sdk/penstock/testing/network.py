"""The network between agents and coordinators: streams that keep the order of what is said, and can break.

A stream that breaks loses the tail of what was on its way, in each direction; each end hears of it in its own time,
or not at all until it misses the other. With `ghosts` the tail still arrives: at the coordinator while that has not
heard of the break, be it after the agent's next stream was opened; at the agent even then.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from penstock.testing.timeline import MILLISECOND, SECOND, Process

if TYPE_CHECKING:
    from penstock.testing.timeline import Timeline


@dataclass
class Weather:
    """What the network is like for one agent."""

    delay: int = 2 * MILLISECOND
    """The longest that a message takes, if nothing is wrong."""
    late: int = 0
    """What the agent hears may take so much longer."""
    out_cut: bool = False
    """Nothing of the agent arrives."""
    in_cut: bool = False
    """Nothing arrives at the agent."""
    held: list[tuple[Link, End]] = field(default_factory=list)
    """For each message that would have arrived: it is sent again and again, and arrives when the way is mended, if the
    stream has not been given up by then."""
    partitions: int = 0

    @property
    def cut(self) -> bool:
        return self.out_cut or self.in_cut

    def mend(self) -> None:
        self.out_cut = self.in_cut = False
        self.late = 0
        held, self.held = self.held, []
        for link, end in held:
            link.carry_again(end)


_END = object()
"""The last that arrives, if a stream is closed as it should be."""


class End:
    """One end of a stream: who reads there, and how it is told."""

    __slots__ = ("hears", "hears_end", "last_arrival", "open", "process", "under_way")

    def __init__(self, process: Process, hears: Callable[[Any], None], hears_end: Callable[[], None]) -> None:
        self.process = process
        self.hears = hears
        self.hears_end = hears_end
        self.open = True
        """It has not heard of the end."""
        self.last_arrival = 0
        self.under_way: deque[Any] = deque()
        """What was said to it and has not arrived. Whatever arrives is the first of it: a stream keeps its order, also
        when the way is mended while something is held back and something else is not."""


class Link:
    """One stream. `agent` and `coordinator` are its ends."""

    __slots__ = ("agent", "broken", "coordinator", "ghosts", "relayed_to", "timeline", "weather")

    def __init__(self, timeline: Timeline, weather: Weather, agent: End, coordinator: End) -> None:
        self.timeline = timeline
        self.weather = weather
        self.agent = agent
        self.coordinator = coordinator
        self.broken = False
        self.ghosts = False
        self.relayed_to = ""
        """The owner, if the coordinator at the other end passes the stream on."""

    def to_coordinator(self, message: Any) -> None:
        self.carry(self.coordinator, message)

    def to_agent(self, message: Any) -> None:
        self.carry(self.agent, message)

    def carry(self, end: End, message: Any) -> None:
        if not self.broken:
            end.under_way.append(message)
            self._bring(end)

    def carry_again(self, end: End) -> None:
        """What was held back; lost if the stream has broken meanwhile."""
        if self.broken:
            end.under_way.popleft()
        else:
            self._bring(end)

    def _bring(self, end: End) -> None:
        weather = self.weather
        longest = weather.delay + weather.late if end is self.agent else weather.delay
        arrival = self.timeline.now + 50 + int(self.timeline.random.random() * longest)
        end.last_arrival = arrival = max(arrival, end.last_arrival + 1)
        self.timeline.at(arrival, self._arrive, end)

    def _arrive(self, end: End) -> None:
        if (self.broken or not end.open) and not self.ghosts:
            end.under_way.popleft()
            return
        weather = self.weather
        if weather.in_cut if end is self.agent else weather.out_cut:
            weather.held.append((self, end))
        else:
            # What is read later than it arrived, because the reader is frozen, is read in the same order.
            end.process.run(self._read, end, end.under_way.popleft())

    def _read(self, end: End, message: Any) -> None:
        if not end.open:
            if self.ghosts and end is self.agent and message is not _END:
                end.hears(message)
        elif message is _END:
            end.open = False
            end.hears_end()
        else:
            end.hears(message)

    # --- its end

    def close(self, closer: End) -> None:
        """One end closes it: what it has said still arrives, then the other one hears of the end."""
        if not closer.open:
            return
        closer.open = False
        self.carry(self.coordinator if closer is self.agent else self.agent, _END)

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
        end.process.run(self._read, end, _END)

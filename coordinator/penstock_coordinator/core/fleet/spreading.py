"""Where the head has a free run start: with itself, or with a member.

What a member has to do is known from the board, which is some seconds old, from what was sent there since, and from how
many runs ended there lately. Without the second all starts of these seconds would go to the same one; without the third
a member would seem to have all short runs still that it was sent.

Instants are microseconds of one monotonic clock. A name is that of an incarnation, as `place_name` writes it: who comes
back is somebody else.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable
    from collections.abc import Set as AbstractSet

    from penstock_coordinator.core.dispatch.capacity import Capacity
    from penstock_coordinator.core.plan.model import Line

HEADS_LOAD = 1.2
"""What the head's own runs count, as it has other work besides."""
MERGED = 50_000
"""What was sent within so long is remembered as one."""
MOST_SENT = 200
"""Of these: more than are sent between two publications. Where none comes any more the last one is added to."""
APART = 100_000
"""Publications are further apart. One that is read twice seems to be of two instants, some milliseconds apart."""


def place_name(coordinator_id: str, epoch: int) -> str:
    """As agents name whom they have links with."""
    return f"{coordinator_id}@{epoch}"


def reaches(lines: Iterable[Line], sessions: Iterable[tuple[Capacity, AbstractSet[str]]], name: str) -> bool:
    """Whether each of the lines has an agent for that member: one of the head's agents serves it and has a link to the
    member, or none serves it at all. `sessions`: the head's, with the names that each has links to."""
    known = [(capacity, name in links) for capacity, links in sessions]
    for line in lines:
        served = [linked for capacity, linked in known if capacity.serves(line)]
        if served and not any(served):
            return False
    return True


@dataclass(slots=True)
class _Place:
    live: int | None = None
    """Live runs, by the board; None: it has not said anything yet."""
    at: int = 0
    sent: deque[tuple[int, int]] = field(default_factory=deque)
    """(when, how many), since the board was written."""
    ending: float = 0.0
    """Runs that ended per microsecond, between the last two publications."""
    turn: int = 0
    """When it was chosen last, counted over all."""

    def load(self, now: int) -> float:
        running = (self.live or 0) + sum(count for _, count in self.sent)
        return max(running - self.ending * (now - self.at), 0.0)

    def publish(self, live: int, at: int) -> None:
        sent = 0
        while self.sent and self.sent[0][0] < at:
            sent += self.sent.popleft()[1]
        if self.live is not None:
            self.ending = max(self.live + sent - live, 0) / (at - self.at)
        self.live, self.at = live, at


class Spreading:
    """Of one head."""

    def __init__(self) -> None:
        self._places: dict[str, _Place] = {}
        self._own_turn = 0
        self._turns = 0

    def members(self, names: Iterable[str]) -> None:
        """All that there are: others are forgotten."""
        self._places = {name: self._places.get(name) or _Place() for name in names}

    def published(self, name: str, live: int, at: int) -> None:
        """The member had so many live runs. What is older than what is known changes nothing, nor does the same once
        more."""
        place = self._places.get(name)
        if place is not None and (place.live is None or at - place.at >= APART):
            place.publish(live, at)

    def choose(self, own: int, eligible: Iterable[str], now: int) -> str:
        """Who has the least to do; of equals, who was not chosen for the longest time. Empty: the head, which has `own`
        live runs. A member that has published nothing yet is passed over. Nothing is counted as sent."""
        found, least = "", (own * HEADS_LOAD, self._own_turn)
        for name in eligible:
            place = self._places.get(name)
            if place is not None and place.live is not None and (load := (place.load(now), place.turn)) < least:
                found, least = name, load
        self._turns += 1
        if found:
            self._places[found].turn = self._turns
        else:
            self._own_turn = self._turns
        return found

    def sent(self, name: str, count: int, now: int) -> None:
        """So many runs are on their way to the member."""
        place = self._places.get(name)
        if place is None:
            return
        if place.sent and (now - place.sent[-1][0] < MERGED or len(place.sent) >= MOST_SENT):
            at, before = place.sent.pop()
            place.sent.append((at, before + count))
        else:
            place.sent.append((now, count))

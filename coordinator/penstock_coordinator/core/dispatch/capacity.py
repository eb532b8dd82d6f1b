"""What one session has room for.

Room is counted twice: in credits (how many more leases the session takes, a cumulative limit that the agent raises)
and in resources (what the leases that live on it have asked for). A place that is promised to a run, but not yet
granted, is a permit: it is out of the room until the grant is sent or the promise is taken back.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from penstock_coordinator.core.plan.environments import environment_kind

if TYPE_CHECKING:
    from penstock_coordinator.core.plan.model import Line


@dataclass(slots=True, eq=False)
class Capacity:
    """Room of one session. Grants never pass `grant_limit`, resources in use never pass `resources`."""

    session: int
    agent: str
    queues: frozenset[str]
    labels: dict[str, str]
    resources: dict[str, float]
    slots: int
    environments: dict[str, str] = field(default_factory=dict)
    """By kind that the agent knows: why it cannot make such ones; empty: it can."""
    grant_limit: int = 0
    granted: int = 0
    """The number of the last grant sent in this session, or of the last one that would have been in its place."""
    permits: int = 0
    leases: int = 0
    """Leases that live on the session."""
    used: dict[str, float] = field(default_factory=dict)
    open: bool = True
    """Not draining, not gone."""
    ringed: set[Line] = field(default_factory=set)
    """The lines in whose ring the session is."""

    def serves(self, line: Line) -> bool:
        """The agent could run a step of the line if it were idle."""
        return (
            line.queue in self.queues
            and all(self.labels.get(key) == value for key, value in line.labels)
            and all(self.resources.get(name, 0.0) >= amount for name, amount in line.resources)
            and (not line.environment or self.environments.get(environment_kind(line.environment)) == "")
        )

    def room(self, line: Line) -> int:
        """How many more leases of the line fit now."""
        if not self.open:
            return 0
        room = self.grant_limit - self.granted - self.permits
        for name, amount in line.resources:
            if amount > 0:
                free = self.resources.get(name, 0.0) - self.used.get(name, 0.0)
                # A hair of tolerance: thirds of a core must add up to a core. Compared as floats: of next to nothing
                # infinitely many fit, and infinity is no int.
                fits = free / amount + 1e-9
                if fits < 1:
                    return 0
                if fits < room:
                    room = int(fits)
        return max(room, 0)

    def promise(self, line: Line, count: int) -> None:
        self.permits += count
        self._use(line, count)

    def take_back(self, line: Line, count: int) -> None:
        """Permits that were not used."""
        self.permits -= count
        self._use(line, -count)

    def grant(self) -> int:
        """A permit becomes a lease; the number of its grant."""
        self.permits -= 1
        self.granted += 1
        self.leases += 1
        return self.granted

    def void(self, limit: int) -> None:
        """Credits up to that limit are none, but for those that are promised already."""
        self.grant_limit = max(self.grant_limit, limit)
        self.granted = max(self.granted, limit - self.permits)

    def adopt(self, line: Line) -> None:
        """A lease of a former session lives on in this one."""
        self.leases += 1
        self._use(line, 1)

    def end(self, line: Line) -> None:
        """A lease has ended, in whatever way."""
        self.leases -= 1
        self._use(line, -1)

    def _use(self, line: Line, count: int) -> None:
        for name, amount in line.resources:
            self.used[name] = self.used.get(name, 0.0) + amount * count

"""Who waits for the agents of one line, in which order.

An entry is served before those of a lower effective priority: its own and one more for each `aging` that it has waited
since it was last given a place. Written as the instant `since - priority * aging`, its score, that order does not
change with time: nothing has to be moved when somebody grows older, and the earliest score is the highest effective
priority.

Entries of the same priority take weighted turns (see `tiers`), whoever of them has waited longer: with steps that take
hours the order of waiting alone would be all that counts, and weights nothing. Age counts between priorities: of two
tiers that wait, whoever is served comes before all of the other tier. If that is not so for the one whose turn it is,
the oldest of its tier is served.
"""

from __future__ import annotations

import heapq
from collections import deque
from typing import TYPE_CHECKING

from penstock_coordinator.core.dispatch.tiers import Applicant, Tier, Waiting

if TYPE_CHECKING:
    from collections.abc import Iterator

    from penstock_coordinator.core.dispatch.capacity import Capacity
    from penstock_coordinator.core.plan.model import Line


class LineQueue:
    """The entries that wait on one line, and the sessions that can serve it."""

    __slots__ = ("_aging", "_best", "_tiers", "demand", "line", "ring", "sessions", "size", "turn")

    def __init__(self, line: Line, aging: int) -> None:
        self.line = line
        self.size = 0
        """How many entries wait."""
        self.demand = 0
        """How many places they wait for, together."""
        self.sessions: dict[int, Capacity] = {}
        self.ring: deque[Capacity] = deque()
        """Sessions that may have room; one without is dropped when it comes up."""
        self.turn = 0
        """Rises with each place that is given, over all lines: the line that was served longest ago has the least."""
        self._aging = aging
        self._tiers: dict[int, Tier] = {}
        self._best: list[tuple[int, int]] = []
        """A heap of (score of the oldest, priority) over the tiers; former scores are passed over."""

    def set_demand(self, applicant: Applicant, demand: int, now: int) -> None:
        """The applicant waits for so many places from now on; 0 takes it out. Its waiting began when it came. While it
        waits its priority is the same."""
        tier = self._tiers.get(applicant.priority)
        entry = None if tier is None else tier.find(applicant.run_id, applicant.position)
        if entry is None:
            if demand:
                self._add(Waiting(applicant, demand, now))
        elif demand:
            self.demand += demand - entry.demand
            entry.demand = demand
        else:
            self._remove(entry)

    def find(self, run_id: bytes, position: int) -> Waiting | None:
        """The entry of the run at this position of its plan's lines. Takes time by the number of priorities."""
        found = (tier.find(run_id, position) for tier in self._tiers.values())
        return next((entry for entry in found if entry is not None), None)

    def entries(self) -> Iterator[Waiting]:
        for tier in self._tiers.values():
            yield from tier.entries()

    def next(self) -> Waiting | None:
        """Who is served next."""
        if not self.size:
            return None
        if len(self._tiers) == 1:
            (tier,) = self._tiers.values()
            return tier.head()
        tier, rival = self._leaders()
        head = tier.head()
        return head if self.score(head) <= rival else tier.oldest()

    def serve(self, entry: Waiting, count: int, now: int) -> None:
        """The entry is given `count` places; for the rest it waits anew."""
        tier = self._tiers[entry.applicant.priority]
        tier.charge(entry, count)
        if count >= entry.demand:
            self._remove(entry)
            return
        entry.demand -= count
        self.demand -= count
        if entry.since != now:
            tier.wait_anew(entry, now)
            self._rescore(tier)

    def score(self, entry: Waiting) -> int:
        """Earlier is of higher effective priority, at any time."""
        return entry.since - entry.applicant.priority * self._aging

    @property
    def best_score(self) -> int:
        """Of all who wait. There must be somebody."""
        return self._top()[0]

    def oldest_since(self) -> int:
        """When the one began to wait, or was last given a place, that has waited longest. There must be somebody."""
        return min(tier.oldest().since for tier in self._tiers.values())

    def effective_priority(self, entry: Waiting, now: int) -> int:
        return entry.applicant.priority + max(now - entry.since, 0) // self._aging

    def score_if_served(self, entry: Waiting, now: int) -> int:
        """The entry's score after a place that it is given now."""
        return now - entry.applicant.priority * self._aging

    def tier_of(self, entry: Waiting) -> Tier:
        return self._tiers[entry.applicant.priority]

    # --- tiers

    def _add(self, entry: Waiting) -> None:
        self.size += 1
        self.demand += entry.demand
        priority = entry.applicant.priority
        tier = self._tiers.get(priority)
        if tier is None:
            tier = self._tiers[priority] = Tier(priority)
            tier.score = self.score(entry)
            heapq.heappush(self._best, (tier.score, priority))
        tier.add(entry)

    def _remove(self, entry: Waiting) -> None:
        self.size -= 1
        self.demand -= entry.demand
        tier = self._tiers[entry.applicant.priority]
        tier.remove(entry)
        if tier.size:
            self._rescore(tier)
        else:
            del self._tiers[tier.priority]

    def _rescore(self, tier: Tier) -> None:
        score = self.score(tier.oldest())
        if score == tier.score:
            return
        tier.score = score
        heapq.heappush(self._best, (score, tier.priority))
        if len(self._best) > 2 * len(self._tiers) + 16:
            self._best = [(one.score, one.priority) for one in self._tiers.values()]
            heapq.heapify(self._best)

    def _top(self) -> tuple[int, int]:
        """The best tier's score and priority."""
        best = self._best
        while (tier := self._tiers.get(best[0][1])) is None or tier.score != best[0][0]:
            heapq.heappop(best)
        return best[0]

    def _leaders(self) -> tuple[Tier, int]:
        """The best tier, and the score of the next one. There are at least two."""
        top = self._top()
        heapq.heappop(self._best)
        while (rival := self._top())[1] == top[1]:
            heapq.heappop(self._best)
        heapq.heappush(self._best, top)
        return self._tiers[top[1]], rival[0]

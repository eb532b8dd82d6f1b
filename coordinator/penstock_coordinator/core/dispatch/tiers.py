"""Those who wait on a line with the same priority: groups take turns, in a group its runs, in a run its steps."""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from penstock_coordinator.core.dispatch.fair import FairOrder

if TYPE_CHECKING:
    from penstock_coordinator.core.plan.model import Line

Group = str | None
"""The value of the label that runs are shared out by; None: of the runs without it."""


class Applicant(msgspec.Struct, frozen=True, gc=False):
    """What waits as one: the ready step runs of a run at one position of its plan's lines."""

    run_id: bytes
    position: int
    line: Line
    priority: int
    """The run's and the step's, added up."""
    weight: float = 1.0
    """Of the run, among those of its group."""
    group: Group = None
    group_weight: float = 1.0
    """Among the groups."""


@dataclass(slots=True, eq=False)
class Waiting:
    """A applicant that waits for `demand` places; 0 once it does not wait any more."""

    applicant: Applicant
    demand: int
    since: int
    """When it was last given a place, or began to wait. Microseconds of a clock that only the caller knows."""


class Tier:
    """The entries of one priority on one line."""

    __slots__ = ("_age", "_flows", "_numbers", "_runs", "groups", "priority", "score", "size")

    def __init__(self, priority: int) -> None:
        self.priority = priority
        self.score = 0
        """Of the entry that has waited longest; kept by the line."""
        self.size = 0
        self.groups: FairOrder[Group] = FairOrder()
        self._runs: dict[Group, FairOrder[bytes]] = {}
        self._flows: dict[bytes, list[Waiting]] = {}
        """Per run its entries, the next one first: one for each position of its lines that it waits on, mostly one."""
        self._age: list[tuple[int, int, Waiting]] = []
        """A heap of (since, number, entry); what was served or left since is passed over."""
        self._numbers = 0

    def add(self, entry: Waiting) -> None:
        applicant = entry.applicant
        self.size += 1
        flow = self._flows.get(applicant.run_id)
        if flow is None:
            flow = self._flows[applicant.run_id] = [entry]
            self._join(applicant)
        else:
            flow.append(entry)
        self.note_since(entry)

    def remove(self, entry: Waiting) -> None:
        applicant = entry.applicant
        self.size -= 1
        entry.demand = 0
        flow = self._flows[applicant.run_id]
        flow.remove(entry)
        if flow:
            return
        del self._flows[applicant.run_id]
        runs = self._runs[applicant.group]
        runs.remove(applicant.run_id)
        if not runs:
            del self._runs[applicant.group]
            self.groups.remove(applicant.group)

    def _join(self, applicant: Applicant) -> None:
        runs = self._runs.get(applicant.group)
        if runs is None:
            runs = self._runs[applicant.group] = FairOrder()
            self.groups.add(applicant.group)
        runs.add(applicant.run_id)

    def head(self) -> Waiting:
        """Whose turn it is. There must be one."""
        run_id = self._runs[self.groups.first()].first()
        return self._flows[run_id][0]

    def oldest(self) -> Waiting:
        """Who has waited longest. There must be one."""
        age = self._age
        while not age[0][2].demand or age[0][2].since != age[0][0]:
            heapq.heappop(age)
        return age[0][2]

    def charge(self, entry: Waiting, count: int) -> None:
        """The entry is given `count` places."""
        applicant = entry.applicant
        self.groups.charge(applicant.group, count / applicant.group_weight)
        self._runs[applicant.group].charge(applicant.run_id, count / applicant.weight)
        flow = self._flows[applicant.run_id]
        if len(flow) > 1:
            flow.remove(entry)
            flow.append(entry)

    def note_since(self, entry: Waiting) -> None:
        """The entry waits since another instant."""
        self._numbers += 1
        heapq.heappush(self._age, (entry.since, self._numbers, entry))
        if len(self._age) > 2 * self.size + 16:
            self._age = [(one.since, n, one) for n, one in enumerate(self.entries())]
            self._numbers = len(self._age)
            heapq.heapify(self._age)

    def entries(self) -> list[Waiting]:
        return [entry for flow in self._flows.values() for entry in flow]

    def group_weight(self, group: Group) -> float:
        """Of a group that waits."""
        return self._flows[self._runs[group].first()][0].applicant.group_weight

    def runs_of(self, group: Group) -> FairOrder[bytes]:
        return self._runs[group]

    def flow(self, run_id: bytes) -> list[Waiting]:
        return self._flows[run_id]

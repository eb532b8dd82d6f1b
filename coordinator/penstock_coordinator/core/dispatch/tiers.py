"""Those who wait on a line with the same priority: groups take turns, in a group its runs, in a run its steps."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from penstock_coordinator.core.dispatch.fair import FairOrder

if TYPE_CHECKING:
    from collections.abc import Iterator

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


class Waiting:
    """An applicant that waits for `demand` places; 0 once it does not wait any more.

    It knows its neighbours itself: thousands wait at once, and heaps and lists of them would be larger than they are.
    """

    __slots__ = ("applicant", "demand", "earlier", "later", "sibling", "since")

    def __init__(self, applicant: Applicant, demand: int, since: int) -> None:
        self.applicant = applicant
        self.demand = demand
        self.since = since
        """When it was last given a place, or began to wait. Microseconds of a clock that only the caller knows."""
        self.earlier: Waiting | None = None
        """Of its tier, the next one that has waited at least as long."""
        self.later: Waiting | None = None
        self.sibling: Waiting | None = None
        """Of the run's entries in its tier, the one whose turn is after its own."""


class Tier:
    """The entries of one priority on one line."""

    __slots__ = ("_flows", "_newest", "_oldest", "_runs", "groups", "priority", "score", "size")

    def __init__(self, priority: int) -> None:
        self.priority = priority
        self.score = 0
        """Of the entry that has waited longest; kept by the line."""
        self.size = 0
        self.groups: FairOrder[Group] = FairOrder()
        self._runs: dict[Group, FairOrder[bytes]] = {}
        self._flows: dict[bytes, Waiting] = {}
        """Per run the entry whose turn is next: it has one for each position of its lines that it waits on, mostly
        one."""
        self._oldest: Waiting | None = None
        self._newest: Waiting | None = None

    def find(self, run_id: bytes, position: int) -> Waiting | None:
        entry = self._flows.get(run_id)
        while entry is not None and entry.applicant.position != position:
            entry = entry.sibling
        return entry

    def add(self, entry: Waiting) -> None:
        applicant = entry.applicant
        self.size += 1
        self._grow_older(entry)
        first = self._flows.setdefault(applicant.run_id, entry)
        if first is entry:
            self._join(applicant)
        else:
            _last(first).sibling = entry

    def remove(self, entry: Waiting) -> None:
        applicant = entry.applicant
        self.size -= 1
        entry.demand = 0
        self._leave_age(entry)
        if self._leave_flow(entry):
            return
        del self._flows[applicant.run_id]
        runs = self._runs[applicant.group]
        runs.remove(applicant.run_id)
        if not runs:
            del self._runs[applicant.group]
            self.groups.remove(applicant.group)

    def _leave_flow(self, entry: Waiting) -> bool:
        """Whether the run has other entries here."""
        run_id = entry.applicant.run_id
        first = self._flows[run_id]
        if first is entry:
            if entry.sibling is None:
                return False
            self._flows[run_id] = entry.sibling
        else:
            while first.sibling is not entry:
                assert first.sibling is not None
                first = first.sibling
            first.sibling = entry.sibling
        entry.sibling = None
        return True

    def _join(self, applicant: Applicant) -> None:
        runs = self._runs.get(applicant.group)
        if runs is None:
            runs = self._runs[applicant.group] = FairOrder()
            self.groups.add(applicant.group)
        runs.add(applicant.run_id)

    def head(self) -> Waiting:
        """Whose turn it is. There must be one."""
        return self._flows[self._runs[self.groups.first()].first()]

    def oldest(self) -> Waiting:
        """Who has waited longest. There must be one."""
        assert self._oldest is not None
        return self._oldest

    def charge(self, entry: Waiting, count: int) -> None:
        """The entry is given `count` places."""
        applicant = entry.applicant
        self.groups.charge(applicant.group, count / applicant.group_weight)
        self._runs[applicant.group].charge(applicant.run_id, count / applicant.weight)
        if self._leave_flow(entry):
            _last(self._flows[applicant.run_id]).sibling = entry

    def wait_anew(self, entry: Waiting, since: int) -> None:
        """The entry waits since another instant."""
        self._leave_age(entry)
        entry.since = since
        self._grow_older(entry)

    def _grow_older(self, entry: Waiting) -> None:
        """It takes its place by age. Instants come in their order, so that it is nearly always the last one."""
        before, after = self._newest, None
        while before is not None and before.since > entry.since:
            before, after = before.earlier, before
        entry.earlier, entry.later = before, after
        if before is None:
            self._oldest = entry
        else:
            before.later = entry
        if after is None:
            self._newest = entry
        else:
            after.earlier = entry

    def _leave_age(self, entry: Waiting) -> None:
        before, after = entry.earlier, entry.later
        if before is None:
            self._oldest = after
        else:
            before.later = after
        if after is None:
            self._newest = before
        else:
            after.earlier = before
        entry.earlier = entry.later = None

    def entries(self) -> Iterator[Waiting]:
        """Who has waited longest comes first."""
        entry = self._oldest
        while entry is not None:
            yield entry
            entry = entry.later

    def group_weight(self, group: Group) -> float:
        """Of a group that waits."""
        return self._flows[self._runs[group].first()].applicant.group_weight

    def runs_of(self, group: Group) -> FairOrder[bytes]:
        return self._runs[group]

    def before(self, entry: Waiting) -> int:
        """How many entries of the same run have their turns before this one."""
        count, first = 0, self._flows[entry.applicant.run_id]
        while first is not entry:
            assert first.sibling is not None
            count, first = count + 1, first.sibling
        return count


def _last(entry: Waiting) -> Waiting:
    """Of the run's entries, from this one on."""
    while entry.sibling is not None:
        entry = entry.sibling
    return entry

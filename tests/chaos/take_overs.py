"""For how long nobody granted leases after a fault of an owner, and whether that was too long."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from tests.chaos.faults import Fault
from tests.chaos.writers import Write

OWNER = "owner"
MEMBER = "member"
OWNERS = (OWNER, MEMBER)
"""Roles of those that have runs."""
KILL_SLACK, OTHER_SLACK = 2.0, 8.0
"""Seconds beyond the ownership lease."""


@dataclass(frozen=True, slots=True)
class TakeOver:
    """What followed from one fault of a coordinator that owned runs."""

    fault: Fault
    seconds: float
    """From the fault to the first lease by another owner of a run that the victim had; if nobody took over, the longest
    time in which the victim granted no lease, up to its first one after the fault."""
    moved: bool
    """Whether somebody took over. The same process that was started again counts too."""
    bound: float

    @property
    def missed(self) -> bool:
        return self.seconds > self.bound

    def line(self) -> str:
        how = "taken over" if self.moved else "kept"
        late = f", MISSED {self.bound:g} s" if self.missed else ""
        lasts = f" for {self.fault.seconds:g} s" if self.fault.seconds else ""
        return f"{self.fault.title} {self.fault.name}{lasts}: {how}, {self.seconds:.2f} s{late}"


def take_overs(
    faults: Iterable[Fault], writes: Sequence[Write], leases: set[tuple[str, int]], lease: float
) -> list[TakeOver]:
    """Of each fault of an owner. `leases` are the records, by run and number, that grant some; `lease` is the ownership
    lease in seconds."""
    struck = sorted((fault for fault in faults if fault.began and fault.role in OWNERS), key=lambda each: each.began)
    last = max((write.at for write in writes), default=0) + 1
    ends = [*(int(fault.began * 1e6) for fault in struck[1:]), last][: len(struck)]
    found = []
    for fault, end in zip(struck, ends, strict=True):
        bound = lease + (KILL_SLACK if fault.kind == "kill" else OTHER_SLACK)
        found.append(_of(fault, end, writes, leases, bound))
    return [each for each in found if each is not None]


def _of(fault: Fault, end: int, writes: Sequence[Write], leases: set[tuple[str, int]], bound: float) -> TakeOver | None:
    """Until `end`, when the next one began: what follows from there is not this one's."""
    begin = int(fault.began * 1e6)
    epoch = max((write.epoch for write in writes if write.writer == fault.name and write.at < begin), default=0)
    had = _runs_of(epoch, begin, writes)
    if not had or end <= begin:
        return None  # There was nothing left to write.
    granted = [each for each in writes if begin < each.at < end and (each.run_id, each.first_seq) in leases]
    # A head that takes over from its member has an older epoch.
    by_others = [write.at for write in granted if write.epoch != epoch and write.run_id in had]
    if by_others:
        return TakeOver(fault, (min(by_others) - begin) / 1e6, True, bound)
    times = sorted(write.at for write in granted if write.epoch == epoch)
    over = bisect_right(times, int(fault.ended * 1e6))
    stops = [begin, *times[: over + 1], *([end] if over == len(times) else [])]
    return TakeOver(fault, max(after - before for before, after in pairwise(stops)) / 1e6, False, bound)


def _runs_of(epoch: int, begin: int, writes: Sequence[Write]) -> set[str]:
    """Those that the owner of the epoch had at the instant: all but what others wrote to who went on. It need not have
    written to each of them yet."""
    newest = {write.run_id: write.epoch for write in writes if write.at < begin}
    go_on = {write.epoch for write in writes if write.at > begin} & set(newest.values()) - {epoch}
    return {run_id for run_id, by in newest.items() if by not in go_on}

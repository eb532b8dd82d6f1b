"""What attempts have cost, to be summed.

It stands before the detail in the attempt's own row, in the same transaction as the event that ended the attempt: so
each attempt counts once, whoever restarts. When a run is removed, its sums are kept by day, pipeline and labels.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import Literal, Protocol, TypeAlias

import msgspec

from penstock_coordinator.ports.common import RunId

COSTED = 0xC1
"""The first byte of a detail with a cost: no MessagePack begins with it, and the details of former releases do not."""
_PREFIX = struct.Struct(">Bqqqq")
_pack = _PREFIX.pack
_MOST = (1 << 63) - 1
WELL = 1
"""The outcome of an attempt that completed; all others were wasted."""

Grouping: TypeAlias = Literal["", "pipeline", "label", "day"]
"""Empty: all together."""


class AttemptCost(msgspec.Struct, frozen=True, gc=False):
    """Of one attempt. Times are microseconds."""

    slot_time: int = 0
    """For how long it had a slot."""
    cpu_time: int = 0
    peak_memory_bytes: int = 0
    bytes_moved: int = 0
    """To and from the artifact store."""


NO_COST = AttemptCost()


def with_cost(cost: AttemptCost, detail: bytes) -> bytes:
    """The detail of an attempt's row."""
    slot_time, cpu_time, peak, moved = cost.slot_time, cost.cpu_time, cost.peak_memory_bytes, cost.bytes_moved
    if not (0 <= slot_time <= _MOST and 0 <= cpu_time <= _MOST and 0 <= peak <= _MOST and 0 <= moved <= _MOST):
        slot_time, cpu_time, peak, moved = (min(max(part, 0), _MOST) for part in (slot_time, cpu_time, peak, moved))
    return _pack(COSTED, slot_time, cpu_time, peak, moved) + detail


def cost_in(detail: bytes) -> AttemptCost | None:
    """None: it is of a release that did not count."""
    if not _is_costed(detail):
        return None
    _, *parts = _PREFIX.unpack_from(detail)
    return AttemptCost(*parts)


def without_cost(detail: bytes) -> bytes:
    return detail[_PREFIX.size :] if _is_costed(detail) else detail


def _is_costed(detail: bytes) -> bool:
    return len(detail) >= _PREFIX.size and detail[0] == COSTED


@dataclass(frozen=True, slots=True)
class Cost:
    """A sum over attempts."""

    attempts: int = 0
    slot_time: int = 0
    cpu_time: int = 0
    peak_memory_bytes: int = 0
    """Of the attempt that held most."""
    bytes_moved: int = 0
    memory_time: float = 0.0
    """Bytes times seconds: the peak of each attempt for as long as it had a slot."""

    def __add__(self, other: Cost) -> Cost:
        return Cost(
            self.attempts + other.attempts,
            self.slot_time + other.slot_time,
            self.cpu_time + other.cpu_time,
            max(self.peak_memory_bytes, other.peak_memory_bytes),
            self.bytes_moved + other.bytes_moved,
            self.memory_time + other.memory_time,
        )


@dataclass(frozen=True, slots=True)
class Costs:
    total: Cost = field(default_factory=Cost)
    wasted: Cost = field(default_factory=Cost)
    """Those of `total` that did not complete: they failed, were lost, timed out or were cancelled."""

    def __add__(self, other: Costs) -> Costs:
        return Costs(self.total + other.total, self.wasted + other.wasted)


def costs_of(cost: AttemptCost, outcome: int) -> Costs:
    """Of one attempt."""
    memory_time = cost.peak_memory_bytes * (cost.slot_time / 1e6)
    one = Cost(1, cost.slot_time, cost.cpu_time, cost.peak_memory_bytes, cost.bytes_moved, memory_time)
    return Costs(one, Cost() if outcome == WELL else one)


@dataclass(frozen=True, slots=True)
class CostFilter:
    """Runs, those that were removed too."""

    pipeline: str = ""
    labels: tuple[tuple[str, str], ...] = ()
    since: int | None = None
    """When the runs were created, in microseconds since 1970; of removed runs whole days (UTC) count that begin then or
    later."""
    until: int | None = None


@dataclass(frozen=True, slots=True)
class StepCost:
    """Of a step by its number, in runs of one version."""

    version_digest: str
    run_id: RunId | None
    """Of one run that had several generations: it may have been of other versions before, which number its steps."""
    step: int
    costs: Costs


class CostStore(Protocol):
    """All methods raise `Unavailable`."""

    async def of_run(self, run_id: RunId) -> list[tuple[int, Costs]]:
        """By step, of all generations, in order; of a run that is under way what is committed."""

    async def of_runs(
        self, where: CostFilter, by: Grouping, label: str = "", limit: int = 1_000
    ) -> list[tuple[str, Costs]]:
        """By the name of the group, those that took most slots first: pipelines, values of the label (empty: runs
        without it), or days as 2026-11-21."""

    async def of_steps(self, where: CostFilter) -> list[StepCost]:
        """Of the pipeline that the filter names, in no order. Removed runs are not counted."""

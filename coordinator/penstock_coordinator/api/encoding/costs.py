"""What attempts, steps and runs have cost."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from penstock.v1 import cost_pb2
from penstock_coordinator.api.encoding.values import span
from penstock_coordinator.ports import costs_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from penstock_coordinator.ports import Cost, Costs
    from penstock_coordinator.runtime.views import AttemptView

_GB = 1e9


@dataclass(frozen=True, slots=True)
class Prices:
    """Per second, in `currency`."""

    slot: float = 0.0
    cpu: float = 0.0
    gb: float = 0.0
    """Of a gigabyte (10^9) of memory."""
    currency: str = ""


NO_PRICES = Prices()


def costs(found: Costs, prices: Prices) -> cost_pb2.Costs:
    return cost_pb2.Costs(total=cost(found.total, prices), wasted=cost(found.wasted, prices))


def cost(found: Cost, prices: Prices) -> cost_pb2.Cost:
    # Sums are the same in whatever order their parts came.
    gb_seconds = round(found.memory_time / _GB, 9)
    return cost_pb2.Cost(
        attempts=found.attempts,
        slot_time=span(found.slot_time),
        cpu_time=span(found.cpu_time),
        peak_memory_bytes=found.peak_memory_bytes,
        bytes_moved=found.bytes_moved,
        memory_gb_seconds=gb_seconds,
        price=found.slot_time / 1e6 * prices.slot + found.cpu_time / 1e6 * prices.cpu + gb_seconds * prices.gb,
    )


def of_attempts(views: Iterable[AttemptView]) -> Costs | None:
    """None of none."""
    found: Costs | None = None
    for view in views:
        one = costs_of(view.cost, view.outcome)
        found = one if found is None else found + one
    return found

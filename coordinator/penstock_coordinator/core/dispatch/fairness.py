"""How a coordinator shares its agents out between runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from penstock_coordinator.core.dispatch.tiers import Group


class RunShare(msgspec.Struct, frozen=True, gc=False):
    """How a run stands among those who wait for the same agents."""

    priority: int = 0
    weight: float = 1.0
    """Among the runs of its group."""
    group: Group = None
    group_weight: float = 1.0
    """Among the groups."""


USUAL = RunShare()


@dataclass(frozen=True, slots=True)
class Fairness:
    """The same for all runs of a coordinator."""

    aging: int = 60_000_000
    """Microseconds of waiting that raise a priority by one."""
    label: str = ""
    """Runs with the same value of this label are a group, and so are those without it. Empty: all are one group."""
    weights: Mapping[str, float] = field(default_factory=dict)
    """Of groups, by the label's value; 1 for those that are not named."""

    def share(self, priority: int, weight: float, labels: Mapping[str, str]) -> RunShare:
        group = labels.get(self.label) if self.label else None
        if group is None and not priority and weight == 1.0:
            return USUAL
        return RunShare(priority, weight, group, 1.0 if group is None else self.weights.get(group, 1.0))

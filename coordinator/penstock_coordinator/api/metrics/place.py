"""What the HTTP port of a process tells of."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from penstock_coordinator.api.encoding.costs import NO_PRICES, Prices
from penstock_coordinator.core.counts import Counts
from penstock_coordinator.runtime.loop_lag import LoopLag

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from penstock_coordinator.runtime.board_failover import HotState
    from penstock_coordinator.runtime.janitor import Janitor
    from penstock_coordinator.runtime.ownership import OwnershipKeeper
    from penstock_coordinator.runtime.supervisor import Supervisor


@dataclass(frozen=True, slots=True)
class Watched:
    """What is measured of a process as long as it lives, whether it owns runs or not."""

    counts: Counts = field(default_factory=Counts)
    lag: LoopLag = field(default_factory=LoopLag)


@dataclass(slots=True)
class Place:
    """Who is behind the port; without a supervisor the process follows, and owns no runs."""

    supervisor: Supervisor | None = None
    hot: HotState | None = None
    """What coordinators tell each other by; None: there is but this one."""
    watched: Watched = field(default_factory=Watched)
    prices: Prices = NO_PRICES
    keeper: OwnershipKeeper | None = None
    """Of the ownership lease; None: there is but this one."""
    janitor: Janitor | None = None
    """Of who owns runs."""
    folders: Mapping[str, Path] = field(default_factory=dict)
    """That it writes to, by the name that they are told under."""
    relayed: Callable[[], int] = lambda: 0
    """How many agents come to the owner by this process."""

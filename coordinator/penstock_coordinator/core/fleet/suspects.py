"""Which attempts the process of an agent may have died of."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

from penstock_coordinator.core.fleet.leases import Phase

if TYPE_CHECKING:
    from collections.abc import Collection

    from penstock_coordinator.core.fleet.leases import Lease, LeaseKey


def suspects(leases: Collection[Lease], slots: int, *, fill: bool = True) -> set[LeaseKey]:
    """Of a dead agent's leases, in the order of their grants, those that can have been running when it died.

    An agent accepts at once what it only queues, begins in the order of the grants, and runs at most `slots` attempts
    at a time. So these are the leases that it last named as running and, as far as that leaves slots free, the oldest
    of the others that it accepted. What it had named as finished is no suspect. With 0 slots it is not known how many
    it had, nor the order of the grants: whatever was accepted is a suspect. Without
    `fill` the free slots may have been other coordinators': then what was named as running alone is one.
    """
    accepted = [lease for lease in leases if lease.accepted and lease.phase is not Phase.FINISHED]
    if not slots:
        return {lease.key for lease in accepted}
    found = {lease.key for lease in accepted if lease.phase is Phase.RUNNING}
    if not fill:
        return found
    others = (lease.key for lease in accepted if lease.phase is not Phase.RUNNING)
    found.update(islice(others, max(0, slots - len(found))))
    return found

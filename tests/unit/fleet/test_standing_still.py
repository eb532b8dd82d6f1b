"""Time in which the coordinator could hear nobody counts for no lease."""

from __future__ import annotations

from penstock_coordinator.core.fleet.leases import Holder, LeaseTable

TTL, MARGIN = 1_000, 100


def test_leases_live_on_for_as_long_as_nobody_could_be_heard() -> None:
    table = LeaseTable(TTL, MARGIN)
    holder = table.add_holder(Holder("agent-1", 1, "boot-1", heard_at=0))
    table.stand_still(5_000, now=5_400)
    assert table.expired(5_400) == []
    assert table.expired(5_000 + TTL + MARGIN) == [holder]


def test_nobody_is_heard_in_the_future() -> None:
    table = LeaseTable(TTL, MARGIN)
    holder = table.add_holder(Holder("agent-1", 1, "boot-1", heard_at=5_300))
    table.stand_still(5_000, now=5_400)
    assert table.expires_at(holder) == 5_400 + TTL + MARGIN

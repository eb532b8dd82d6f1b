"""What is not accepted in time is called back, and given up when the agent's clock has ended it."""

from __future__ import annotations

from penstock_coordinator.core.fleet.acceptance import Acceptance
from penstock_coordinator.core.fleet.leases import Holder, Lease, LeaseTable
from penstock_coordinator.core.plan.model import Line

PATIENCE, TTL, MARGIN = 10, 30, 5


def sent(leases: LeaseTable, holder: Holder, acceptance: Acceptance, step: int, at: int) -> Lease:
    lease = leases.add(holder, (b"r" * 16, step, -1), 7, 1, Line("default"))
    lease.sent, lease.sent_at = True, at
    acceptance.sent(lease)
    return lease


def test_an_overdue_lease_is_called_back_once_and_lapses_with_its_ttl_and_margin() -> None:
    leases, acceptance = LeaseTable(TTL, MARGIN), Acceptance()
    holder = leases.add_holder(Holder("a", 1, "boot", 0))
    lease = sent(leases, holder, acceptance, 0, at=100)
    assert acceptance.overdue(leases, 109, PATIENCE) == []
    assert acceptance.overdue(leases, 110, PATIENCE) == [lease]
    assert acceptance.closed_until == 120
    assert acceptance.overdue(leases, 111, PATIENCE) == []
    assert acceptance.lapsed(leases, 100 + TTL + MARGIN - 1) == []
    assert acceptance.lapsed(leases, 100 + TTL + MARGIN) == [lease]
    assert acceptance.lapsed(leases, 200) == []


def test_what_is_accepted_late_or_over_does_not_lapse() -> None:
    leases, acceptance = LeaseTable(TTL, MARGIN), Acceptance()
    holder = leases.add_holder(Holder("a", 1, "boot", 0))
    late, returned, lost = (sent(leases, holder, acceptance, step, at=100 + step) for step in range(3))
    assert acceptance.overdue(leases, 150, PATIENCE) == [late, returned, lost]
    late.accepted = True
    leases.end(returned.key, returned.token)
    assert acceptance.lapsed(leases, 150) == [lost]

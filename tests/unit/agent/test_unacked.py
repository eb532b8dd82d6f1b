"""Which results an agent puts to disk: those that wait longer for their acknowledgement than others do."""

from __future__ import annotations

from penstock_agent.core.book import MOST_PATIENCE, TOGETHER, Unacked
from penstock_agent.core.leases import HOME, Lease, Result, Status

AFTER = 100_000


def finished(handle: int, at: int) -> Lease:
    lease = Lease(handle, (b"r", handle, -1), 1, 1, 0, None, 0, None)
    lease.result = Result(bytes([handle]), Status.OK, at, None)
    return lease


def usually(unacked: Unacked, took: int) -> None:
    for handle in range(200):
        unacked.acknowledged(took, Result(bytes([handle]), Status.OK, 0, None))


def test_what_waits_for_long_is_due_with_what_is_due_soon_after_it() -> None:
    unacked = Unacked(AFTER)
    first, second, third = (finished(number, at) for number, at in enumerate((0, AFTER // TOGETHER, AFTER)))
    for lease, at in ((first, 0), (second, AFTER // TOGETHER), (third, AFTER)):
        unacked.add(at, lease)
    due_at = unacked.spool_at
    assert due_at == AFTER + AFTER // TOGETHER
    assert unacked.due_for_spool(due_at) == [first, second]
    unacked.spool([first, second])
    assert unacked.unspooled(HOME) == [third]
    assert unacked.due_for_spool(10 * AFTER) == [third]
    unacked.spool([third])
    assert unacked.spool_at is None
    assert list(unacked.leases.values()) == [first, second, third]


def test_what_takes_no_longer_than_others_did_lately_is_not_put_to_disk() -> None:
    unacked = Unacked(AFTER)
    assert unacked.patience == AFTER
    usually(unacked, AFTER * 3 // 2)
    lease = finished(1, 0)
    unacked.add(0, lease)
    assert unacked.due_for_spool(AFTER * 5 // 2) == []
    assert unacked.due_for_spool(AFTER * 3) == [lease]


def test_however_long_acknowledgements_take_nothing_is_in_memory_alone_for_long() -> None:
    unacked = Unacked(AFTER)
    usually(unacked, 1_000 * AFTER)
    assert unacked.patience == MOST_PATIENCE * AFTER
    usually(unacked, AFTER // 10)
    assert unacked.patience == AFTER


def test_what_was_acknowledged_is_not_due_any_more() -> None:
    unacked = Unacked(AFTER)
    lease = finished(1, 0)
    unacked.add(0, lease)
    unacked.remove(lease)
    assert unacked.due_for_spool(10 * AFTER) == []
    assert not unacked.leases

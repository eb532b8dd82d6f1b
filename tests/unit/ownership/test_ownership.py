"""When one coordinator may take another one's runs, and when it may act itself."""

from __future__ import annotations

from dataclasses import replace

from penstock_coordinator.core.fleet.ownership import (
    APPOINTED_FOR,
    LONGEST_LOOK,
    SHORTEST_LOOK,
    CoordinatorRow,
    Ownership,
    OwnershipState,
    look_interval,
    renewal_interval,
)

SECOND = 1_000_000
LEASE = 10 * SECOND
ME = CoordinatorRow("me", OwnershipState.FOLLOWER, 0, 1, LEASE, "me:7400", "me:7480", 0)
OWNER = CoordinatorRow("owner", OwnershipState.OWNER, 7, 1, LEASE, "owner:7400", "owner:7480", 0)
WAITING = CoordinatorRow("waiting", OwnershipState.FOLLOWER, 0, 1, LEASE, "waiting:7400", "waiting:7480", 0)


def moved(row: CoordinatorRow) -> CoordinatorRow:
    return replace(row, renewals=row.renewals + 1)


def test_where_nobody_owns_there_is_nothing_to_wait_for() -> None:
    ownership = Ownership("me", LEASE)
    assert ownership.looked([ME, WAITING], 0)
    assert ownership.may_claim(0)


def test_an_owner_is_waited_for_from_when_it_was_seen_to_stand_still() -> None:
    ownership = Ownership("me", LEASE)
    ownership.looked([ME, OWNER], 5 * SECOND)
    assert not ownership.may_claim(5 * SECOND + LEASE), "clocks drift"
    assert ownership.may_claim(5 * SECOND + LEASE + LEASE // 100)
    assert ownership.claimable_at() > 5 * SECOND + LEASE


def test_an_owner_that_moves_is_waited_for_anew() -> None:
    ownership = Ownership("me", LEASE)
    ownership.looked([ME, OWNER], 0)
    ownership.looked([ME, OWNER], 9 * SECOND)
    ownership.looked([ME, moved(OWNER)], 10 * SECOND)
    assert not ownership.may_claim(19 * SECOND)
    assert ownership.still_for("owner", 19 * SECOND) == 9 * SECOND
    assert ownership.may_claim(21 * SECOND)


def test_the_claim_is_left_to_the_one_that_is_appointed_for_a_moment() -> None:
    appointed = replace(moved(WAITING), appointed=True)
    ownership = Ownership("me", LEASE)
    ownership.looked([ME, OWNER, WAITING], 0)
    ownership.looked([ME, appointed], SECOND)
    assert not ownership.may_claim(SECOND + APPOINTED_FOR - 1)
    ownership.looked([ME, moved(appointed)], SECOND + APPOINTED_FOR // 2)
    assert ownership.may_claim(SECOND + APPOINTED_FOR), "it moves, and does not claim"


def test_the_one_that_is_appointed_waits_for_nobody() -> None:
    ownership = Ownership("me", LEASE)
    ownership.looked([ME, OWNER, WAITING], 0)
    ownership.looked([replace(ME, appointed=True), WAITING], SECOND)
    assert ownership.may_claim(SECOND)


def test_whoever_is_appointed_an_owner_is_waited_for() -> None:
    ownership = Ownership("me", LEASE)
    ownership.looked([ME, OWNER, replace(WAITING, appointed=True)], 0)
    assert not ownership.may_claim(APPOINTED_FOR)


def test_the_owners_own_lease_is_waited_for_not_that_of_who_waits() -> None:
    ownership = Ownership("me", SECOND)
    ownership.looked([ME, OWNER], 0)
    assert not ownership.may_claim(2 * SECOND)


def test_who_was_forgotten_has_seen_nothing() -> None:
    ownership = Ownership("me", LEASE)
    ownership.looked([ME, OWNER], 0)
    assert not ownership.looked([OWNER], 19 * SECOND)
    assert ownership.looked([ME, OWNER], 20 * SECOND)
    assert not ownership.may_claim(29 * SECOND)


def test_an_owner_counts_from_before_it_asked_and_stops_early() -> None:
    ownership = Ownership("me", LEASE)
    assert not ownership.may_act(0)
    ownership.won(8, 3 * SECOND, alone=False)
    assert ownership.may_act(3 * SECOND + LEASE // 2)
    ends_at = ownership.ends_at
    assert ends_at is not None
    assert ends_at < 3 * SECOND + LEASE
    assert not ownership.may_act(ends_at)
    ownership.renewed(8 * SECOND, alone=False)
    assert ownership.may_act(ends_at)
    ownership.ended()
    assert not ownership.may_act(8 * SECOND)


def test_who_is_alone_may_go_on() -> None:
    ownership = Ownership("me", LEASE)
    ownership.won(8, 0, alone=True)
    assert ownership.may_act(100 * LEASE)
    ownership.renewed(SECOND, alone=False)
    assert not ownership.may_act(100 * LEASE)


def test_an_answer_that_comes_late_does_not_shorten_what_is_left() -> None:
    ownership = Ownership("me", LEASE)
    ownership.won(8, 5 * SECOND, alone=False)
    ownership.renewed(2 * SECOND, alone=False)
    assert ownership.may_act(5 * SECOND + LEASE // 2)


def test_an_owner_claims_nothing_and_forgets_who_stood_still_for_many_leases() -> None:
    ownership = Ownership("me", LEASE)
    ownership.won(8, 0, alone=False)
    mine = replace(ME, state=OwnershipState.OWNER, epoch=8)
    assert ownership.looked([mine, WAITING], 0)
    assert not ownership.may_claim(100 * LEASE)
    assert ownership.forgotten(9 * LEASE) == []
    assert ownership.forgotten(11 * LEASE) == [WAITING]
    ownership.looked([mine, moved(WAITING)], 11 * LEASE)
    assert ownership.forgotten(12 * LEASE) == []


def test_looks_come_often_and_renewals_twice_before_an_owner_has_to_stop() -> None:
    assert look_interval(10 * SECOND) == LONGEST_LOOK
    assert look_interval(SECOND // 10) == SHORTEST_LOOK
    ownership = Ownership("me", LEASE)
    ownership.won(8, 0, alone=False)
    ends_at = ownership.ends_at
    assert ends_at is not None
    assert 2 * renewal_interval(LEASE) < ends_at

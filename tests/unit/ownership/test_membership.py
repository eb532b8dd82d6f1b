"""When one that waits may join a head, when a head may end a member, and when a member is over with its head."""

from __future__ import annotations

from dataclasses import replace

import pytest

from penstock_coordinator.core.fleet.ownership import CoordinatorRow, Ownership, OwnershipState, renewal_interval

SECOND = 1_000_000
LEASE = 10 * SECOND
EPOCH = 7
ME = CoordinatorRow("me", OwnershipState.FOLLOWER, 0, 1, LEASE, "me:7400", "me:7480", 0)
HEAD = CoordinatorRow("head", OwnershipState.OWNER, EPOCH, 1, LEASE, "head:7400", "", 0, head_epoch=EPOCH)
MEMBER = CoordinatorRow("member", OwnershipState.MEMBER, 9, 1, LEASE, "member:7400", "", 0, head_epoch=EPOCH)
WAITING = CoordinatorRow("waiting", OwnershipState.FOLLOWER, 0, 1, LEASE, "waiting:7400", "", 0)


def moved(row: CoordinatorRow) -> CoordinatorRow:
    return replace(row, renewals=row.renewals + 1)


def follower(*rows: CoordinatorRow) -> Ownership:
    """It has seen all of them move, at 0."""
    ownership = Ownership("me", LEASE)
    ownership.looked([ME, *(replace(row, renewals=row.renewals - 1) for row in rows)], -1)
    ownership.looked([ME, *rows], 0)
    return ownership


def member() -> Ownership:
    ownership = follower(HEAD)
    ownership.joined(8, HEAD, 0)
    return ownership


def mine(epoch: int = 8) -> CoordinatorRow:
    return replace(ME, state=OwnershipState.MEMBER, epoch=epoch, head_epoch=EPOCH)


def head() -> Ownership:
    ownership = follower(MEMBER)
    ownership.won(EPOCH, 0, alone=False)
    return ownership


def test_a_head_that_moves_is_joined() -> None:
    assert follower(HEAD).may_join(0) == HEAD
    assert follower(HEAD, MEMBER, WAITING).may_join(SECOND) == HEAD


def test_a_head_that_was_not_seen_to_move_is_not_joined() -> None:
    ownership = Ownership("me", LEASE)
    ownership.looked([ME, HEAD], 0)
    assert ownership.may_join(0) is None, "it may be dead, and whoever joins is waited for"
    ownership.looked([ME, moved(HEAD)], SECOND)
    assert ownership.may_join(SECOND) == moved(HEAD)


def test_a_head_that_stands_still_is_not_joined() -> None:
    assert follower(HEAD).may_join(2 * renewal_interval(LEASE) - 1) == HEAD
    assert follower(HEAD).may_join(2 * renewal_interval(LEASE)) is None


@pytest.mark.parametrize(
    "rows",
    [
        (),
        (replace(HEAD, head_epoch=0),),
        (replace(HEAD, head_epoch=EPOCH - 2),),
        (HEAD, replace(HEAD, coordinator_id="other")),
        (HEAD, replace(WAITING, appointed=True)),
    ],
    ids=["none", "a former release", "a former claim of it", "two", "somebody is appointed"],
)
def test_none_is_joined_but_the_one_head_that_takes_members(rows: tuple[CoordinatorRow, ...]) -> None:
    assert follower(*rows).may_join(0) is None


def test_who_owns_joins_nobody() -> None:
    assert member().may_join(0) is None


def test_a_member_counts_as_a_head_does_and_is_never_alone() -> None:
    ownership = follower(HEAD)
    ownership.joined(8, HEAD, 3 * SECOND)
    assert (ownership.role, ownership.epoch, ownership.head_epoch) == (OwnershipState.MEMBER, 8, EPOCH)
    assert ownership.ends_at == 3 * SECOND + LEASE * 9 // 10
    assert ownership.may_act(11 * SECOND)
    assert not ownership.may_act(12 * SECOND)
    ownership.renewed(5 * SECOND, alone=True)
    assert not ownership.alone
    assert not ownership.may_act(15 * SECOND)


def test_a_member_knows_its_own_row() -> None:
    assert member().looked([mine(), HEAD], 0)
    assert not member().looked([ME, HEAD], 0), "it waits, as far as others see"
    assert not member().looked([mine(epoch=9), HEAD], 0), "of another incarnation"
    assert not member().looked([HEAD], 0)


@pytest.mark.parametrize(
    "rows",
    [
        [],
        [replace(HEAD, epoch=EPOCH + 1, head_epoch=EPOCH + 1)],
        [replace(HEAD, state=OwnershipState.FOLLOWER)],
        [replace(HEAD, coordinator_id="other")],
    ],
    ids=["gone", "another claim", "it follows", "another head"],
)
def test_a_member_is_over_with_its_head(rows: list[CoordinatorRow]) -> None:
    ownership = member()
    ownership.looked([mine(), HEAD], SECOND)
    assert not ownership.head_is_over(SECOND)
    ownership.looked([mine(), *rows], SECOND)
    assert ownership.head_is_over(SECOND)


def test_a_member_is_over_when_its_head_has_stood_still_for_its_lease() -> None:
    ownership = member()
    ownership.looked([mine(), moved(HEAD)], 5 * SECOND)
    over_at = ownership.next_over_at()
    assert over_at is not None
    assert 15 * SECOND < over_at < 16 * SECOND
    assert not ownership.head_is_over(over_at - 1)
    assert ownership.head_is_over(over_at)


def test_who_steps_back_does_not_wait_for_a_dead_head_once_more() -> None:
    ownership = member()
    ownership.stepped_back()
    assert (ownership.role, ownership.epoch, ownership.ends_at) == (OwnershipState.FOLLOWER, 0, 0)
    assert ownership.looked([ME, HEAD], 11 * SECOND)
    assert ownership.may_claim(11 * SECOND)
    assert ownership.may_join(11 * SECOND) is None


def test_members_are_waited_for_as_heads_are() -> None:
    ownership = follower(HEAD, MEMBER)
    ownership.looked([ME, HEAD, moved(MEMBER)], 5 * SECOND)
    assert not ownership.may_claim(11 * SECOND)
    assert ownership.may_claim(16 * SECOND)
    assert [row.coordinator_id for row in ownership.owners] == ["head", "member"]
    ownership.looked([ME, HEAD], 11 * SECOND)
    assert ownership.may_claim(11 * SECOND), "the member has left"


def test_a_head_counts_a_members_lease_from_when_it_first_read_what_that_one_is_at() -> None:
    ownership = head()
    ownership.looked([moved(MEMBER)], 4 * SECOND)
    ownership.looked([moved(MEMBER)], 13 * SECOND)
    over_at = ownership.next_over_at()
    assert over_at is not None
    assert over_at > 14 * SECOND, "clocks drift"
    assert ownership.dead_members(over_at - 1) == []
    assert ownership.dead_members(over_at) == [moved(MEMBER)]
    assert ownership.fellows == [moved(MEMBER)]


def test_a_head_ends_none_but_its_own_members() -> None:
    ownership = head()
    ownership.looked([replace(MEMBER, head_epoch=EPOCH - 1), WAITING], 0)
    assert ownership.dead_members(100 * LEASE) == []
    assert ownership.next_over_at() is None


def test_who_is_no_head_ends_nobody() -> None:
    ownership = follower(HEAD, MEMBER)
    ownership.joined(8, HEAD, 0)
    assert ownership.fellows == [MEMBER]
    assert ownership.dead_members(100 * LEASE) == []

"""Members of a head: who joins, what they may write, and how the head and whoever succeeds it end them."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from tests.contract.backends import Backend
from tests.contract.records import new_run_id
from tests.contract.test_coordinator_registry_contract import (
    LANES,
    Opener,
    commits,
    ended_record,
    opener,
    owner,
    registered,
    row,
    start_record,
)

from penstock_coordinator.core.fleet.ownership import CoordinatorRow, OwnershipState
from penstock_coordinator.ports import RunId, Stores
from penstock_coordinator.ports.coordinators import CoordinatorRegistry

__all__ = ["opener"]


async def seen(registry: CoordinatorRegistry, name: str) -> CoordinatorRow:
    (found,) = [each for each in await registry.look() if each.coordinator_id == name]
    return found


async def member(opener: Opener, stores: Stores, name: str, head: str) -> tuple[CoordinatorRegistry, int]:
    (registry,) = await registered(opener, name)
    epoch = await registry.join(name, LANES, await seen(registry, head))
    assert epoch is not None
    stores.incarnations.speak_as(epoch)
    return registry, epoch


class Pair:
    """A head "a" and its member "b", with what each writes by."""

    def __init__(self, head: CoordinatorRegistry, epoch: int, member: CoordinatorRegistry, own_epoch: int) -> None:
        self.head, self.epoch, self.member, self.member_epoch = head, epoch, member, own_epoch
        self.of_head: Stores
        self.of_member: Stores
        self.runs: list[RunId] = []

    async def starts(self) -> RunId:
        """A run of the member."""
        run = new_run_id()
        assert await commits(self.of_member, start_record(run, owner="b"))
        return run


@pytest.fixture
async def pair(backend: Backend, opener: Opener) -> Pair:
    of_head, of_member = await backend.open("a", LANES), await backend.open("b", LANES)
    head, epoch = await owner(opener, of_head, "a")
    made = Pair(head, epoch, *await member(opener, of_member, "b", "a"))
    made.of_head, made.of_member = of_head, of_member
    return made


async def test_who_joins_owns_beside_the_head_with_an_epoch_of_its_own(pair: Pair) -> None:
    assert pair.member_epoch > pair.epoch
    head, joined = await pair.head.look()
    assert (head.state, head.epoch, head.head_epoch) == (OwnershipState.OWNER, pair.epoch, pair.epoch)
    assert head.takes_members
    assert (joined.state, joined.epoch, joined.head_epoch) == (OwnershipState.MEMBER, pair.member_epoch, pair.epoch)
    assert (joined.address, joined.lease) == ("host:7400", 10_000_000)
    assert await commits(pair.of_head, start_record(new_run_id(), owner="a"))
    assert await pair.starts() in [each.run_id for each in await pair.of_member.runs.live_runs("b")]
    assert await pair.of_member.incarnations.is_current("b", pair.member_epoch)


async def test_a_member_renews_as_long_as_it_is_one(pair: Pair) -> None:
    before = await seen(pair.head, "b")
    assert await pair.member.renew("b", pair.member_epoch)
    assert (await seen(pair.head, "b")).mark != before.mark
    assert not await pair.member.renew("b", pair.epoch)
    assert not await pair.member.renew("b", 0)


@pytest.mark.parametrize(
    "change",
    [
        {"epoch": 1_000_000, "head_epoch": 1_000_000},
        {"coordinator_id": "nobody"},
        {"coordinator_id": "c"},
        {"coordinator_id": "b"},
    ],
    ids=["another claim", "nobody", "itself", "a member"],
)
async def test_only_the_head_that_there_is_is_joined(pair: Pair, opener: Opener, change: dict[str, object]) -> None:
    (registry,) = await registered(opener, "c")
    head = await seen(registry, "a")
    assert await registry.join("c", LANES, replace(head, **change)) is None  # type: ignore[arg-type]
    assert (await seen(registry, "c")).state is OwnershipState.FOLLOWER
    assert await registry.join("c", LANES, head) is not None


async def test_who_does_not_wait_does_not_join(pair: Pair, opener: Opener) -> None:
    head = await seen(pair.head, "a")
    stranger = await opener("c")
    assert await stranger.join("c", LANES, head) is None, "it never registered"
    assert await pair.member.join("b", LANES, head) is None, "it has joined"
    assert await pair.head.join("a", LANES, head) is None, "it is the head"
    await stranger.register(row("c"))
    await stranger.release("c", 0)
    assert await stranger.join("c", LANES, head) is None, "it has gone"


async def test_a_head_that_is_over_is_not_joined(pair: Pair, opener: Opener) -> None:
    (registry,) = await registered(opener, "c")
    head = await seen(registry, "a")
    await pair.head.release("a", pair.epoch)
    assert await registry.join("c", LANES, head) is None


async def test_two_that_join_at_once_are_both_members(pair: Pair, opener: Opener) -> None:
    registries = await registered(opener, "c", "d")
    head = await seen(pair.head, "a")
    epochs = await asyncio.gather(
        *(registry.join(name, LANES, head) for name, registry in zip("cd", registries, strict=True))
    )
    assert len({*epochs, pair.epoch, pair.member_epoch}) == 4
    assert [each.state for each in await pair.head.look()][1:] == [OwnershipState.MEMBER] * 3


async def test_a_registration_that_comes_late_leaves_a_member_alone(pair: Pair) -> None:
    await pair.member.register(row("b"))
    await pair.member.register(row("b", epoch=pair.epoch))
    assert (await seen(pair.head, "b")).state is OwnershipState.MEMBER
    await pair.member.register(row("b", epoch=pair.member_epoch))
    found = await seen(pair.head, "b")
    assert (found.state, found.head_epoch) == (OwnershipState.FOLLOWER, 0), "it knows of that epoch, which is over"


async def test_whoever_claims_has_to_have_seen_members_too_and_ends_them(pair: Pair, opener: Opener) -> None:
    (taker,) = await registered(opener, "c")
    heads = [each for each in await taker.look() if each.state is OwnershipState.OWNER]
    owners = [each for each in await taker.look() if each.state is not OwnershipState.FOLLOWER]
    assert await taker.claim("c", LANES, heads) is None, "there is a member"
    assert await pair.member.renew("b", pair.member_epoch)
    assert await taker.claim("c", LANES, owners) is None, "the member has moved"
    owners = [each for each in await taker.look() if each.state is not OwnershipState.FOLLOWER]
    assert [each.coordinator_id for each in owners] == ["a", "b"]

    claim = await taker.claim("c", LANES, owners)

    assert claim is not None
    assert not claim.alone, "the member may come back"
    assert [each.coordinator_id for each in await taker.look()] == ["c"]
    assert not await pair.member.renew("b", pair.member_epoch)
    assert not await commits(pair.of_member, start_record(new_run_id(), owner="b"))
    assert not await commits(pair.of_head, start_record(new_run_id(), owner="a"))


async def test_runs_of_members_are_not_claimed(pair: Pair) -> None:
    await pair.starts()
    assert await pair.head.claim_runs("a", pair.epoch) == []


async def test_who_buries_a_member_ends_it_and_may_claim_its_runs(pair: Pair) -> None:
    run = await pair.starts()
    assert await pair.head.bury("a", pair.epoch, await seen(pair.head, "b"))
    assert not await pair.member.renew("b", pair.member_epoch)
    assert not await commits(pair.of_member, start_record(new_run_id(), owner="b"))
    assert not await pair.of_member.incarnations.is_current("b", pair.member_epoch)
    assert await commits(pair.of_head, start_record(new_run_id(), owner="a")), "the head goes on"
    assert await pair.head.claim_runs("a", pair.epoch) == [run]
    assert run in [each.run_id for each in await pair.of_head.runs.live_runs("a")]
    assert await pair.head.claim_runs("a", pair.epoch) == []


async def test_a_member_that_moved_is_not_buried(pair: Pair) -> None:
    found = await seen(pair.head, "b")
    assert await pair.member.renew("b", pair.member_epoch)
    assert not await pair.head.bury("a", pair.epoch, found)
    await pair.starts()


async def test_only_its_head_buries_a_member(pair: Pair, opener: Opener) -> None:
    found = await seen(pair.head, "b")
    assert not await pair.head.bury("a", pair.epoch - 1, found), "another claim"
    assert not await pair.member.bury("b", pair.member_epoch, found), "a member"
    (waiting,) = await registered(opener, "c")
    assert not await pair.head.bury("a", pair.epoch, await seen(waiting, "c")), "it is no member"
    await pair.starts()
    await pair.head.release("a", pair.epoch)
    assert not await pair.head.bury("a", pair.epoch, found), "the head has gone"
    await pair.starts()


async def test_runs_of_a_member_that_has_left_are_claimed(pair: Pair) -> None:
    run = await pair.starts()
    await pair.member.release("b", pair.epoch)
    assert await pair.head.claim_runs("a", pair.epoch) == [], "that is another incarnation"
    await pair.member.release("b", pair.member_epoch)
    assert [each.coordinator_id for each in await pair.head.look()] == ["a"]
    assert await pair.head.claim_runs("a", pair.epoch) == [run]
    assert not await commits(pair.of_member, start_record(new_run_id(), owner="b")), "what comes late is over"


async def test_who_claims_runs_ends_what_their_owner_has_under_way(pair: Pair) -> None:
    """A member that was killed and started again waits, and its fence is whole: a commit may still be on its way."""
    run = await pair.starts()
    await pair.member.register(row("b", epoch=pair.member_epoch))
    assert await commits(pair.of_member, start_record(new_run_id(), owner="b")), "nobody has claimed yet"
    assert run in await pair.head.claim_runs("a", pair.epoch)
    assert not await commits(pair.of_member, ended_record(run))


async def test_one_that_has_left_runs_joins_when_they_are_claimed(pair: Pair) -> None:
    run = await pair.starts()
    await pair.member.register(row("b", epoch=pair.member_epoch))
    head = await seen(pair.head, "a")
    assert await pair.member.join("b", LANES, head) is None
    assert await commits(pair.of_member, ended_record(run)), "nothing was done"
    again = await pair.member.join("b", LANES, head)
    assert again is not None
    assert again > pair.member_epoch
    assert not await commits(pair.of_member, start_record(new_run_id(), owner="b")), "of the former incarnation"
    assert await pair.of_member.incarnations.is_current("b", again)


async def test_a_run_is_had_by_one_when_a_claim_and_a_return_meet(pair: Pair) -> None:
    epoch = pair.member_epoch
    for _ in range(8):
        left = await pair.starts()
        await pair.member.register(row("b", epoch=epoch))
        head = await seen(pair.head, "a")
        claimed, joined = await asyncio.gather(
            pair.head.claim_runs("a", pair.epoch), pair.member.join("b", LANES, head)
        )
        assert claimed == [left]
        if joined is None:
            joined = await pair.member.join("b", LANES, head)
        assert joined is not None
        epoch = joined
        assert await pair.of_member.runs.live_runs("b") == []
        assert await commits(pair.of_head, ended_record(left))
        pair.of_member.incarnations.speak_as(epoch)


async def test_a_run_at_rest_at_a_member_is_taken_over_by_the_head_that_opens_it_again(pair: Pair) -> None:
    run = await pair.starts()
    assert not await pair.of_head.incarnations.take_over_run(run, pair.epoch), "it is live"
    assert await commits(pair.of_member, ended_record(run))
    assert await pair.of_head.incarnations.take_over_run(run, pair.epoch)


async def test_live_runs_of_members_are_nobodys_worry(pair: Pair) -> None:
    await pair.starts()
    assert await pair.of_head.retention.live_of_others("a") == {}
    await pair.member.release("b", pair.member_epoch)
    assert await pair.of_head.retention.live_of_others("a") == {"b": 1}

"""What keepers of ownership leases do as a head and its members, on a database in memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence

import pytest

from penstock_coordinator.adapters.memory import MemoryDatabase
from penstock_coordinator.adapters.memory.coordinator_registry import MemoryCoordinatorRegistry
from penstock_coordinator.core.fleet.ownership import CoordinatorRow, OwnershipState
from penstock_coordinator.ports import Unavailable
from penstock_coordinator.runtime.ownership import HeadIsOver, OwnershipEnded, OwnershipKeeper, Turn

LEASE = 3_000
"""It is renewed each millisecond, and runs out by the clock of the test alone."""
PATIENCE = 30.0
MEMBER = OwnershipState.MEMBER


class HandClock:
    """All of them go by it."""

    def __init__(self) -> None:
        self.at = 1_000_000

    def now(self) -> int:
        return self.at

    def monotonic(self) -> int:
        return self.at


class Node:
    """A coordinator with what it is told."""

    def __init__(self, company: Company, name: str, joins: Callable[[CoordinatorRow], bool]) -> None:
        own = CoordinatorRow(name, OwnershipState.FOLLOWER, 0, 0, LEASE, "", "", 1)
        self.told: asyncio.Queue[str] = asyncio.Queue()
        self.keeper = OwnershipKeeper(company.registry, company.clock, own, 1, self.told.put_nowait, joins)
        self.members: asyncio.Queue[list[str]] = asyncio.Queue()
        self.keeper.on_members = self.hear
        self.ended: asyncio.Future[OwnershipEnded] = asyncio.get_running_loop().create_future()
        self.kept = asyncio.Event()
        self.keeping: asyncio.Task[None] | None = None

    def hear(self, members: Sequence[CoordinatorRow]) -> None:
        self.members.put_nowait([row.coordinator_id for row in members])

    async def turn(self) -> Turn:
        async with asyncio.timeout(PATIENCE):
            turn = await self.keeper.campaign(asyncio.Event())
        assert turn is not None
        return turn

    def keep(self) -> None:
        self.keeping = asyncio.create_task(self.keeper.keep(self.ended.set_result, self.kept.set))

    async def renews(self) -> None:
        self.kept.clear()
        async with asyncio.timeout(PATIENCE):
            await self.kept.wait()

    async def stops_renewing(self) -> None:
        assert self.keeping is not None
        self.keeping.cancel()
        await asyncio.wait({self.keeping})

    async def ends(self) -> OwnershipEnded:
        async with asyncio.timeout(PATIENCE):
            return await self.ended

    async def names(self, *members: str) -> None:
        async with asyncio.timeout(PATIENCE):
            while await self.members.get() != list(members):
                pass


class Company:
    def __init__(self) -> None:
        self.clock = HandClock()
        self.registry = MemoryCoordinatorRegistry(MemoryDatabase())
        self.nodes: list[Node] = []

    async def node(self, name: str, *, joins: Callable[[CoordinatorRow], bool] = lambda head: True) -> Node:
        made = Node(self, name, joins)
        self.nodes.append(made)
        await made.keeper.introduce(f"{name}:7400", "")
        return made

    async def head(self, name: str) -> Node:
        made = await self.node(name)
        assert (await made.turn()).role is OwnershipState.OWNER
        made.keep()
        return made

    async def member(self, name: str) -> Node:
        made = await self.node(name)
        assert (await made.turn()).role is MEMBER
        made.keep()
        return made

    async def close(self) -> None:
        for node in self.nodes:
            if node.keeping is not None:
                await node.stops_renewing()


@pytest.fixture
async def company() -> AsyncIterator[Company]:
    made = Company()
    yield made
    await made.close()


async def test_one_that_may_joins_the_head_and_is_named_there(company: Company) -> None:
    head = await company.head("a")
    other = await company.node("b")
    turn = await other.turn()
    assert (turn.role, turn.head_epoch) == (MEMBER, head.keeper.epoch)
    assert turn.epoch > head.keeper.epoch
    other.keep()
    await head.names("b")
    (row,) = head.keeper.members()
    assert (row.address, row.epoch) == ("b:7400", turn.epoch)
    assert [each.coordinator_id for each in head.keeper.followers()] == ["b"], "it may succeed"
    assert other.keeper.members() == []
    named = other.keeper.owner()
    assert named is not None
    assert named.address == "a:7400"
    (_, own) = other.keeper.coordinators()
    assert (own.own, own.row.state, own.row.head_epoch) == (True, MEMBER, head.keeper.epoch)
    await other.renews()
    assert other.keeper.may_act()
    assert not head.keeper.alone


async def test_one_that_must_not_join_follows(company: Company) -> None:
    await company.head("a")
    asked: asyncio.Queue[str] = asyncio.Queue()

    def refuses(head: CoordinatorRow) -> bool:
        asked.put_nowait(head.coordinator_id)
        return False

    other = await company.node("b", joins=refuses)
    campaign = asyncio.create_task(other.turn())
    async with asyncio.timeout(PATIENCE):
        assert await asked.get() == "a"
        assert "owns the runs" in await other.told.get()
        assert await asked.get() == "a", "it may change its mind"
    assert other.keeper.role is OwnershipState.FOLLOWER
    campaign.cancel()


async def test_a_member_that_stands_still_is_buried_and_its_head_goes_on(company: Company) -> None:
    head = await company.head("a")
    member = await company.member("b")
    await head.names("b")
    await member.stops_renewing()
    for _ in range(3):
        await head.renews()
        company.clock.at += LEASE * 4 // 10
    await head.names()
    async with asyncio.timeout(PATIENCE):
        while head.keeper.peers():
            await head.keeper.peers_changed(PATIENCE)
    assert head.keeper.may_act()
    assert not await company.registry.renew("b", member.keeper.epoch)


async def test_a_head_renews_its_lease_also_while_a_member_cannot_be_buried(company: Company) -> None:
    """Its last commit is not over, and the burial would wait for it."""
    tries: asyncio.Queue[str] = asyncio.Queue()

    async def waits(_head: str, _epoch: int, member: CoordinatorRow) -> bool:
        tries.put_nowait(member.coordinator_id)
        raise Unavailable("a lock")

    company.registry.bury = waits  # type: ignore[assignment,method-assign]  # as it is then
    head = await company.head("a")
    member = await company.member("b")
    await head.names("b")
    await member.stops_renewing()
    for _ in range(6):
        await head.renews()
        company.clock.at += LEASE * 4 // 10
    async with asyncio.timeout(PATIENCE):
        assert [await tries.get(), await tries.get()] == ["b", "b"], "it is tried again"
    assert head.keeper.may_act()
    assert not head.ended.done()
    assert [row.coordinator_id for row in head.keeper.peers()] == ["b"]


async def test_a_late_member_is_sent_nothing_and_has_its_runs_yet(company: Company) -> None:
    head = await company.head("a")
    member = await company.member("b")
    await head.names("b")
    await member.stops_renewing()
    await head.renews()
    company.clock.at += LEASE * 8 // 10
    await head.names()
    assert head.keeper.members() == []
    assert [row.coordinator_id for row in head.keeper.peers()] == ["b"]
    assert head.keeper.followers() == []


async def test_a_member_that_was_buried_hears_that_it_is_over_at_once(company: Company) -> None:
    head = await company.head("a")
    member = await company.member("b")
    await member.stops_renewing()
    (row,) = [each for each in await company.registry.look() if each.state is MEMBER]
    assert await company.registry.bury("a", head.keeper.epoch, row)
    member.keep()
    ended = await member.ends()
    assert not isinstance(ended, HeadIsOver)


async def test_a_member_whose_head_has_gone_leaves_and_the_next_one_does_not_wait_for_it(company: Company) -> None:
    head = await company.head("a")
    member = await company.member("b")
    former = member.keeper.epoch
    await head.stops_renewing()
    await head.keeper.release()
    assert isinstance(await member.ends(), HeadIsOver)
    assert member.keeper.may_act(), "its own lease lasts, for what is to be committed"
    assert await member.keeper.step_back()
    assert await member.keeper.step_back() is False, "once"
    member.keeper.ended()
    turn = await member.turn()
    assert turn.role is OwnershipState.OWNER
    assert turn.epoch > former


async def test_a_dead_head_is_waited_for_once(company: Company) -> None:
    head = await company.head("a")
    member = await company.member("b")
    await head.stops_renewing()
    for _ in range(3):
        await member.renews()
        company.clock.at += LEASE * 4 // 10
    assert isinstance(await member.ends(), HeadIsOver)
    assert await member.keeper.step_back()
    assert (await member.turn()).role is OwnershipState.OWNER, "the clock stands still from here on"


async def test_whoever_claims_waits_for_members_that_have_not_left(company: Company) -> None:
    head = await company.head("a")
    member = await company.member("b")
    other = await company.node("c", joins=lambda head: False)
    campaign = asyncio.create_task(other.turn())
    async with asyncio.timeout(PATIENCE):
        assert '"a"' in await other.told.get()
        await head.stops_renewing()
        await head.keeper.release()
        while '"b"' not in (reason := await other.told.get()):
            pass
    assert "a member of a former head" in reason
    assert not campaign.done()
    assert isinstance(await member.ends(), HeadIsOver)
    assert await member.keeper.release() is True
    assert (await campaign).role is OwnershipState.OWNER


async def test_what_one_that_stepped_back_leaves_is_claimed_and_it_joins_again(company: Company) -> None:
    head = await company.head("a")
    member = await company.member("b")
    await head.names("b")
    await member.stops_renewing()
    assert await member.keeper.step_back()
    await head.names()
    again = await member.turn()
    assert (again.role, again.head_epoch) == (MEMBER, head.keeper.epoch)

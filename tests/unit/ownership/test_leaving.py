"""Members that leave by plan, and a head that is handed over when it has some."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from tests.unit.ownership.test_keeping_members import PATIENCE, Company, Node

from penstock_coordinator.core.fleet.ownership import CoordinatorRow, OwnershipState
from penstock_coordinator.ports import Unavailable
from penstock_coordinator.runtime import handing_over
from penstock_coordinator.runtime.handing_over import HandOver, NotPrepared
from penstock_coordinator.runtime.leaving import Leaving


class Readers:
    """Coordinators that are asked to read the runs, and do as a test says."""

    def __init__(self) -> None:
        self.heard: list[str] = []
        self.unable: set[str] = set()
        self.slow: dict[str, int] = {}
        """How often each is asked in vain."""

    async def prepare(self, row: CoordinatorRow) -> bool:
        self.heard.append(f"read, {row.coordinator_id}")
        left = self.slow[row.coordinator_id] = self.slow.get(row.coordinator_id, 0) - 1
        return left < 0 and row.coordinator_id not in self.unable

    async def dismiss(self) -> None:
        self.heard.append("leave, members")


@pytest.fixture
def readers() -> Readers:
    return Readers()


@pytest.fixture
async def company() -> AsyncIterator[Company]:
    made = Company()
    yield made
    await made.close()


async def _state(company: Company, node: Node) -> OwnershipState:
    rows = {row.coordinator_id: row.state for row in await company.registry.look()}
    return rows.get(node.keeper.coordinator_id, OwnershipState.GONE)


async def test_a_member_that_is_told_to_leave_has_its_head_read_the_runs_and_follows(
    company: Company, readers: Readers
) -> None:
    head, member = await company.head("a"), await company.member("b")
    leaving = Leaving(member.keeper, readers.prepare)
    asking = asyncio.create_task(leaving.ask("a", head.keeper.epoch))
    async with asyncio.timeout(PATIENCE):
        await leaving.wanted.wait()
        assert readers.heard == ["read, a"]
        assert leaving.successor is not None
        assert leaving.successor.address == "a:7400"
        assert not asking.done(), "nothing is released yet"
        assert await _state(company, member) is OwnershipState.MEMBER
        await leaving.release()
        assert await asking
    assert await _state(company, member) is OwnershipState.FOLLOWER


async def test_only_its_own_head_can_send_it_away(company: Company, readers: Readers) -> None:
    head, member = await company.head("a"), await company.member("b")
    leaving = Leaving(member.keeper, readers.prepare)
    assert not await leaving.ask("a", head.keeper.epoch + 1)
    assert not await leaving.ask("c", head.keeper.epoch)
    assert not leaving.wanted.is_set()
    assert leaving.successor is None
    assert readers.heard == []


async def test_a_member_that_stops_leaves_also_if_its_head_has_not_read(company: Company, readers: Readers) -> None:
    await company.head("a")
    member = await company.member("b")
    readers.unable.add("a")
    leaving = Leaving(member.keeper, readers.prepare)
    await leaving.find()
    assert leaving.successor is not None
    await leaving.release()
    assert await _state(company, member) is OwnershipState.GONE


async def test_a_head_is_not_told_that_a_member_has_left_if_the_database_has_not_heard(
    company: Company, readers: Readers
) -> None:
    head, member = await company.head("a"), await company.member("b")
    leaving = Leaving(member.keeper, readers.prepare)
    asking = asyncio.create_task(leaving.ask("a", head.keeper.epoch))
    async with asyncio.timeout(PATIENCE):
        await leaving.wanted.wait()
        leaving.end()
        with pytest.raises(Unavailable):
            await asking


async def _head_with_member_and_follower(company: Company) -> Node:
    head = await company.head("a")
    await company.member("b")
    await company.node("c", joins=lambda head: False)
    await head.names("b")
    await head.renews()
    assert [row.coordinator_id for row in head.keeper.followers()] == ["b", "c"]
    return head


async def test_members_leave_before_the_head_is_handed_over_to_one_that_follows(
    company: Company, readers: Readers
) -> None:
    head = await _head_with_member_and_follower(company)
    hand_over = HandOver(head.keeper, readers.prepare, readers.dismiss)
    asking = asyncio.create_task(hand_over.ask("c"))
    async with asyncio.timeout(PATIENCE):
        await hand_over.wanted.wait()
    assert readers.heard == ["read, c", "leave, members", "read, c"]
    hand_over.end(released=True)
    await asking


async def test_nobody_leaves_for_one_that_cannot_read_the_runs(company: Company, readers: Readers) -> None:
    head = await _head_with_member_and_follower(company)
    readers.unable.add("c")
    hand_over = HandOver(head.keeper, readers.prepare, readers.dismiss)
    with pytest.raises(NotPrepared):
        await hand_over.ask("c")
    assert readers.heard == ["read, c"]


async def test_a_member_succeeds_its_head_once_it_follows(
    company: Company, readers: Readers, monkeypatch: pytest.MonkeyPatch
) -> None:
    head = await _head_with_member_and_follower(company)
    readers.slow["b"] = 2
    hand_over = HandOver(head.keeper, readers.prepare, readers.dismiss)
    asking = asyncio.create_task(hand_over.ask("b"))
    async with asyncio.timeout(PATIENCE):
        await hand_over.wanted.wait()
    assert readers.heard == ["leave, members", *["read, b"] * 3]
    hand_over.end(released=True)
    await asking

    monkeypatch.setattr(handing_over, "PREPARE_WITHIN", 0.0)
    readers.unable.add("b")
    with pytest.raises(NotPrepared):
        await HandOver(head.keeper, readers.prepare, readers.dismiss).ask("b")


async def test_a_head_that_stops_with_all_its_members_waits_for_nobody(company: Company, readers: Readers) -> None:
    head, member = await company.head("a"), await company.member("b")
    await head.names("b")

    async def stops() -> None:
        await member.stops_renewing()
        await member.keeper.release()

    readers.unable.add("b")
    hand_over = HandOver(head.keeper, readers.prepare, stops)
    async with asyncio.timeout(PATIENCE):
        await hand_over.find()
    assert hand_over.successor is None


async def test_a_head_that_stops_waits_for_members_to_follow(company: Company, readers: Readers) -> None:
    head = await _head_with_member_and_follower(company)
    readers.slow |= {"b": 2, "c": 9}
    hand_over = HandOver(head.keeper, readers.prepare, readers.dismiss)
    async with asyncio.timeout(PATIENCE):
        await hand_over.find()
    assert readers.heard == ["leave, members", *["read, b", "read, c"] * 2, "read, b"]
    assert hand_over.successor is not None
    assert hand_over.successor.coordinator_id == "b"

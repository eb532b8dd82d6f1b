"""What the keeper of an ownership lease does with what the registry says, on a database in memory."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace

import pytest

from penstock_coordinator.adapters.memory import MemoryDatabase
from penstock_coordinator.adapters.memory.coordinator_registry import MemoryCoordinatorRegistry
from penstock_coordinator.api.coordinator_service import one_owner
from penstock_coordinator.core.fleet.ownership import CoordinatorRow, OwnershipState
from penstock_coordinator.runtime.ownership import IdentityTaken, OwnershipEnded, OwnershipKeeper

LEASE = 600_000_000
"""Nobody waits for so long here."""
PATIENCE = 30.0


class SteadyClock:
    """Stands still: nothing runs out."""

    def now(self) -> int:
        return 1

    def monotonic(self) -> int:
        return 1_000_000


class HastyClock(SteadyClock):
    """A lease goes by whenever somebody looks at it."""

    def __init__(self) -> None:
        self._at = 0

    def monotonic(self) -> int:
        self._at += 2 * LEASE
        return self._at


def keeper(
    database: MemoryDatabase, name: str, hear: Callable[[str], None] = lambda _: None, began: int = 1
) -> OwnershipKeeper:
    own = CoordinatorRow(name, OwnershipState.FOLLOWER, 0, 0, LEASE, "", "", began)
    return OwnershipKeeper(MemoryCoordinatorRegistry(database), SteadyClock(), own, 1, hear)


async def owning(database: MemoryDatabase, name: str, began: int = 1) -> OwnershipKeeper:
    made = keeper(database, name, began=began)
    await made.introduce(f"{name}:7400", "")
    assert await wins(made)
    return made


async def wins(contender: OwnershipKeeper) -> int:
    async with asyncio.timeout(PATIENCE):
        turn = await contender.campaign(asyncio.Event())
    assert turn is not None
    assert (turn.role, turn.head_epoch) == (OwnershipState.OWNER, turn.epoch)
    return turn.epoch


async def test_one_that_is_alone_owns_at_once_and_may_go_on_for_ever() -> None:
    database = MemoryDatabase()
    owner = await owning(database, "a")
    assert owner.may_act()
    assert owner.ends_at is None
    (view,) = owner.coordinators()
    assert view.own
    assert view.row.state is OwnershipState.OWNER


async def test_another_one_waits_and_says_for_whom_until_the_owner_releases() -> None:
    database = MemoryDatabase()
    owner = await owning(database, "a")
    told: asyncio.Queue[str] = asyncio.Queue()
    follower = keeper(database, "b", told.put_nowait)
    await follower.introduce("b:7400", "")
    campaign = asyncio.create_task(wins(follower))
    async with asyncio.timeout(PATIENCE):
        assert "a:7400" in await told.get()
    named = follower.owner()
    assert named is not None
    assert named.address == "a:7400"
    assert not follower.may_act()
    await owner.release()
    assert await campaign > 1
    assert follower.may_act()
    assert not owner.may_act()


async def test_an_owner_knows_who_follows_it_and_was_heard_of() -> None:
    database = MemoryDatabase()
    own = CoordinatorRow("a", OwnershipState.FOLLOWER, 0, 0, 3_000, "", "", 1)
    owner = OwnershipKeeper(MemoryCoordinatorRegistry(database), SteadyClock(), own, 1)
    await owner.introduce("a:7400", "")
    assert await wins(owner)
    assert owner.followers() == []
    await keeper(database, "b").introduce("b:7400", "")
    kept = asyncio.Event()
    keeping = asyncio.create_task(owner.keep(lambda _: None, kept.set))
    async with asyncio.timeout(PATIENCE):
        await kept.wait()
    keeping.cancel()
    assert [row.address for row in owner.followers()] == ["b:7400"]


async def test_one_that_is_told_to_stop_stops_waiting() -> None:
    database = MemoryDatabase()
    await owning(database, "a")
    follower, stop = keeper(database, "b"), asyncio.Event()
    await follower.introduce("b:7400", "")
    campaign = asyncio.create_task(follower.campaign(stop))
    await asyncio.sleep(0)
    stop.set()
    async with asyncio.timeout(PATIENCE):
        assert await campaign is None


async def test_two_processes_with_one_id_do_not_take_turns_for_ever() -> None:
    database = MemoryDatabase()
    first = await owning(database, "a", began=1)
    await owning(database, "a", began=2)
    first.ended()
    with pytest.raises(IdentityTaken, match="PENSTOCK_DATA_DIR"):
        await wins(first)


async def test_a_claim_whose_answer_is_lost_is_made_again_with_a_newer_epoch() -> None:
    database = MemoryDatabase()
    made = keeper(database, "a")
    await made.introduce("a:7400", "")
    lost = await MemoryCoordinatorRegistry(database).claim("a", 1, [])
    assert lost is not None, "it was granted, and the keeper has not heard of it"
    assert await wins(made) > lost.epoch
    assert made.may_act()


async def test_while_the_database_is_away_it_goes_on_to_ask() -> None:
    database = MemoryDatabase()
    made = keeper(database, "a")
    await made.introduce("a:7400", "")
    database.there.clear()
    campaign = asyncio.create_task(wins(made))
    await asyncio.sleep(0)
    database.there.set()
    assert await campaign


async def test_an_owner_that_was_replaced_hears_that_it_ended() -> None:
    database = MemoryDatabase()
    own = CoordinatorRow("a", OwnershipState.FOLLOWER, 0, 0, 3_000, "", "", 1)
    registry = MemoryCoordinatorRegistry(database)
    owner = OwnershipKeeper(registry, SteadyClock(), own, 1)
    await owner.introduce("a:7400", "")
    assert await wins(owner)
    await registry.register(CoordinatorRow("b", OwnershipState.FOLLOWER, 0, 0, LEASE, "b:7400", "", 1))
    seen = [row for row in await registry.look() if row.state is OwnershipState.OWNER]
    assert await registry.claim("b", 1, seen) is not None
    ends: list[OwnershipEnded] = []
    async with asyncio.timeout(PATIENCE):
        await owner.keep(ends.append, lambda: None)
    assert "taken over" in str(ends[0])


async def test_at_a_take_over_one_owner_is_shown() -> None:
    database, clock = MemoryDatabase(), HastyClock()
    former = await owning(database, "a")
    own = CoordinatorRow("b", OwnershipState.FOLLOWER, 0, 0, 3_000, "", "", 1)
    follower = OwnershipKeeper(MemoryCoordinatorRegistry(database), clock, own, 1)
    await follower.introduce("b:7400", "")
    assert await wins(follower), "of an owner that stands still"
    assert [view.row.state for view in follower.coordinators()] == [OwnershipState.OWNER] * 2
    (shown,) = one_owner(follower.coordinators())
    assert shown.own
    # The former one hears of it with its next look, and is not an owner then, whatever it has not heard yet.
    (found,) = (view for view in follower.coordinators() if view.own)
    seen = [*former.coordinators(), replace(found, own=False)]
    assert [(view.row.coordinator_id, view.row.state) for view in one_owner(seen)] == [
        ("a", OwnershipState.FOLLOWER),
        ("b", OwnershipState.OWNER),
    ]

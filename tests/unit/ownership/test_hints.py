"""A hint that ownership has changed makes one that waits look at once, however long it would wait otherwise."""

from __future__ import annotations

import asyncio

import msgspec
import pytest
from tests.unit.ownership.test_keeping import PATIENCE, SteadyClock, keeper, owning, wins

from penstock_coordinator.adapters.memory import MemoryDatabase
from penstock_coordinator.adapters.memory.hot_state import MemoryBoard, MemoryPost
from penstock_coordinator.ports.post import Letter
from penstock_coordinator.runtime import ownership
from penstock_coordinator.runtime.board_failover import HotState, Medium
from penstock_coordinator.runtime.hot_state import OWNERSHIP_CHANGED, Company, HotStateService, OwnershipChanged
from penstock_coordinator.runtime.ownership import OwnershipKeeper


@pytest.fixture(autouse=True)
def nobody_looks_by_himself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ownership, "look_interval", lambda lease: 3_600_000_000)


async def waiting(database: MemoryDatabase, name: str) -> tuple[OwnershipKeeper, asyncio.Task[int | None]]:
    """A follower that has looked, and would look again in an hour."""
    told = asyncio.Event()
    made = keeper(database, name, lambda _: told.set())
    await made.introduce(f"{name}:7400", "")
    campaign = asyncio.create_task(wins(made))
    async with asyncio.timeout(PATIENCE):
        await told.wait()
    return made, campaign


async def test_a_hint_makes_it_look() -> None:
    database = MemoryDatabase()
    owner = await owning(database, "a")
    follower, campaign = await waiting(database, "b")
    await owner.release()
    follower.look_now()
    assert await campaign


async def test_a_hint_that_comes_too_early_costs_one_look() -> None:
    database = MemoryDatabase()
    owner = await owning(database, "a")
    follower, campaign = await waiting(database, "b")
    for _ in range(3):
        follower.look_now()
        await asyncio.sleep(0)
    assert not campaign.done()
    await owner.release()
    follower.look_now()
    assert await campaign


def letter(epoch: int, *, owns: bool) -> Letter:
    return Letter(OWNERSHIP_CHANGED, "a", msgspec.msgpack.encode(OwnershipChanged(epoch, owns)))


def reading(follower: OwnershipKeeper, medium: Medium, clock: SteadyClock) -> HotStateService:
    """It reads its mail from what it shares with others, which are there."""
    alone = Medium("memory", MemoryBoard(clock), MemoryPost(clock))
    company = Company(follower, clock)
    service = HotStateService(HotState(alone, medium, None, clock, company.alone), follower, company)
    service.start()
    return service


@pytest.mark.parametrize(
    "letters",
    [
        [letter(1, owns=False)],
        [letter(1, owns=False)] * 3,
        [letter(9, owns=True), Letter("of another release", "x", b"\xff"), letter(1, owns=False)],
        [Letter(OWNERSHIP_CHANGED, "a", b"no letter"), letter(1, owns=False)],
    ],
)
async def test_a_letter_of_an_owner_that_stopped_is_such_a_hint(letters: list[Letter]) -> None:
    database, clock = MemoryDatabase(), SteadyClock()
    owner = await owning(database, "a")
    follower, campaign = await waiting(database, "b")
    medium = Medium("shared", MemoryBoard(clock), MemoryPost(clock))
    service = reading(follower, medium, clock)
    await owner.release()
    await medium.post.send({"b": letters})
    assert await campaign
    await service.aclose()


class StumblingPost(MemoryPost):
    """Fails in a way that nobody expects, once."""

    stumbled = False

    async def receive(self, coordinator_id: str, wait: float) -> list[Letter]:
        if not self.stumbled:
            self.stumbled = True
            raise AttributeError("of a library")
        return await super().receive(coordinator_id, wait)


async def test_a_fault_in_the_hot_state_does_not_end_it() -> None:
    database, clock = MemoryDatabase(), SteadyClock()
    owner = await owning(database, "a")
    follower, campaign = await waiting(database, "b")
    medium = Medium("shared", MemoryBoard(clock), StumblingPost(clock))
    service = reading(follower, medium, clock)
    await owner.release()
    await medium.post.send({"b": [letter(1, owns=False)]})
    assert await campaign
    await service.aclose()

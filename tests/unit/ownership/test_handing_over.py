"""Who hands over to whom, and what whoever asked for it is told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest
from tests.unit.ownership.test_keeping import PATIENCE, SteadyClock, keeper, wins

from penstock_coordinator.adapters.memory import MemoryDatabase
from penstock_coordinator.adapters.memory.coordinator_registry import MemoryCoordinatorRegistry
from penstock_coordinator.core.fleet.ownership import CoordinatorRow, OwnershipState
from penstock_coordinator.ports import Unavailable
from penstock_coordinator.runtime.handing_over import HandOver, NotPrepared, UnknownSuccessor
from penstock_coordinator.runtime.ownership import OwnershipKeeper


@dataclass
class Company:
    """The owner a, and b and c, which follow."""

    database: MemoryDatabase
    hand_over: HandOver
    asked: list[str] = field(default_factory=list)
    unable: set[str] = field(default_factory=set)
    """To read the runs."""

    def appointed(self) -> list[str]:
        return [name for name, row in self.database.coordinators.items() if row.appointed]

    def owns(self) -> bool:
        return self.database.coordinators["a"].state is OwnershipState.OWNER


@pytest.fixture
async def company() -> AsyncIterator[Company]:
    database = MemoryDatabase()
    own = CoordinatorRow("a", OwnershipState.FOLLOWER, 0, 0, 3_000, "", "", 1)
    owner = OwnershipKeeper(MemoryCoordinatorRegistry(database), SteadyClock(), own, 1)
    await owner.introduce("a:7400", "")
    assert await wins(owner)
    for name in ("b", "c"):
        await keeper(database, name).introduce(f"{name}:7400", "")
    kept = asyncio.Event()
    keeping = asyncio.create_task(owner.keep(lambda _: None, kept.set))
    async with asyncio.timeout(PATIENCE):
        await kept.wait()
    keeping.cancel()

    async def prepare(row: CoordinatorRow) -> bool:
        made.asked.append(row.coordinator_id)
        return row.coordinator_id not in made.unable

    made = Company(database, HandOver(owner, prepare))
    yield made
    made.hand_over.end()


async def test_whoever_is_named_reads_the_runs_and_is_appointed(company: Company) -> None:
    asking = asyncio.create_task(company.hand_over.ask("c"))
    async with asyncio.timeout(PATIENCE):
        await company.hand_over.wanted.wait()
        assert company.asked == ["c"]
        assert not asking.done(), "nothing is released yet"
        await company.hand_over.release()
        await asking
    assert company.appointed() == ["c"]
    assert not company.owns()


async def test_it_is_the_owner_already(company: Company) -> None:
    await company.hand_over.ask("a")
    assert company.asked == []
    assert company.owns()


async def test_what_cannot_be_is_refused_and_nothing_has_changed(company: Company) -> None:
    with pytest.raises(UnknownSuccessor) as unknown:
        await company.hand_over.ask("d")
    assert unknown.value.followers == ["b", "c"]
    company.unable.add("b")
    with pytest.raises(NotPrepared):
        await company.hand_over.ask("b")
    assert not company.hand_over.wanted.is_set()
    assert company.owns()


async def test_of_two_who_want_another_one_the_first_has_it(company: Company) -> None:
    first = asyncio.create_task(company.hand_over.ask("b"))
    second = asyncio.create_task(company.hand_over.ask("c"))
    async with asyncio.timeout(PATIENCE):
        await company.hand_over.wanted.wait()
        await company.hand_over.release()
        await first
        with pytest.raises(Unavailable):
            await second
    assert company.appointed() == ["b"]


async def test_one_that_stops_takes_the_first_that_has_read_and_nobody_changes_that(company: Company) -> None:
    company.unable.add("b")
    await company.hand_over.find()
    assert company.asked == ["b", "c"]
    asking = asyncio.create_task(company.hand_over.ask("b"))
    async with asyncio.timeout(PATIENCE):
        await company.hand_over.release()
        with pytest.raises(Unavailable):
            await asking
    assert company.appointed() == ["c"]


async def test_nobody_is_told_that_it_was_handed_over_if_the_database_has_not_heard(company: Company) -> None:
    asking = asyncio.create_task(company.hand_over.ask("b"))
    async with asyncio.timeout(PATIENCE):
        await company.hand_over.wanted.wait()
        company.database.there.clear()
        await company.hand_over.release()
        with pytest.raises(Unavailable):
            await asking
    assert company.owns()

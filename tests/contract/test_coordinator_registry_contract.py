"""The coordinators of one database: who owns, who waits, and what a take-over does to the former owner."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace

import pytest
from tests.contract.backends import Backend, MemoryBackend, PostgresBackend
from tests.contract.records import new_run, new_run_id, start

from penstock_coordinator.adapters.memory.coordinator_registry import MemoryCoordinatorRegistry
from penstock_coordinator.adapters.postgres.coordinator_registry import PostgresCoordinatorRegistry
from penstock_coordinator.core.fleet.ownership import CoordinatorRow, OwnershipState
from penstock_coordinator.ports import Committed, Fenced, Record, RunChange, RunId, Stores
from penstock_coordinator.ports.coordinators import CLAIMED_AT_ONCE, CoordinatorRegistry

LANES = 2
Opener = Callable[[str], Awaitable[CoordinatorRegistry]]
AT = 1_795_000_000_000_000
RUNS: dict[int, RunId] = {}


@pytest.fixture
async def opener(backend: Backend) -> AsyncIterator[Opener]:
    """Registries on the database, each of a coordinator of its own."""
    opened: list[PostgresCoordinatorRegistry] = []

    async def open_one(name: str) -> CoordinatorRegistry:
        if isinstance(backend, MemoryBackend):
            return MemoryCoordinatorRegistry(backend.database)
        assert isinstance(backend, PostgresBackend)
        opened.append(await PostgresCoordinatorRegistry.open(backend.dsn, name, 5.0))
        return opened[-1]

    yield open_one
    for registry in opened:
        await registry.aclose()


def run_id(number: int) -> RunId:
    return RUNS.setdefault(number, new_run_id())


def start_record(run: RunId, owner: str) -> Record:
    return start(run, new=new_run(owner=owner))


def ended_record(run: RunId) -> Record:
    return Record(run, 3, 3, b"ended", 2_000, change=RunChange(state=6, end_time=2_000))


def row(name: str, address: str = "host:7400", epoch: int = 0) -> CoordinatorRow:
    return CoordinatorRow(name, OwnershipState.FOLLOWER, epoch, 0, 10_000_000, address, "host:7480", AT)


async def registered(opener: Opener, *names: str) -> list[CoordinatorRegistry]:
    registries = [await opener(name) for name in names]
    for name, registry in zip(names, registries, strict=True):
        await registry.register(row(name))
    return registries


async def owner(opener: Opener, stores: Stores, name: str) -> tuple[CoordinatorRegistry, int]:
    """The first one there."""
    (registry,) = await registered(opener, name)
    claim = await registry.claim(name, LANES, [])
    assert claim is not None
    stores.incarnations.speak_as(claim.epoch)
    return registry, claim.epoch


async def commits(stores: Stores, record: Record) -> bool:
    try:
        (outcome,) = await stores.journal.commit(0, [record])
    except Fenced:
        return False
    assert outcome == Committed()
    return True


async def test_one_that_registers_waits_with_what_it_said(opener: Opener) -> None:
    first, second = await registered(opener, "a", "b")
    for registry in (first, second):
        rows = await registry.look()
        assert [(each.coordinator_id, each.state, each.epoch) for each in rows] == [
            ("a", OwnershipState.FOLLOWER, 0),
            ("b", OwnershipState.FOLLOWER, 0),
        ]
    (found, _) = await first.look()
    assert (found.lease, found.address, found.http_address, found.began) == (10_000_000, "host:7400", "host:7480", AT)


async def test_registering_again_counts_as_moving(opener: Opener) -> None:
    (registry,) = await registered(opener, "a")
    (before,) = await registry.look()
    await registry.register(replace(row("a", "elsewhere:7400"), secrets_key="k1"))
    (after,) = await registry.look()
    assert after.renewals > before.renewals
    assert (after.address, after.secrets_key) == ("elsewhere:7400", "k1")


async def test_a_registration_that_comes_late_leaves_the_owner_alone(backend: Backend, opener: Opener) -> None:
    """It was asked for before the claim, on a connection that broke; others would take over at once."""
    stores = await backend.open("a", LANES)
    registry, epoch = await owner(opener, stores, "a")
    await registry.register(row("a"))
    (found,) = await registry.look()
    assert (found.state, found.epoch) == (OwnershipState.OWNER, epoch)
    assert await registry.renew("a", epoch)
    await registry.register(row("a", epoch=epoch))
    (found,) = await registry.look()
    assert found.state is OwnershipState.FOLLOWER, "it knows of that epoch, which is over"


async def test_a_renewal_moves_and_nothing_else_does(opener: Opener) -> None:
    first, _ = await registered(opener, "a", "b")
    before = await first.look()
    assert await first.renew("a", 0)
    after = await first.look()
    assert after[0].mark != before[0].mark
    assert after[1].mark == before[1].mark


async def test_where_nobody_owns_the_first_claim_is_granted(backend: Backend, opener: Opener) -> None:
    first, second = await registered(opener, "a", "b")
    claim = await first.claim("a", LANES, [])
    assert claim is not None
    assert not claim.alone, "b waits"
    assert await second.claim("b", LANES, []) is None, "there is an owner that it did not name"
    owners = [each for each in await second.look() if each.state is OwnershipState.OWNER]
    assert [(each.coordinator_id, each.epoch) for each in owners] == [("a", claim.epoch)]


async def test_who_is_alone_is_told_so(opener: Opener) -> None:
    (registry,) = await registered(opener, "a")
    claim = await registry.claim("a", LANES, [])
    assert claim is not None
    assert claim.alone


async def test_two_claims_at_once_make_one_owner(opener: Opener) -> None:
    registries = await registered(opener, "a", "b", "c")
    claims = await asyncio.gather(
        *(registry.claim(name, LANES, []) for name, registry in zip("abc", registries, strict=True))
    )
    assert sum(1 for claim in claims if claim is not None) == 1


async def test_a_take_over_fences_the_former_owner_on_every_lane(backend: Backend, opener: Opener) -> None:
    former, taker = await backend.open("a", LANES), await backend.open("b", LANES)
    registry, epoch = await owner(opener, former, "a")
    assert await commits(former, start_record(run_id(1), owner="a"))
    (other,) = await registered(opener, "b")
    seen = [each for each in await other.look() if each.state is OwnershipState.OWNER]

    claim = await other.claim("b", LANES, seen)

    assert claim is not None
    assert claim.epoch > epoch
    assert not await commits(former, start_record(run_id(2), owner="a"))
    with pytest.raises(Fenced):
        await former.journal.commit(1, [start_record(run_id(2), owner="a")])
    assert not await former.incarnations.is_current("a", epoch)
    assert not await registry.renew("a", epoch), "it is no owner any more"
    taker.incarnations.speak_as(claim.epoch)
    assert await commits(taker, start_record(run_id(3), owner="b"))
    assert await taker.incarnations.is_current("b", claim.epoch)


async def test_an_owner_that_moved_is_not_taken_over(backend: Backend, opener: Opener) -> None:
    stores = await backend.open("a", LANES)
    registry, epoch = await owner(opener, stores, "a")
    (other,) = await registered(opener, "b")
    seen = [each for each in await other.look() if each.state is OwnershipState.OWNER]
    assert await registry.renew("a", epoch)
    assert await other.claim("b", LANES, seen) is None
    assert await commits(stores, start_record(run_id(1), owner="a"))


async def test_who_does_not_wait_is_granted_nothing(opener: Opener) -> None:
    registry = await opener("a")
    assert await registry.claim("a", LANES, []) is None, "it never registered"
    await registry.register(row("a"))
    (found,) = await registry.look()
    await registry.forget(found)
    assert await registry.look() == []
    assert await registry.claim("a", LANES, []) is None, "it was forgotten"
    assert not await registry.renew("a", 0)


async def test_who_has_moved_is_not_forgotten(opener: Opener) -> None:
    (registry,) = await registered(opener, "a")
    (found,) = await registry.look()
    assert await registry.renew("a", 0)
    await registry.forget(found)
    assert len(await registry.look()) == 1


async def test_what_is_released_is_claimed_without_waiting(backend: Backend, opener: Opener) -> None:
    stores = await backend.open("a", LANES)
    registry, epoch = await owner(opener, stores, "a")
    (other,) = await registered(opener, "b")
    await registry.release("a", epoch)
    assert [each.coordinator_id for each in await other.look()] == ["b"]
    claim = await other.claim("b", LANES, [])
    assert claim is not None
    assert claim.alone
    assert not await commits(stores, start_record(run_id(1), owner="a"))


async def test_who_is_appointed_is_seen_until_somebody_claims(backend: Backend, opener: Opener) -> None:
    stores = await backend.open("a", LANES)
    registry, epoch = await owner(opener, stores, "a")
    b, c = await registered(opener, "b", "c")
    await registry.release("a", epoch - 1, "b")
    assert not any(each.appointed for each in await b.look()), "it was of a former incarnation"
    await registry.release("a", epoch, "b")
    assert {each.coordinator_id: each.appointed for each in await b.look()} == {"b": True, "c": False}
    claim = await c.claim("c", LANES, [])
    assert claim is not None, "no claim depends on it"
    assert not any(each.appointed for each in await b.look())
    await c.release("c", claim.epoch, "b")
    await b.register(row("b"))
    assert not any(each.appointed for each in await b.look()), "another life"


async def test_one_that_is_gone_is_not_appointed(backend: Backend, opener: Opener) -> None:
    stores = await backend.open("a", LANES)
    registry, epoch = await owner(opener, stores, "a")
    (b,) = await registered(opener, "b")
    await b.release("b", 0)
    await registry.release("a", epoch, "b")
    assert await registry.look() == []


async def test_a_release_of_a_former_incarnation_changes_nothing(backend: Backend, opener: Opener) -> None:
    stores = await backend.open("a", LANES)
    registry, epoch = await owner(opener, stores, "a")
    await registry.release("a", epoch - 1)
    await registry.release("a", 0)
    (found,) = await registry.look()
    assert found.state is OwnershipState.OWNER


async def test_live_runs_of_those_that_own_nothing_are_claimed_in_batches(backend: Backend, opener: Opener) -> None:
    former, taker = await backend.open("a", LANES), await backend.open("b", LANES)
    registry, epoch = await owner(opener, former, "a")
    records = [start_record(run_id(number), owner="a") for number in range(1, CLAIMED_AT_ONCE + 12)]
    for at in range(0, len(records), 500):
        await former.journal.commit(0, records[at : at + 500])
    assert await registry.claim_runs("a", epoch) == [], "its own are not those of others"
    await registry.release("a", epoch)
    (other,) = await registered(opener, "b")
    claim = await other.claim("b", LANES, [])
    assert claim is not None
    assert await other.claim_runs("b", claim.epoch - 1) == [], "a former incarnation claims nothing"

    claimed = [await other.claim_runs("b", claim.epoch) for _ in range(3)]

    assert [len(each) for each in claimed] == [CLAIMED_AT_ONCE, 11, 0]
    assert {run for each in claimed for run in each} == {each.run_id for each in records}
    assert len(await taker.runs.live_runs("b")) == CLAIMED_AT_ONCE + 11
    assert await taker.runs.live_runs("a") == []


async def test_runs_of_one_that_is_back_and_waits_are_claimed_too(backend: Backend, opener: Opener) -> None:
    former, taker = await backend.open("a", LANES), await backend.open("b", LANES)
    registry, epoch = await owner(opener, former, "a")
    assert await commits(former, start_record(run_id(1), owner="a"))
    await registry.register(row("a", epoch=epoch))
    (other,) = await registered(opener, "b")
    claim = await other.claim("b", LANES, [])
    assert claim is not None
    assert await other.claim_runs("b", claim.epoch) == [run_id(1)]
    assert [each.run_id for each in await taker.runs.live_runs("b")] == [run_id(1)]


async def test_a_coordinator_of_a_former_release_is_left_alone_until_it_is_adopted(
    backend: Backend, opener: Opener
) -> None:
    old, new = await backend.open("old", LANES), await backend.open("new", LANES)
    await old.incarnations.incarnate("old", LANES)
    assert await commits(old, start_record(run_id(1), owner="old"))
    registry, epoch = await owner(opener, new, "new")
    assert await registry.strangers() == {"old": 1}
    assert await registry.claim_runs("new", epoch) == []
    assert await commits(old, start_record(run_id(2), owner="old")), "it may live"

    assert not await registry.adopt("nobody")
    assert await registry.adopt("old")
    await registry.register(row("new", epoch=epoch))
    claim = await registry.claim("new", LANES, [])

    assert claim is not None
    assert not await commits(old, start_record(run_id(3), owner="old"))
    assert set(await registry.claim_runs("new", claim.epoch)) == {run_id(1), run_id(2)}
    assert await registry.strangers() == {}


async def test_a_run_at_rest_is_taken_over_from_one_that_owns_nothing(backend: Backend, opener: Opener) -> None:
    former, taker = await backend.open("a", LANES), await backend.open("b", LANES)
    registry, epoch = await owner(opener, former, "a")
    assert await commits(former, start_record(run_id(1), owner="a"))
    assert await commits(former, start_record(run_id(2), owner="a"))
    assert await commits(former, ended_record(run_id(1)))
    await registry.release("a", epoch)
    (other,) = await registered(opener, "b")
    claim = await other.claim("b", LANES, [])
    assert claim is not None

    assert await taker.incarnations.take_over_run(run_id(1), claim.epoch)
    found = await taker.runs.get(run_id(1))
    assert found is not None
    assert found.owner == "b"
    assert not await taker.incarnations.take_over_run(run_id(1), claim.epoch), "it is its own now"
    assert not await taker.incarnations.take_over_run(run_id(2), claim.epoch), "it is live"

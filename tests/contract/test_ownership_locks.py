"""What PostgreSQL makes whoever changes who may write wait for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable
from typing import TypeVar

import asyncpg
import pytest
from tests.contract.records import new_run, new_run_id, start
from tests.contract.test_coordinator_registry_contract import row
from tests.waiting import until

from penstock_coordinator.adapters.postgres.connections import Database
from penstock_coordinator.adapters.postgres.coordinator_registry import PostgresCoordinatorRegistry
from penstock_coordinator.adapters.postgres.stores import open_stores

_T = TypeVar("_T")
LANES = 1
LIVE = new_run_id()
WAITS = "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'"


class Cluster:
    """A head "a" and its member "b", which has a live run."""

    def __init__(self, registry: PostgresCoordinatorRegistry, direct: asyncpg.Connection[asyncpg.Record]) -> None:
        self.registry = registry
        self.direct = direct
        self.head_epoch = self.member_epoch = 0

    async def begin(self, dsn: str) -> None:
        await self.registry.register(row("a"))
        claim = await self.registry.claim("a", LANES, [])
        assert claim is not None
        self.head_epoch = claim.epoch
        await self.registry.register(row("b"))
        await self.join()
        stores = await open_stores(dsn, coordinator_id="b", lanes=LANES, pool_size=1)
        try:
            stores.incarnations.speak_as(self.member_epoch)
            await stores.journal.commit(0, [start(LIVE, new=new_run(owner="b"))])
        finally:
            await stores.aclose()

    async def join(self) -> None:
        (head,) = [each for each in await self.registry.look() if each.takes_members]
        epoch = await self.registry.join("b", LANES, head)
        assert epoch is not None
        self.member_epoch = epoch

    async def waiting(self, asked: Awaitable[_T]) -> asyncio.Future[_T]:
        """It was asked for, and waits for a lock."""
        future = asyncio.ensure_future(asked)

        async def one_waits() -> bool:
            return bool(await self.direct.fetchval(WAITS))

        await until(one_waits)
        assert not future.done()
        return future


@pytest.fixture
async def cluster(database_url: str) -> AsyncIterator[Cluster]:
    registry = await PostgresCoordinatorRegistry.open(database_url, "a", 30.0)
    direct = await asyncpg.connect(database_url)
    made = Cluster(registry, direct)
    try:
        await made.begin(database_url)
        yield made
    finally:
        await direct.close()
        await registry.aclose()


async def _holds_its_fence(dsn: str, epoch: int) -> asyncpg.Connection[asyncpg.Record]:
    """As an append of the member does until it is over."""
    connection = await asyncpg.connect(dsn)
    await connection.execute("begin")
    assert await connection.fetch("select from fences where coordinator_id = 'b' and epoch = $1 for key share", epoch)
    return connection


async def test_runs_are_claimed_when_the_last_commit_of_their_former_owner_is_over(
    cluster: Cluster, database_url: str
) -> None:
    await cluster.registry.register(row("b", epoch=cluster.member_epoch))
    append = await _holds_its_fence(database_url, cluster.member_epoch)
    try:
        claiming = await cluster.waiting(cluster.registry.claim_runs("a", cluster.head_epoch))
        await append.execute("commit")
        assert await claiming == [LIVE]
    finally:
        await append.close()
    assert not await cluster.direct.fetch(
        "select from fences where coordinator_id = 'b' and epoch = $1", cluster.member_epoch
    )


async def test_a_member_is_buried_when_its_last_commit_is_over(cluster: Cluster, database_url: str) -> None:
    (member,) = [each for each in await cluster.registry.look() if each.coordinator_id == "b"]
    append = await _holds_its_fence(database_url, cluster.member_epoch)
    try:
        burying = await cluster.waiting(cluster.registry.bury("a", cluster.head_epoch, member))
        await append.execute("commit")
        assert await burying
    finally:
        await append.close()


async def test_whoever_waits_for_a_late_commit_keeps_no_head_from_its_renewals(
    cluster: Cluster, database_url: str
) -> None:
    """The head's row is locked before the fences of who joins or is buried."""
    database = await Database.open(database_url, "hasty", 1, 30.0)
    hasty = PostgresCoordinatorRegistry(database, database_url, "hasty", 0.05)
    head, member = await cluster.registry.look()
    append = await _holds_its_fence(database_url, cluster.member_epoch)
    try:
        assert not await hasty.bury("a", cluster.head_epoch, member)
        assert await cluster.registry.renew("a", cluster.head_epoch)
        assert await cluster.registry.renew("b", cluster.member_epoch), "nothing was done"
        await cluster.registry.register(row("b", epoch=cluster.member_epoch))
        assert await hasty.join("b", LANES, head) is None
        assert await cluster.registry.renew("a", cluster.head_epoch)
        await append.execute("commit")
        assert await hasty.claim_runs("a", cluster.head_epoch) == [LIVE]
        assert await hasty.join("b", LANES, head)
    finally:
        await append.close()
        await hasty.aclose()


async def test_who_comes_back_waits_for_a_claim_of_its_runs(cluster: Cluster, database_url: str) -> None:
    """The claim has read that it is gone, and has not taken the runs yet."""
    await cluster.registry.register(row("b", epoch=cluster.member_epoch))
    append = await _holds_its_fence(database_url, cluster.member_epoch)
    try:
        claiming = await cluster.waiting(cluster.registry.claim_runs("a", cluster.head_epoch))
        joining = asyncio.create_task(cluster.join())

        async def both_wait() -> bool:
            return bool(await cluster.direct.fetchval(WAITS) == 2)

        await until(both_wait)
        assert not joining.done()
        await append.execute("commit")
        assert await claiming == [LIVE]
        await joining  # it has none left
    finally:
        await append.close()
    assert await cluster.direct.fetchval("select owner from runs where run_id = $1", LIVE.hex()) == "a"


async def test_who_releases_for_another_one_waits_for_it_before_it_holds_anything(
    cluster: Cluster, database_url: str
) -> None:
    """Whoever joins at the same time locks the rows of both by id, and neither must wait for the other."""
    await cluster.registry.register(row("0"))
    lock = "select from coordinators where coordinator_id = $1 for update nowait"
    joining = await asyncpg.connect(database_url)
    try:
        await joining.execute("begin")
        await joining.fetch(lock, "0")
        releasing = await cluster.waiting(cluster.registry.release("a", cluster.head_epoch, "0"))
        await joining.fetch(lock, "a")
        await joining.execute("rollback")
        await releasing
    finally:
        await joining.close()
    appointed = [each.coordinator_id for each in await cluster.registry.look() if each.appointed]
    assert appointed == ["0"]

"""Coordinators that claim, join, bury, leave and write at random and at once: nobody's commit lands behind the reading
of whoever has its runs next, and nobody waits in a circle."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator

import asyncpg
import pytest
from tests.contract.records import new_run_id, record
from tests.contract.test_coordinator_registry_contract import row, start_record

from penstock_coordinator.adapters.postgres.coordinator_registry import PostgresCoordinatorRegistry
from penstock_coordinator.adapters.postgres.stores import PostgresStores, open_stores
from penstock_coordinator.core.fleet.ownership import CoordinatorRow, OwnershipState
from penstock_coordinator.ports import AppendOutcome, Committed, Fenced, Record, RunId

NAMES = ("a", "b", "c", "d")
LANES = 2
MOVES = 60
MOST_STARTED = 8
"""Runs of a coordinator, besides those that it has taken."""


class Node:
    """A coordinator that waits for no lease: the registry refuses what is not to be."""

    def __init__(self, name: str, registry: PostgresCoordinatorRegistry, stores: PostgresStores, seed: int) -> None:
        self.name = name
        self.registry = registry
        self.stores = stores
        self.chance = random.Random(seed)
        self.epoch = 0
        self.head = False
        self.runs: dict[RunId, int] = {}
        """Its own, by the number that each is at."""
        self.writing: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Its commits: the last are under way when it leaves, as those of a process that is killed."""
        self.writing.set_result(None)
        self.claimed = self.joined = self.buried = self.taken = self.fenced = 0

    async def live(self) -> None:
        await self.registry.register(row(self.name))
        for _ in range(MOVES):
            rows = await self.registry.look()
            move = self.owns if self.epoch else self.follows
            await move(rows)
        await self.writing

    async def follows(self, rows: list[CoordinatorRow]) -> None:
        await self.writing
        owners = [each for each in rows if each.state in (OwnershipState.OWNER, OwnershipState.MEMBER)]
        heads = [each for each in owners if each.takes_members and each.coordinator_id != self.name]
        own = next((each for each in rows if each.coordinator_id == self.name), None)
        if own is None or own.state is not OwnershipState.FOLLOWER:
            await self.registry.register(row(self.name, epoch=own.epoch if own else 0))
        elif heads and self.chance.random() < 0.9:
            epoch = await self.registry.join(self.name, LANES, heads[0])
            self.joined += epoch is not None
            self.begins(epoch or 0, head=False)
        else:
            claim = await self.registry.claim(self.name, LANES, owners)
            if claim is not None:
                self.claimed += 1
                self.begins(claim.epoch, head=True)
                await self.takes()

    def begins(self, epoch: int, *, head: bool) -> None:
        self.epoch, self.head, self.runs = epoch, head, {}
        self.stores.incarnations.speak_as(epoch)

    async def owns(self, rows: list[CoordinatorRow]) -> None:
        match self.chance.randrange(30):
            case 0:
                others = [name for name in NAMES if name != self.name]
                self.write()
                await self.registry.release(self.name, self.epoch, self.chance.choice(["", *others]))
                self.epoch = 0
            case 1:
                self.write()
                await self.registry.register(row(self.name, epoch=self.epoch))
                self.epoch = 0
            case 2 | 3 | 4:
                await self.registry.renew(self.name, self.epoch)
            case number if self.head and number < 20:
                for each in rows:
                    if each.state is OwnershipState.MEMBER and self.chance.random() < 0.5:
                        self.buried += await self.registry.bury(self.name, self.epoch, each)
                await self.takes()
            case _:
                await self.writing
                self.write()

    async def takes(self) -> None:
        """And reads them, as whoever recovers them does."""
        await self.writing
        for run in await self.registry.claim_runs(self.name, self.epoch):
            self.runs[run] = (await self.stores.journal.read(run))[-1].last_seq
            self.taken += 1

    def write(self) -> None:
        if self.writing.done():
            self.writing = asyncio.ensure_future(self._write(self.epoch))

    async def _write(self, epoch: int) -> None:
        records: list[list[Record]] = [[], []]
        if len(self.runs) < MOST_STARTED:
            records[0].append(start_record(new_run_id(), owner=self.name))
        for at, (run, seq) in enumerate(self.chance.sample(sorted(self.runs.items()), min(4, len(self.runs)))):
            records[at % LANES].append(record(run, seq + 1))
        lanes = zip(records, await asyncio.gather(*(self._commit(*each) for each in enumerate(records))), strict=True)
        for written, outcomes in lanes:
            if outcomes is None:
                self.fenced += 1
                self.epoch = 0 if self.epoch == epoch else self.epoch
                continue
            for each, outcome in zip(written, outcomes, strict=True):
                assert outcome == Committed(), f"{self.name} had read all of the run"
                self.runs[each.run_id] = each.last_seq

    async def _commit(self, lane: int, records: list[Record]) -> list[AppendOutcome] | None:
        """None: its time is over."""
        try:
            return await self.stores.journal.commit(lane, records)
        except Fenced:
            return None


@pytest.fixture
async def nodes(database_url: str) -> AsyncIterator[list[Node]]:
    made: list[Node] = []
    for seed, name in enumerate(NAMES):
        registry = await PostgresCoordinatorRegistry.open(database_url, name, 30.0)
        stores = await open_stores(database_url, coordinator_id=name, lanes=LANES, pool_size=1)
        made.append(Node(name, registry, stores, seed))
    yield made
    for node in made:
        await node.stores.aclose()
        await node.registry.aclose()


async def test_nothing_is_written_behind_the_reading_of_whoever_has_the_run_next(
    nodes: list[Node], database_url: str
) -> None:
    await asyncio.gather(*(node.live() for node in nodes))
    for what in ("claimed", "joined", "taken", "fenced"):
        assert sum(getattr(node, what) for node in nodes) > 0, what
    direct = await asyncpg.connect(database_url)
    try:
        deadlocks = "select deadlocks from pg_stat_database where datname = current_database()"
        assert await direct.fetchval(deadlocks) == 0
    finally:
        await direct.close()

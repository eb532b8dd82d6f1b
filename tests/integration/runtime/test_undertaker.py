"""What a head makes of runs whose owner is gone, beside its own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import TYPE_CHECKING

import pytest
from tests.integration.runtime.test_runs import spec
from tests.waiting import until

from penstock_coordinator.adapters.memory.coordinator_registry import MemoryCoordinatorRegistry
from penstock_coordinator.core.fleet.ownership import CoordinatorRow, OwnershipState
from penstock_coordinator.core.fleet.spreading import place_name
from penstock_coordinator.ports import RunId, Unavailable
from penstock_coordinator.ports.board import BoardEntry, Published
from penstock_coordinator.runtime import heading as heading_of_runs
from penstock_coordinator.runtime.heading import Heading
from penstock_coordinator.runtime.ownership import OwnershipKeeper
from penstock_coordinator.runtime.spreading import Spreading
from penstock_coordinator.runtime.undertaker import Undertaker

if TYPE_CHECKING:
    from tests.integration.runtime.conftest import Coordinator, World

LEASE = 3_600_000_000
PATIENCE = 30.0
ONE = spec({"name": "a"})


class LossyRegistry(MemoryCoordinatorRegistry):
    """Of so many claims of runs the answer is lost."""

    lost = 0
    asked = 0

    async def claim_runs(self, coordinator_id: str, epoch: int) -> list[RunId]:
        self.asked += 1
        claimed = await super().claim_runs(coordinator_id, epoch)
        if claimed and self.lost:
            self.lost -= 1
            raise Unavailable("the connection broke")
        return claimed


def row(name: str, epoch: int = 0) -> CoordinatorRow:
    return CoordinatorRow(name, OwnershipState.FOLLOWER, epoch, 0, LEASE, f"{name}:7400", "", 1)


class Pair:
    """The head "c1" and its member "c2"."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.registry = LossyRegistry(world.database)
        self.named: list[list[str]] = []
        self.head: Coordinator
        self.member: Coordinator
        self.member_epoch = 0
        self.keeper: OwnershipKeeper
        self.undertaker: Undertaker
        self.tasks: list[asyncio.Task[None]] = []

    async def begin(self) -> None:
        self.head = await self.world.coordinator("c1")
        self.keeper = OwnershipKeeper(self.registry, self.world.clock, row("c1"), 2)
        await self.keeper.introduce("c1:7400", "")
        async with asyncio.timeout(PATIENCE):
            turn = await self.keeper.campaign(asyncio.Event())
        assert turn is not None
        self.head.stores.incarnations.speak_as(turn.epoch)
        self.undertaker = Undertaker(self.keeper, self.head.supervisor, self.hear)
        await self.join()

    async def join(self) -> None:
        self.member = await self.world.coordinator("c2")
        await self.registry.register(row("c2"))
        (head,) = [each for each in await self.registry.look() if each.takes_members]
        epoch = await self.registry.join("c2", 2, head)
        assert epoch is not None
        self.member_epoch = epoch
        self.member.stores.incarnations.speak_as(epoch)
        await self.look()

    async def look(self) -> None:
        """The head's keeper does, as at each renewal."""
        await self.keeper._look()

    def hear(self, members: Sequence[CoordinatorRow]) -> None:
        self.named.append([row.coordinator_id for row in members])

    async def published(self) -> list[Published]:
        """The board: the member has nothing to do."""
        return [Published(BoardEntry("c2", self.member_epoch), 0)]

    def run(self) -> None:
        self.tasks.append(asyncio.create_task(self.undertaker.run()))

    def has(self, run_id: RunId) -> bool:
        return self.head.supervisor.actor(run_id) is not None

    async def close(self) -> None:
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)


@pytest.fixture
async def pair(world: World) -> AsyncIterator[Pair]:
    made = Pair(world)
    await made.begin()
    yield made
    await made.close()


async def test_runs_of_a_member_that_is_buried_go_on_at_the_head(pair: Pair) -> None:
    left, own = await pair.member.start(ONE), await pair.head.start(ONE)
    await pair.undertaker.run_once()
    assert pair.named == [["c2"]]
    assert not pair.has(left), "the member has it"
    await pair.member.kill()
    (gone,) = pair.keeper.peers()
    assert await pair.registry.bury("c1", pair.keeper.epoch, gone)
    await pair.look()
    assert pair.keeper.peers() == []

    await pair.undertaker.run_once()

    assert pair.has(left)
    assert pair.named == [["c2"], []], "that it left is told after its runs were adopted"
    agent = pair.head.agent("a1")
    await agent.connect(credits=2)
    for _ in range(2):
        await agent.succeed(await agent.grant())
    for run_id in (left, own):
        await pair.head.ended(run_id)


async def test_who_has_left_is_named_until_its_runs_are_adopted(pair: Pair) -> None:
    left = await pair.member.start(ONE)
    await pair.undertaker.run_once()
    await pair.member.kill()
    await pair.registry.release("c2", pair.member_epoch)
    await pair.look()
    pair.world.database.there.clear()
    await pair.undertaker.run_once()
    assert pair.named == [["c2"]]
    pair.world.database.there.set()
    await pair.undertaker.run_once()
    assert pair.named == [["c2"], []]
    assert pair.has(left)


async def test_runs_are_found_also_if_nobody_tells_that_their_owner_is_gone(pair: Pair) -> None:
    """It was gone and back before anybody looked."""
    left = await pair.member.start(ONE)
    await pair.member.kill()
    await pair.registry.register(row("c2", pair.member_epoch))
    await pair.undertaker.run_once()
    assert pair.has(left)


async def test_what_was_claimed_without_an_answer_is_adopted_too(pair: Pair) -> None:
    left = await pair.member.start(ONE)
    await pair.member.kill()
    await pair.registry.release("c2", pair.member_epoch)
    pair.registry.lost = 1
    await pair.undertaker.run_once()
    assert not pair.has(left), "nobody has said which"
    await pair.undertaker.run_once()
    assert pair.has(left)


async def test_it_looks_when_somebody_leaves(pair: Pair) -> None:
    left = await pair.member.start(ONE)
    pair.run()
    await pair.member.kill()
    await pair.registry.release("c2", pair.member_epoch)
    await pair.look()

    async def has() -> bool:
        return pair.has(left)

    await until(has)


async def _nothing_published() -> list[Published]:
    return []


async def test_a_head_that_sends_its_members_away_has_their_runs(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    left = await pair.member.start(ONE)
    asked: list[str] = []
    answers = asyncio.Event()

    async def leaves(member: CoordinatorRow) -> bool:
        asked.append(member.coordinator_id)
        await answers.wait()
        await pair.member.kill()
        await pair.registry.release("c2", pair.member_epoch)
        return True

    heading = Heading(pair.head.supervisor, pair.keeper, _nothing_published, leaves)

    def knows_members() -> bool:
        return heading.spreading.members_known

    heading.begin()
    assert knows_members()
    assert pair.head.supervisor.whereabouts.members_known
    monkeypatch.setattr(heading_of_runs, "DISMISSED_SECONDS", 0.0)
    await heading.dismiss()
    assert not pair.has(left), "it has not left in time, and nobody waits for ever"

    monkeypatch.setattr(heading_of_runs, "DISMISSED_SECONDS", PATIENCE)
    answers.set()
    await heading.dismiss()
    assert pair.has(left)
    assert asked == ["c2", "c2"]
    await pair.look()
    assert not knows_members()
    await heading.dismiss()
    assert asked == ["c2", "c2"], "nobody is there"
    heading.end()


async def test_starts_go_where_agents_have_links_and_the_board_tells_of_little_to_do(pair: Pair) -> None:
    own = await pair.head.start(ONE)
    actor = pair.head.supervisor.actor(own)
    assert actor is not None
    spreading = Spreading(pair.head.supervisor, pair.published)

    def chosen() -> list[str]:
        found = spreading.choose(actor.plan, 0)
        return [] if found is None else [found.coordinator_id]

    async def is_chosen() -> bool:
        return bool(chosen())

    assert chosen() == []
    spreading.heard(pair.keeper.members())
    assert chosen() == [], "it has published nothing yet"
    pair.tasks.append(asyncio.create_task(spreading.run()))
    await until(is_chosen)
    agent = pair.head.agent("a1")
    agent.features = ["links"]
    await agent.connect(credits=0)
    assert chosen() == [], "whoever serves it has no link there"
    await agent.beat(links=[place_name("c2", pair.member_epoch)])
    assert chosen() == ["c2"]
    await agent.beat(links=[place_name("c2", pair.member_epoch - 1)])
    assert chosen() == [], "the link was with a former incarnation"
    spreading.heard([])
    assert chosen() == []


async def test_where_nobody_is_nothing_is_asked(world: World) -> None:
    head, registry = await world.coordinator("c1"), LossyRegistry(world.database)
    keeper = OwnershipKeeper(registry, world.clock, row("c1"), 2)
    await keeper.introduce("c1:7400", "")
    assert await keeper.campaign(asyncio.Event()) is not None
    assert keeper.alone
    await Undertaker(keeper, head.supervisor).run_once()
    assert registry.asked == 0

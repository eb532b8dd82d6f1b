"""Ownership under random schedules: clocks that drift, answers that are late or lost, nodes that freeze or are cut off.

Each node runs the decisions of the core on a clock of its own; the database is a model of the registry that does what
it is asked as a whole or not at all. All of it is one heap of events: the same seed is the same schedule. In some
worlds nobody joins a head, in others some do.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable
from dataclasses import replace

import pytest

from penstock_coordinator.core.fleet.ownership import (
    DRIFT,
    CoordinatorRow,
    Ownership,
    OwnershipState,
    look_interval,
    renewal_interval,
)

OWN = (OwnershipState.OWNER, OwnershipState.MEMBER)
SECOND = 1_000_000
LEASE = 2 * SECOND
TROUBLE = 60 * SECOND
HEALED_FOR = 4 * LEASE
NODES = ("a", "b", "c")
SEEDS = 150
FENCED = -1


class Registry:
    """The rows and the fences."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.rows: dict[str, CoordinatorRow] = {}
        self.fences: dict[str, int] = {}
        self.epoch = 0

    def register(self, name: str) -> None:
        before = self.rows.get(name)
        renewals, epoch = (before.renewals, before.epoch) if before else (0, 0)
        self.rows[name] = CoordinatorRow(name, OwnershipState.FOLLOWER, epoch, renewals + 1, LEASE, "", "", 0)

    def look(self) -> list[CoordinatorRow]:
        return [row for row in self.rows.values() if row.state is not OwnershipState.GONE]

    def renew(self, name: str, epoch: int) -> bool:
        row = self.rows[name]
        fits = row.epoch == epoch if row.state in OWN else not epoch
        if row.state is OwnershipState.GONE or not fits:
            return False
        self.rows[name] = replace(row, renewals=row.renewals + 1)
        return True

    def claim(self, name: str, owners: list[CoordinatorRow]) -> tuple[int, bool] | None:
        found = {row.coordinator_id: row.mark for row in self.look() if row.state in OWN}
        if self.rows[name].state is not OwnershipState.FOLLOWER or found != {o.coordinator_id: o.mark for o in owners}:
            return None
        self.epoch += 1
        for former in found:
            self.world.is_ended(self.rows[former])
            self.rows[former] = replace(self.rows[former], state=OwnershipState.GONE)
        self.fences = {**dict.fromkeys(self.fences, FENCED), name: self.epoch}
        self.rows = {each: replace(row, appointed=False) for each, row in self.rows.items()}
        won = replace(self.rows[name], state=OwnershipState.OWNER, epoch=self.epoch, head_epoch=self.epoch)
        self.rows[name] = won
        return self.epoch, all(row.state is not OwnershipState.FOLLOWER for row in self.rows.values())

    def join(self, name: str, head: CoordinatorRow) -> int | None:
        found, own = self.rows[head.coordinator_id], self.rows[name]
        if not found.takes_members or found.epoch != head.epoch or own.state is not OwnershipState.FOLLOWER:
            return None
        self.epoch += 1
        self.fences[name] = self.epoch
        self.rows[name] = replace(own, state=OwnershipState.MEMBER, epoch=self.epoch, head_epoch=head.epoch)
        self.world.joins += 1
        return self.epoch

    def bury(self, name: str, epoch: int, member: CoordinatorRow) -> bool:
        head, found = self.rows[name], self.rows[member.coordinator_id]
        if not head.takes_members or head.epoch != epoch or found.mark != member.mark or found.head_epoch != epoch:
            return False
        self.world.is_ended(found)
        self.world.burials += 1
        self.fences[member.coordinator_id] = FENCED
        self.rows[member.coordinator_id] = replace(found, state=OwnershipState.GONE)
        return True

    def release(self, name: str, epoch: int, successor: str) -> None:
        row = self.rows[name]
        if row.state in OWN and row.epoch == epoch:
            self.rows[name] = replace(row, state=OwnershipState.GONE)
            if self.rows[successor].state is OwnershipState.FOLLOWER:
                self.rows[successor] = replace(self.rows[successor], appointed=True)

    def forget(self, row: CoordinatorRow) -> None:
        if self.rows[row.coordinator_id].mark == row.mark:
            self.rows[row.coordinator_id] = replace(row, state=OwnershipState.GONE)


class World:
    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.joining = self.chance.choice((0.0, 0.6, 1.0))
        self.now = 0
        self.registry = Registry(self)
        self.healed = False
        self._events: list[tuple[int, int, Callable[[], None]]] = []
        self._count = 0
        self.nodes = [Node(self, name) for name in NODES]
        self.wins = self.joins = self.burials = 0
        self.away_until = 0

    def at(self, delay: int, action: Callable[[], None]) -> None:
        self._count += 1
        heapq.heappush(self._events, (self.now + max(delay, 1), self._count, action))

    def run(self, until: int) -> None:
        while self._events and self._events[0][0] <= until:
            self.now, _, action = heapq.heappop(self._events)
            action()
            self.check()
        self.now = until

    def trouble(self) -> None:
        """Of a random kind, now and then."""
        if self.healed:
            return
        node, span = self.chance.choice(self.nodes), self.chance.randrange(30 * LEASE // 2)
        match self.chance.randrange(6):
            case 0:
                node.frozen_until = self.now + span
            case 1:
                node.cut_off_until = self.now + span
            case 2:
                self.away_until = self.now + span // 4
            case 3:
                node.start()
            case 4:
                node.slow_until = self.now + span
            case _:
                pass
        self.at(self.chance.randrange(3 * LEASE), self.trouble)

    def heal(self) -> None:
        self.healed = True
        self.away_until = 0
        for node in self.nodes:
            node.frozen_until = node.cut_off_until = node.slow_until = 0

    def check(self) -> None:
        """Never two heads that may act; but one that was alone, and has not reached the database since others came,
        cannot know. It can write nothing either, ever. Nor a member of a former head beside a new one."""
        acting = [node for node in self.nodes if node.acts()]
        heads = [node for node in acting if node.ownership.role is OwnershipState.OWNER]
        newest = max((node.ownership.epoch for node in heads), default=0)
        for node in acting:
            if node.ownership.head_epoch < newest:
                assert node.ownership.alone, f"{[each.name for each in acting]} at {self.now}"
                assert node.renewed_at < max(other.registered_at for other in self.nodes if other is not node)
        writing = {node.ownership.head_epoch for node in self.nodes if node.could_append()}
        assert len(writing) <= 1, "all who may write do so by one claim"

    def is_ended(self, row: CoordinatorRow) -> None:
        """By a claim or a burial: it must have stopped, by its own clock."""
        (node,) = [each for each in self.nodes if each.name == row.coordinator_id]
        if node.ownership.epoch == row.epoch and not node.ownership.alone:
            assert not node.ownership.may_act(node.clock()), f"{node.name} at {self.now}"


class Node:
    """What the shell does with the core, in a few lines; frozen it does nothing, and its clock goes on."""

    def __init__(self, world: World, name: str) -> None:
        self.world = world
        self.name = name
        self.rate = 1 + world.chance.uniform(-DRIFT, DRIFT)
        self.offset = world.chance.randrange(10**12)
        self.frozen_until = self.cut_off_until = self.slow_until = 0
        self.registered_at = self.renewed_at = 0
        self.life = 0
        self.ownership = Ownership(name, LEASE)
        self.joins = world.chance.random() < world.joining
        self.leaving = False
        world.at(world.chance.randrange(LEASE), self.start)

    def clock(self) -> int:
        return int(self.world.now * self.rate) + self.offset

    def acts(self) -> bool:
        """Frozen it does nothing, whatever it may."""
        awake = self.world.now >= self.frozen_until and not self.leaving
        return awake and self.ownership.may_act(self.clock())

    def could_append(self) -> bool:
        epoch = self.ownership.epoch
        return bool(epoch) and self.world.registry.fences.get(self.name) == epoch

    def start(self) -> None:
        """Also after kill -9: what it knew is gone."""
        self.life += 1
        self.leaving = False
        self.ownership = Ownership(self.name, LEASE)
        self.ask(lambda: self.world.registry.register(self.name), self.is_registered, self.start)

    def is_registered(self, _answer: object, _asked_at: int) -> None:
        self.registered_at = self.world.now
        self.follow()

    def later(self, delay: int, action: Callable[[], None]) -> None:
        """In so long of its own clock, and when it is not frozen any more; never in another life."""
        life = self.life

        def due() -> None:
            if self.life != life:
                return
            if self.world.now < self.frozen_until:
                self.world.at(min(self.frozen_until - self.world.now, LEASE // 4), due)
            else:
                action()

        self.world.at(int(delay / self.rate) + 1, due)

    def ask(
        self,
        what: Callable[[], object],
        then: Callable[[object, int], None],
        otherwise: Callable[[], None],
    ) -> None:
        """It is done or it is not, and the answer comes or it does not."""
        world, life, asked_at = self.world, self.life, self.clock()

        def latency() -> int:
            return world.chance.randrange(LEASE if world.now < self.slow_until else SECOND // 100)

        def arrives() -> None:
            lost = world.now < max(self.cut_off_until, world.away_until)
            if lost and world.chance.random() < 0.9:
                self.later(SECOND // 10, otherwise)
                return
            answer = what()
            if (not world.healed and world.chance.random() < 0.05) or lost:
                self.later(SECOND // 10, otherwise)
            else:
                self.later(latency(), lambda: then(answer, asked_at))

        def sent() -> None:
            if self.life == life:
                arrives()

        world.at(latency(), sent)

    def follow(self) -> None:
        self.ask(self.world.registry.look, self.has_looked, self.follow)

    def has_looked(self, answer: object, _asked_at: int) -> None:
        assert isinstance(answer, list)
        now = self.clock()
        if not self.ownership.looked(answer, now):
            self.ask(lambda: self.world.registry.register(self.name), self.is_registered, self.follow)
        elif self.ownership.may_claim(now):
            owners = self.ownership.owners
            self.ask(lambda: self.world.registry.claim(self.name, owners), self.has_claimed, self.step_down)
        elif self.joins and (head := self.ownership.may_join(now)) is not None:
            joining = head
            self.ask(
                lambda: self.world.registry.join(self.name, joining),
                lambda epoch, asked_at: self.has_joined(epoch, joining, asked_at),
                self.step_down,
            )
        else:
            if self.world.chance.random() < 0.2:
                self.ask(lambda: self.world.registry.renew(self.name, 0), lambda *_: None, lambda: None)
            self.later(look_interval(LEASE), self.follow)

    def has_claimed(self, answer: object, asked_at: int) -> None:
        if answer is None:
            self.follow()
            return
        assert isinstance(answer, tuple)
        epoch, alone = answer
        self.ownership.won(epoch, asked_at, alone=alone)
        self.renewed_at = self.world.now
        self.world.wins += 1
        self.keep()

    def has_joined(self, epoch: object, head: CoordinatorRow, asked_at: int) -> None:
        if epoch is None:
            self.later(look_interval(LEASE), self.follow)
            return
        assert isinstance(epoch, int)
        self.ownership.joined(epoch, head, asked_at)
        self.renewed_at = self.world.now
        self.keep()

    def keep(self) -> None:
        if not self.ownership.may_act(self.clock()):
            self.step_down()
            return
        epoch = self.ownership.epoch
        self.ask(
            lambda: (self.world.registry.renew(self.name, epoch), self.world.registry.look()),
            self.has_renewed,
            lambda: self.later(renewal_interval(LEASE) // 4, self.keep),
        )

    def has_renewed(self, answer: object, asked_at: int) -> None:
        assert isinstance(answer, tuple)
        renewed, rows = answer
        if not renewed or not self.ownership.may_act(self.clock()):
            self.step_down()
            return
        if not self.ownership.looked(rows, self.clock()):
            self.step_down()
            return
        if self.ownership.head_is_over(self.clock()):
            self.leave()
            return
        self.ownership.renewed(asked_at, alone=not self.ownership.others)
        self.renewed_at = self.world.now
        registry, epoch = self.world.registry, self.ownership.epoch
        for row in self.ownership.dead_members(self.clock()):
            self.ask(lambda row=row: registry.bury(self.name, epoch, row), lambda *_: None, lambda: None)  # type: ignore[misc]
        for row in self.ownership.forgotten(self.clock()):
            self.ask(lambda row=row: registry.forget(row), lambda *_: None, lambda: None)  # type: ignore[misc]
        if self.ownership.role is OwnershipState.MEMBER:
            self.later(renewal_interval(LEASE), self.keep)
            return
        if not self.ownership.alone and not self.world.healed and self.world.chance.random() < 0.05:
            self.hand_over()
            return
        self.later(renewal_interval(LEASE), self.keep)

    def leave(self) -> None:
        """A member with its head. It drains for a while, and acts no more before anybody hears of it."""
        self.later(self.world.chance.randrange(LEASE // 2), self.step_back)

    def step_back(self) -> None:
        self.leaving = True

        def back(*_: object) -> None:
            self.leaving = False
            self.registered_at = self.world.now
            self.ownership.stepped_back()
            self.follow()

        self.ask(lambda: self.world.registry.register(self.name), back, self.step_down)

    def hand_over(self) -> None:
        """By plan, to one that waits. It acts no more before anybody hears of it, whether the answer comes or not."""
        epoch = self.ownership.epoch
        waiting = [row for row in self.ownership.others if row.state is OwnershipState.FOLLOWER]
        if not waiting:
            self.later(renewal_interval(LEASE), self.keep)
            return
        self.ownership.ended()
        successor = self.world.chance.choice(waiting).coordinator_id
        release = self.world.registry.release
        self.ask(lambda: release(self.name, epoch, successor), lambda *_: self.start(), self.start)

    def step_down(self) -> None:
        """Also after a claim of which it is not known whether it was granted: it registers again, as one that waits."""
        self.ownership.ended()
        self.start()


@pytest.mark.parametrize("first", range(0, SEEDS, 50))
def test_never_two_may_act_and_after_healing_one_does(first: int) -> None:
    wins = joins = burials = 0
    for seed in range(first, first + 50):
        world = World(seed)
        world.at(LEASE, world.trouble)
        world.run(TROUBLE)
        world.heal()
        world.run(TROUBLE + HEALED_FOR)
        acting = [node for node in world.nodes if node.acts() and node.could_append()]
        roles = [node.ownership.role for node in acting]
        assert roles.count(OwnershipState.OWNER) == 1, f"seed {seed}"
        assert len(acting) >= sum(node.joins for node in world.nodes), f"seed {seed}"
        wins, joins, burials = wins + world.wins, joins + world.joins, burials + world.burials
    assert wins > 100, "there were take-overs"
    assert joins > 100
    assert burials > 10

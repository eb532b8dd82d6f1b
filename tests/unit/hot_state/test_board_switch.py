"""When the hot state goes to PostgreSQL and when it comes back, by a clock of the test's own."""

from __future__ import annotations

import asyncio
import itertools

import pytest

from penstock_coordinator.adapters.memory.hot_state import MemoryBoard, MemoryPost
from penstock_coordinator.adapters.redis.link import ANSWER_SECONDS
from penstock_coordinator.adapters.system import SystemClock
from penstock_coordinator.ports import DependencyState, Unavailable
from penstock_coordinator.ports.board import BoardEntry
from penstock_coordinator.runtime.board_failover import HotState, Medium, Switch

AWAY_WITHIN, BACK_WITHIN = 2.0, 5.0
"""Seconds."""


class Timeline:
    """Probes as `HotState.watch` makes them, of a Redis that is lost and found at given instants."""

    def __init__(self, answer: float) -> None:
        self.switch = Switch()
        self.now = 0.0
        self._answer = answer

    def probe(self, *, there: bool) -> None:
        self.now += 0.0 if there else self._answer
        if there:
            self.switch.succeeded()
        else:
            self.switch.failed()

    def there(self) -> bool:
        return self.switch.there

    def pause(self) -> None:
        self.now += self.switch.pause


@pytest.mark.parametrize("answer", [0.0, ANSWER_SECONDS])
def test_a_loss_is_known_within_two_seconds_and_the_return_within_five(answer: float) -> None:
    """At worst it is lost just after a probe, and is back just after one that failed."""
    timeline = Timeline(answer)
    timeline.probe(there=True)
    lost_at = timeline.now
    while timeline.there():
        timeline.pause()
        timeline.probe(there=False)
    assert timeline.now - lost_at < AWAY_WITHIN
    for _ in range(100):
        timeline.pause()
        timeline.probe(there=False)
    assert not timeline.there()
    back_at = timeline.now
    while not timeline.there():
        timeline.pause()
        timeline.probe(there=True)
    assert timeline.now - back_at < BACK_WITHIN


def test_one_failure_or_one_answer_changes_nothing() -> None:
    switch = Switch()
    assert [switch.failed(), switch.succeeded(), switch.failed()] == [False] * 3
    assert switch.failed()
    assert not switch.failed(), "it is away already"
    assert [switch.succeeded(), switch.failed(), switch.succeeded()] == [False] * 3
    assert switch.succeeded()


def test_every_order_of_answers_changes_sides_by_two_in_a_row_alone() -> None:
    for answers in itertools.product([True, False], repeat=8):
        switch, row, there = Switch(), 0, True
        for at, answer in enumerate(answers):
            row = row + 1 if at and answers[at - 1] is answer else 1
            changed = switch.succeeded() if answer else switch.failed()
            assert changed == (answer is not there and row >= 2)
            there = answer if changed else there
            assert switch.there is there


# --- media


class Away(MemoryBoard):
    """A board that is away for as long as the test says so."""

    away = True

    async def publish(self, entry: BoardEntry, ttl: float) -> None:
        if self.away:
            raise Unavailable("Redis: ConnectionError")
        await super().publish(entry, ttl)


def media() -> tuple[Medium, Medium, Medium]:
    clock = SystemClock()

    async def probe() -> bool:
        return True

    names = "memory", "postgresql"
    memory, postgres = (Medium(name, MemoryBoard(clock), MemoryPost(clock)) for name in names)
    return memory, postgres, Medium("redis", Away(clock), MemoryPost(clock), probe)


async def test_without_redis_one_that_is_alone_tells_nobody() -> None:
    memory, postgres, _ = media()
    others: list[str] = []
    hot = HotState(memory, postgres, None, SystemClock(), lambda: not others)
    assert hot.medium is memory
    assert hot.dependency() is None
    await hot.publish(BoardEntry("a"), 60.0)
    assert await postgres.board.read() == []
    others.append("b")
    assert (hot.view.medium, hot.view.preferred) == ("postgresql", "postgresql")
    await hot.publish(BoardEntry("a"), 60.0)
    assert [each.entry for each in await postgres.board.read()] == [BoardEntry("a")]


async def test_with_redis_also_one_that_is_alone_publishes() -> None:
    memory, postgres, redis = media()
    hot = HotState(memory, postgres, redis, SystemClock(), lambda: True)
    assert hot.shared
    with pytest.raises(Unavailable):
        await hot.publish(BoardEntry("a"), 60.0)
    await hot.publish(BoardEntry("a"), 60.0)
    assert [each.entry for each in await postgres.board.read()] == [BoardEntry("a")], "the second failure in a row"
    found = hot.dependency()
    assert found is not None
    assert found.state is DependencyState.OPEN


async def test_whoever_waits_for_letters_hears_at_once_that_they_are_elsewhere() -> None:
    memory, postgres, redis = media()
    hot = HotState(memory, postgres, redis, SystemClock(), lambda: True)
    receiving = asyncio.create_task(hot.receive("a", 3_600.0))
    for _ in range(10):
        await asyncio.sleep(0)
    assert "a" in redis.post._mailboxes  # type: ignore[attr-defined]  # it is in memory
    for _ in range(2):
        await asyncio.gather(hot.publish(BoardEntry("a"), 60.0), return_exceptions=True)
    assert await receiving == []
    assert hot.medium is postgres


async def test_changes_are_said_once_each(capsys: pytest.CaptureFixture[str]) -> None:
    memory, postgres, redis = media()
    hot = HotState(memory, postgres, redis, SystemClock(), lambda: True)
    for _ in range(2):
        for _ in range(5):
            await asyncio.gather(hot.publish(BoardEntry("a"), 60.0), return_exceptions=True)
        for _ in range(5):
            await hot.probe()
    said = [line for line in capsys.readouterr().out.splitlines() if "hot_state_moved" in line]
    assert len(said) == 4
    assert hot.view.changes == 4

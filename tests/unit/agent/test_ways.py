"""Owners that cannot be reached, and when each is tried again."""

from __future__ import annotations

from penstock_agent.core.ways import HEARTBEAT, MOST, Ways


def test_nothing_is_said_of_what_was_never_tried() -> None:
    ways = Ways()
    assert ways.all_open
    assert ways.unreachable(0.0) == []
    assert ways.retry_at("a:1") == 0.0


def test_one_is_tried_again_later_and_later() -> None:
    ways, now, pauses = Ways(), 100.0, []
    for _ in range(6):
        ways.failed("a:1", now, 0.5)
        assert ways.unreachable(now) == ["a:1"]
        pauses.append((ways.retry_at("a:1") - now) / HEARTBEAT)
        now = ways.retry_at("a:1")
        assert ways.unreachable(now) == [], "it is due"
    assert pauses == [1.0, 2.0, 4.0, 8.0, 12.0, 12.0]


def test_agents_that_lost_the_way_together_do_not_come_back_in_one_moment() -> None:
    def retry_at(chance: float) -> float:
        ways = Ways()
        ways.failed("a:1", 0.0, chance)
        return ways.retry_at("a:1") / HEARTBEAT

    assert (retry_at(0.0), retry_at(1.0)) == (0.75, 1.25)


def test_the_pace_is_that_of_heartbeats_as_soon_as_one_is_said() -> None:
    ways = Ways()
    ways.failed("a:1", 10.0, 0.5)
    ways.set_pace(0.2)
    assert ways.retry_at("a:1") == 10.2
    ways.set_pace(0.0)
    assert ways.retry_at("a:1") == 10.0 + HEARTBEAT


def test_one_that_was_reached_begins_anew() -> None:
    ways = Ways()
    ways.failed("a:1", 0.0, 0.5)
    ways.failed("b:1", 0.0, 0.5)
    ways.reached("a:1")
    assert ways.unreachable(0.0) == ["b:1"]
    ways.failed("a:1", 0.0, 0.5)
    assert ways.retry_at("a:1") == HEARTBEAT


def test_few_are_remembered() -> None:
    ways = Ways()
    for number in range(MOST + 3):
        ways.failed(f"a:{number}", 0.0, 0.5)
    assert ways.unreachable(0.0) == [f"a:{number}" for number in range(3, MOST + 3)]

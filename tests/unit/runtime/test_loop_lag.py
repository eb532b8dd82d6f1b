"""What is told of the event loop's lateness."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import structlog
from tests.waiting import until

from penstock_coordinator.runtime.loop_lag import AT_REST, LATE, WINDOW, LoopLag


def test_the_greatest_of_the_last_seconds_is_told() -> None:
    lag = LoopLag()
    lag.look(0.4, 100.0)
    lag.look(0.1, 100.1)
    lag.look(0.2, 107.0)
    assert lag.most == 0.4


def test_a_long_turn_is_forgotten_after_a_while() -> None:
    lag = LoopLag()
    lag.look(0.4, 100.0)
    lag.look(0.0, 100.0 + WINDOW)
    assert lag.most == 0.0


def test_before_the_first_look_there_is_none() -> None:
    assert LoopLag().most == 0.0


def test_whoever_listens_is_told_of_what_came_late_and_at_rest_of_some_looks() -> None:
    lag, told = LoopLag(), list[float]()

    def hear(_late: float, now: float) -> bool:
        told.append(now)
        return False

    with lag.told_to(hear):
        lag.look(2 * LATE, 1.0)
        for look in range(AT_REST):
            lag.look(LATE / 2, 2.0 + look)
    lag.look(2 * LATE, 9.0)
    assert told == [1.0, 1.0 + AT_REST], "and of none that came after he listened no more"


def test_whoever_wants_it_is_told_of_the_next_look_too() -> None:
    lag, told = LoopLag(), list[float]()

    def hear(_late: float, now: float) -> bool:
        told.append(now)
        return now < 3.0

    with lag.told_to(lambda *_: False), lag.told_to(hear):
        for now in (2 * LATE, 0.0, 0.0, 0.0, 0.0):
            lag.look(now, 1.0 + len(told))
    assert told == [1.0, 2.0, 3.0]


def test_a_hearer_that_raises_is_logged_and_the_others_are_told() -> None:
    lag, told = LoopLag(), list[float]()

    def fail(_late: float, _now: float) -> bool:
        raise ValueError("no such cause")

    def hear(_late: float, now: float) -> bool:
        told.append(now)
        return False

    with structlog.testing.capture_logs() as lines, lag.told_to(fail), lag.told_to(hear):
        lag.look(2 * LATE, 1.0)
        lag.look(2 * LATE, 2.0)
    assert told == [1.0, 2.0]
    assert [line["event"] for line in lines] == ["loop_lag_not_heard"] * 2


async def test_a_callback_that_holds_the_loop_up_is_seen() -> None:
    lag = LoopLag()
    loop = asyncio.get_running_loop()
    looking = asyncio.create_task(lag.run())
    try:
        await until(_true(lambda: bool(lag._most)))
        end = loop.time() + 0.4
        while loop.time() < end:
            pass
        await until(_true(lambda: lag.most > 0.25))
    finally:
        looking.cancel()


def _true(condition: Callable[[], bool]) -> Callable[[], Awaitable[bool]]:
    async def ask() -> bool:
        return condition()

    return ask

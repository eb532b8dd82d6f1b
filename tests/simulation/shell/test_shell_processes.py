"""The simulated world itself, and processes in it of which something particular is asked."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from tests.simulation.shell.loop import Process
from tests.simulation.shell.machines import CoordinatorMachine
from tests.simulation.shell.world import SECOND, World, make_world


@pytest.fixture
def world() -> Iterator[World]:
    with make_world(1, disorder=1.0) as made:
        yield made


def pass_time(world: World, seconds: float) -> None:
    until = world.loop.now + int(seconds * SECOND)
    world.loop.later(int(seconds * SECOND), lambda: None)
    while world.loop.now < until and world.loop.turn():
        pass


def test_callbacks_of_one_parent_keep_their_order(world: World) -> None:
    ran: list[tuple[int, int]] = []

    def parent(number: int) -> None:
        for child in range(3):
            world.loop.call_soon(ran.append, (number, child))

    for number in range(20):
        world.loop.call_soon(parent, number)
    pass_time(world, 1)

    assert [child for number, child in ran if number == 7] == [0, 1, 2]
    assert ran != sorted(ran)
    assert len(ran) == 60


def test_nothing_of_a_dead_process_runs_again(world: World) -> None:
    done: list[str] = []

    async def work() -> None:
        try:
            await asyncio.sleep(1)
        finally:
            done.append("tidied up")

    process = Process("some/1")
    world.loop.spawn(process, work())
    pass_time(world, 0.5)
    world.loop.kill(process)
    pass_time(world, 10)

    assert done == []


def test_a_frozen_process_goes_on_where_it_was(world: World) -> None:
    woken: list[int] = []

    async def work() -> None:
        await asyncio.sleep(1)
        woken.append(world.loop.now)

    process = Process("some/1")
    world.loop.spawn(process, work())
    pass_time(world, 0.5)
    world.loop.freeze(process)
    world.loop.later(5 * SECOND, world.loop.thaw, process)
    pass_time(world, 8)

    assert 5.5 * SECOND <= woken[0] < 5.6 * SECOND


def test_a_coordinator_whose_housekeeping_fails_says_why_it_ends(world: World) -> None:
    machine = CoordinatorMachine(world, {})
    machine.start()
    pass_time(world, 5)
    assert machine.coordinator is not None
    supervisor = machine.coordinator.supervisor

    def fail() -> None:
        raise RuntimeError("a fault of ours")

    supervisor.run_periodic = fail  # type: ignore[method-assign]  # a fault that no input brings about
    pass_time(world, 30)

    ((_, error),) = machine.ends
    assert repr(error) == "RuntimeError('a fault of ours')"

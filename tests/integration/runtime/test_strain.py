"""How the process fares, measured on the real runtime."""

from __future__ import annotations

import asyncio
import time

import pytest
from tests.integration.api.conftest import ONE_STEP
from tests.integration.runtime.conftest import World
from tests.waiting import until

from penstock_coordinator.adapters.memory.faults import FailBefore
from penstock_coordinator.adapters.system import memory_there_is, resident_bytes
from penstock_coordinator.runtime.admission import Bounds
from penstock_coordinator.runtime.loop_lag import LoopLag
from penstock_coordinator.runtime.strain import LAGS, LOOKS_PER_TRIM, StrainGauge

MIB = 1 << 20


async def test_a_loop_that_is_late_again_and_again_is_strained_and_one_long_turn_is_not(world: World) -> None:
    coordinator = await world.coordinator(admission=Bounds(lag=200_000))
    admission = coordinator.supervisor.admission
    gauge = StrainGauge(coordinator.supervisor, LoopLag(), lambda: 0, lambda: None)
    for _ in range(LAGS):
        gauge.look(0.0)
    gauge.look(3.0)
    assert admission.strain.lag == 0.0
    for _ in range(LAGS - 1):
        gauge.look(0.1)
    assert admission.strain.lag == pytest.approx(0.5)
    gauge.look(0.0)
    assert admission.strain.lag == 0.0


async def test_the_gauge_itself_finds_that_the_loop_is_held_up(world: World) -> None:
    coordinator = await world.coordinator(admission=Bounds(lag=50_000))
    gauge = asyncio.create_task(StrainGauge(coordinator.supervisor, None, resident_bytes, lambda: None).run())

    async def strained() -> bool:
        time.sleep(0.3)  # what holds it up  # noqa: ASYNC251
        return coordinator.supervisor.admission.strain.lag >= 1.0

    assert await until(strained)

    async def relieved() -> bool:
        return coordinator.supervisor.admission.strain.lag < 0.5

    assert await until(relieved)
    gauge.cancel()
    await asyncio.wait({gauge})


async def test_what_is_at_rest_is_looked_at_less_often(world: World) -> None:
    coordinator = await world.coordinator(admission=Bounds(lag=200_000, memory=100 * MIB))
    supervisor, faults = coordinator.supervisor, coordinator.stores.faults
    resident = 60 * MIB
    gauge = StrainGauge(supervisor, LoopLag(), lambda: resident, lambda: None)
    assert not gauge.look(0.001)
    faults.hold = asyncio.Event()
    starting = asyncio.create_task(coordinator.start(ONE_STEP))

    async def looked_at_soon() -> bool:
        return gauge.look(0.0)

    assert await until(looked_at_soon), "a commit is under way"
    faults.hold.set()
    await starting
    assert not gauge.look(0.0)
    for _ in range(LAGS - 1):
        gauge.look(0.05)
    assert gauge.look(0.05), "it comes late again and again"
    gauge.look(0.0)
    resident = 100 * MIB
    assert gauge.look(0.0), "it refuses for want of memory"


async def test_a_look_that_fails_ends_the_gauge_and_not_the_measuring(world: World) -> None:
    def resident() -> int:
        raise OSError("no such file")

    coordinator = await world.coordinator(admission=Bounds(memory=100 * MIB))
    measured = LoopLag()
    gauge = asyncio.create_task(StrainGauge(coordinator.supervisor, measured, resident, lambda: None).run())

    async def failed() -> bool:
        measured.look(1.0, 1.0)
        return gauge.done()

    assert await until(failed)
    with pytest.raises(OSError, match="no such file"):
        await gauge


async def test_a_commit_that_takes_long_is_strain_while_it_takes_long(world: World) -> None:
    coordinator = await world.coordinator(admission=Bounds(commit=100_000))
    supervisor, faults = coordinator.supervisor, coordinator.stores.faults
    gauge = StrainGauge(supervisor, LoopLag(), lambda: 0, lambda: None)
    faults.hold = asyncio.Event()
    starting = asyncio.create_task(coordinator.start(ONE_STEP))

    async def strained() -> bool:
        gauge.look(0.0)
        return supervisor.admission.strain.commits >= 1.0

    assert await until(strained)
    faults.hold.set()
    await starting
    gauge.look(0.0)
    assert supervisor.admission.strain.commits == 0.0


async def test_commits_that_wait_for_the_database_are_told_as_such(world: World) -> None:
    coordinator = await world.coordinator()
    supervisor, faults = coordinator.supervisor, coordinator.stores.faults
    gauge = StrainGauge(supervisor, LoopLag(), lambda: 0, lambda: None)
    faults.failures.append(FailBefore())
    told: list[str] = []

    def look(_records: object) -> None:
        gauge.look(0.0)
        told.append(supervisor.admission.away)

    faults.on_attempt = look
    await coordinator.start(ONE_STEP)
    assert told == ["", "commits wait for the database"]
    gauge.look(0.0)
    assert not supervisor.admission.away


async def test_memory_near_its_bound_is_strain_and_what_is_free_is_given_back(world: World) -> None:
    coordinator = await world.coordinator(admission=Bounds(memory=100 * MIB))
    admission = coordinator.supervisor.admission
    trimmed: list[int] = []
    resident = 50 * MIB
    gauge = StrainGauge(coordinator.supervisor, LoopLag(), lambda: resident, lambda: trimmed.append(resident))
    gauge.look(0.0)
    assert admission.strain.memory == 0.0
    resident = 75 * MIB
    gauge.look(0.0)
    assert (admission.strain.memory, trimmed) == (0.5, [])
    resident = 100 * MIB
    for _ in range(LOOKS_PER_TRIM + 1):
        gauge.look(0.0)
    assert admission.strain.memory == 1.0
    assert len(trimmed) == 2, "at once, and then now and then"
    resident = 60 * MIB
    gauge.look(0.0)
    assert admission.strain.memory == pytest.approx(0.2)


def test_the_system_tells_what_the_process_has_and_what_there_is() -> None:
    assert 10 * MIB < resident_bytes() < memory_there_is()

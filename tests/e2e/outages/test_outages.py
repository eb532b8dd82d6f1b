"""PostgreSQL goes away in every way that it can, and comes back: nothing that was accepted is lost, nothing that ran
runs again, and nobody has to be started again.

PENSTOCK_OUTAGE_SECONDS says how long each outage lasts (then there are some more kinds of them); from 60 s on with
leases of 30 s, as they are by default.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import asyncpg
import pytest
from tests.e2e.outages.conftest import ALL, BACK_SECONDS, SECONDS, Load, Whole, entries, whole
from tests.rig.parts import processes_of_server, send, thaw, until
from tests.rig.small_disk import SmallDisk

from penstock.dev.ports import take_port
from penstock.dev.postgres import EmbeddedPostgres, StopMode

pytestmark = pytest.mark.timeout(int(120 + 3 * SECONDS))

MIB = 1 << 20


def last(seconds: float) -> None:
    threading.Event().wait(seconds)


# --- ways to be away


@contextlib.contextmanager
def restarted(system: Whole) -> Iterator[None]:
    system.server.stop()
    yield
    system.server.start()


@contextlib.contextmanager
def crashed(system: Whole) -> Iterator[None]:
    system.server.stop(StopMode.IMMEDIATE)
    yield
    system.server.start()


@contextlib.contextmanager
def killed(system: Whole) -> Iterator[None]:
    pid = system.server.server_pid
    assert pid is not None
    send(pid, signal.SIGKILL)
    system.server.wait()
    yield
    system.server.start()


@contextlib.contextmanager
def frozen(system: Whole) -> Iterator[None]:
    """Connections come about, and nobody answers."""
    pids = processes_of_server(system.server)
    for pid in pids:
        send(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            thaw(pid)


@contextlib.contextmanager
def refused(system: Whole) -> Iterator[None]:
    system.link.refuse()
    yield
    system.link.heal()


@contextlib.contextmanager
def mute(system: Whole) -> Iterator[None]:
    """A black hole."""
    system.link.drop(requests=True, answers=True)
    yield
    system.link.heal()


@contextlib.contextmanager
def deaf(system: Whole) -> Iterator[None]:
    """What is asked arrives, and is done; no answer comes."""
    system.link.drop(requests=False, answers=True)
    yield
    system.link.heal()


@contextlib.contextmanager
def moved(system: Whole) -> Iterator[None]:
    """Behind the same address another one: a new server on the same data."""
    system.server.stop()
    yield
    server = EmbeddedPostgres(
        system.folder / "postgres", port=take_port(0, ""), settings={"superuser_reserved_connections": "0"}
    )
    server.start()
    assert server.port != system.server.port
    system.move(server)


AWAY = [crashed, frozen, deaf, moved]
if ALL:
    AWAY += [restarted, killed, refused, mute]


@pytest.mark.parametrize("way", AWAY, ids=lambda way: way.__name__)
def test_the_database_is_away(system: Whole, way: Callable[[Whole], contextlib.AbstractContextManager[None]]) -> None:
    load = Load(system, way.__name__, SECONDS)
    with way(system):
        began = time.monotonic()
        load.ask_for_a_run()
        until(lambda: system.coordinator.readiness(), BACK_SECONDS, "a coordinator that says that it is not ready")
        load.is_answered()
        _works_on(load)
        last(max(0.0, began + SECONDS - time.monotonic()))
        assert not load.acknowledged, "a run was accepted that cannot have been stored"
    load.goes_on()


def _works_on(load: Load) -> None:
    """A step that began before the outage ends in it: its agent has the result and keeps it."""
    half = load.long[0].id
    until(lambda: entries(load.ledger, "end")[half, "long"], SECONDS + 5.0, "the end of a step in the outage")


# --- ways to be troubled


def reset(system: Whole) -> None:
    system.link.cut()


def answers_lost(system: Whole) -> None:
    """The answer to a commit is lost with its connection: it is asked for on another one, and found or repeated."""
    system.link.cut_at_answer(system.coordinator_id.encode())


def ended(system: Whole) -> None:
    """By the server."""
    asyncio.run(_end_connections(system.server.dsn))


def delayed(system: Whole) -> None:
    system.link.delay = 0.1


TROUBLES = [answers_lost, ended]
if ALL:
    TROUBLES += [reset, delayed]


@pytest.mark.parametrize("trouble", TROUBLES, ids=lambda trouble: trouble.__name__)
def test_connections_break_again_and_again(system: Whole, trouble: Callable[[Whole], None]) -> None:
    load = Load(system, trouble.__name__, SECONDS)
    load.ask_for_a_run()
    before, end = system.link.answers_cut, time.monotonic() + SECONDS
    while time.monotonic() < end:
        trouble(system)
        last(0.05)
    system.link.heal()
    assert trouble is not answers_lost or system.link.answers_cut - before >= SECONDS
    load.goes_on()


ENDED = "select count(pg_terminate_backend(pid)) from pg_stat_activity where application_name like 'penstock%'"


async def _end_connections(dsn: str) -> None:
    connection = await asyncpg.connect(dsn)
    await connection.fetchval(ENDED)
    await connection.close()


def test_others_take_all_connections(system: Whole) -> None:
    load = Load(system, "connections", SECONDS)
    asyncio.run(_crowd_out(system, load))
    load.goes_on()


async def _crowd_out(system: Whole, load: Load) -> None:
    """Take every connection that there is, and those of the coordinator as soon as they are ended."""
    first = await asyncpg.connect(system.server.dsn)
    crowd = [first]
    await _take_rest(system, crowd)
    while await first.fetchval(ENDED):
        await _take_rest(system, crowd)
    end = time.monotonic() + SECONDS
    load.ask_for_a_run()
    await asyncio.to_thread(until, system.coordinator.readiness, BACK_SECONDS, "a coordinator that is not ready")
    await asyncio.sleep(max(0.0, end - time.monotonic()))
    assert not load.acknowledged
    for connection in crowd:
        await connection.close()


async def _take_rest(system: Whole, crowd: list[asyncpg.Connection[asyncpg.Record]]) -> None:
    with contextlib.suppress(asyncpg.TooManyConnectionsError):
        while True:
            crowd.append(await asyncpg.connect(system.server.dsn))


# --- the disk of the database is full


@pytest.fixture
def small(tmp_path: Path) -> Iterator[tuple[Whole, SmallDisk]]:
    settings = {"min_wal_size": "32MB", "max_wal_size": "48MB", "superuser_reserved_connections": "0"}
    with SmallDisk(tmp_path / "disk", 192 * MIB) as disk:
        server = EmbeddedPostgres(disk.folder / "postgres", settings=settings)
        with whole(tmp_path, server) as system:
            yield system, disk


def the_disk_is_full(small: tuple[Whole, SmallDisk]) -> None:
    """PostgreSQL may refuse what it is asked, or end itself because it cannot log: then somebody starts it again."""
    system, disk = small
    load = Load(system, "disk", SECONDS)
    disk.fill()
    until(lambda: system.coordinator.readiness(), 60.0, "a coordinator that says that it is not ready")
    load.ask_for_a_run()
    load.is_answered()
    last(SECONDS)
    assert not load.acknowledged
    disk.free()
    if not system.server.is_running:
        system.server.stop()
        system.server.start()
    load.goes_on()


if os.geteuid() == 0:  # who else may mount a disk?
    test_the_disk_of_the_database_is_full = the_disk_is_full

"""What all parts of a schedule share: the loop, the network, the database, the ledger, the trace; and the seams of the
product where time, chance, processes and sockets come in."""

from __future__ import annotations

import gc
import hashlib
import logging
import random
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, MutableMapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import grpc
import grpc.aio
import structlog
from tests.simulation.shell.loop import VirtualLoop, current_process
from tests.simulation.shell.steps import Ledger, Manners, StepRunner
from tests.simulation.shell.wire import Network, VirtualChannel

from penstock_agent.resources.machine import Machine
from penstock_agent.runtime import agent as agent_module
from penstock_agent.runtime import clock as agent_clock
from penstock_agent.runtime import disk as disk_module
from penstock_agent.runtime import host as agent_host
from penstock_agent.runtime import staging as staging_module
from penstock_agent.runtime import stream as stream_module
from penstock_coordinator import incarnation
from penstock_coordinator.adapters.memory.database import MemoryDatabase
from penstock_coordinator.api import guard as guard_module
from penstock_coordinator.runtime import loop_lag as loop_lag_module

EPOCH = 1_750_000_000_000_000
"""The wall clock at the start of a schedule, in microseconds since 1970."""
BOOTED = 1_000_000_000_000
MILLISECOND, SECOND = 1_000, 1_000_000


class Broken(AssertionError):
    """Something that must always hold does not. The first word names the check."""


@dataclass
class Complaint:
    """What the product itself says went wrong."""

    at: int
    process: str
    logger: str
    event: str
    details: str


@dataclass
class World:
    seed: int
    loop: VirtualLoop
    network: Network
    database: MemoryDatabase
    folder: Path
    lines: list[tuple[Any, ...]] = field(default_factory=list)
    complaints: list[Complaint] = field(default_factory=list)
    faults: Counter[str] = field(default_factory=Counter)
    """By kind, those that were really done."""
    ledger: Ledger = field(default_factory=Ledger)
    manners: Manners = field(default_factory=Manners)
    edge: Callable[[Any, Any], Any] | None = None
    """Makes the servers of the coordinator that is being made."""
    wall_offset: int = 0
    skews: dict[str, float] = field(default_factory=dict)
    """By machine: how much faster its clock goes."""
    _ids: int = 0

    def chance(self, name: str) -> random.Random:
        """A stream of its own, so that what one part draws does not change what another one does."""
        return random.Random(f"{self.seed}:{name}")

    def trace(self, *words: Any) -> None:
        self.lines.append((self.loop.now, *words))

    def digest(self) -> str:
        told = hashlib.blake2b(digest_size=16)
        for line in self.lines:
            told.update(repr(line).encode())
        told.update(f"{self.loop.turns} {self.loop.now}".encode())
        return told.hexdigest()

    def wall(self) -> int:
        return EPOCH + self.loop.now + self.wall_offset

    def monotonic(self) -> int:
        skew = self.skews.get(current_process().name.partition("/")[0], 0.0)
        return BOOTED + self.loop.now + int(self.loop.now * skew)

    def fresh(self, size: int) -> bytes:
        """Bytes that were never given before."""
        self._ids += 1
        return hashlib.blake2b(f"{self.seed}:{self._ids}".encode(), digest_size=size).digest()


class _Clock:
    def __init__(self, world: World) -> None:
        self.now = world.wall
        self.monotonic = world.monotonic


class _Ids:
    def __init__(self, world: World) -> None:
        self._world = world
        self._chance = world.chance("ids")

    def run_id(self) -> bytes:
        milliseconds = self._world.wall() // 1_000
        return milliseconds.to_bytes(6, "big") + b"\x70" + self._world.fresh(9)

    def key(self) -> bytes:
        return self._world.fresh(32)

    def jitter(self) -> float:
        return self._chance.random()


def _edge(world: World) -> Callable[[Any, Any], Any]:
    assert world.edge is not None
    return world.edge


class _Lag:
    """Of a loop that is never late."""

    def start(self) -> None: ...

    def stop(self) -> None: ...

    def take(self) -> int:
        return 0


@contextmanager
def make_world(seed: int, disorder: float) -> Iterator[World]:
    """The whole of it, in a folder of its own. One at a time in a process."""
    chance = random.Random(f"{seed}:loop")
    random.seed(seed)  # what is drawn of the library's own generator, such as the pauses of a reconnect
    loop = VirtualLoop(chance, disorder)  # type: ignore[abstract]  # what is left out would raise at once
    lines: list[tuple[Any, ...]] = []
    network = Network(loop, random.Random(f"{seed}:network"), lambda *words: lines.append((loop.now, *words)))
    shared = Path("/dev/shm")
    collects = gc.isenabled()
    if not gc.get_freeze_count():
        # What was there before the first world need not be looked through again after each.
        gc.collect()
        gc.freeze()
    gc.disable()
    with tempfile.TemporaryDirectory(prefix="penstock-simulation-", dir=shared if shared.is_dir() else None) as folder:
        world = World(seed, loop, network, MemoryDatabase(), Path(folder), lines)
        try:
            with _seams(world), _logs(world), loop.running():
                yield world
        finally:
            if collects:
                gc.enable()


def _look(given: dict[str, float], _devices: tuple[str, ...] | None) -> Machine:
    return Machine({"cpu": 4.0, "memory_bytes": 1e10, **given}, ())


@contextmanager
def _seams(world: World) -> Iterator[None]:
    """Puts the world in the place of the machine, for as long as the context is open."""
    secrets = SimpleNamespace(token_hex=lambda size: world.fresh(size).hex())
    wired = SimpleNamespace(
        insecure_channel=lambda address, options=(): VirtualChannel(world.network, address, current_process()),
        EOF=grpc.aio.EOF,
        AioRpcError=grpc.aio.AioRpcError,
    )
    machine = SimpleNamespace(
        boot_id=lambda: "machine".ljust(36, "-"),
        condition=lambda folder: agent_host.Condition(0.5, 1 << 40, 1 << 41, 1 << 33),
        LoopLag=_Lag,
    )
    places: list[tuple[Any, str, Any]] = [
        (incarnation, "SystemClock", lambda: _Clock(world)),
        (incarnation, "SystemIds", lambda: _Ids(world)),
        (incarnation, "build_server", lambda backend, options: _edge(world)(backend, options)),
        (incarnation, "let_memory_grow", lambda *, collect=True: None),
        (incarnation, "settle_memory", lambda: None),
        (incarnation, "trim_memory", lambda: None),
        (incarnation, "resident_bytes", lambda: 0),
        (incarnation, "memory_there_is", lambda: 1 << 34),
        # Ten times a second is for reality: here nothing is late but by a second or more.
        (loop_lag_module, "EVERY", 2.0),
        (loop_lag_module, "AT_REST", 1),
        (guard_module, "secrets", secrets),
        (agent_module, "secrets", secrets),
        (agent_module, "socket", SimpleNamespace(gethostname=lambda: current_process().name.partition("/")[0])),
        (agent_module, "host", machine),
        (disk_module, "host", machine),
        (agent_module, "machine", SimpleNamespace(look=_look)),
        (agent_module, "WarmExecutor", lambda *given: StepRunner(world, *given)),
        (agent_clock, "now", world.monotonic),
        (staging_module, "os", SimpleNamespace(urandom=world.fresh)),
        (stream_module, "grpc", SimpleNamespace(aio=wired, StatusCode=grpc.StatusCode)),
    ]
    before = [(place, name, getattr(place, name)) for place, name, _ in places]
    for place, name, instead in places:
        setattr(place, name, instead)
    try:
        yield
    finally:
        for place, name, was in before:
            setattr(place, name, was)


class _Listener(logging.Handler):
    def __init__(self, world: World) -> None:
        super().__init__(logging.ERROR)
        self._world = world

    def emit(self, record: logging.LogRecord) -> None:
        details = "" if record.exc_info is None else repr(record.exc_info[1])
        _complain(self._world, record.name, record.getMessage(), details)


def _complain(world: World, logger: str, event: str, details: str) -> None:
    process = current_process()
    if process.alive:
        world.complaints.append(Complaint(world.loop.now, process.name, logger, event, details))
        world.trace("error", process.name, event, details[:200])


@contextmanager
def _logs(world: World) -> Iterator[None]:
    """The processes' own logs become part of the trace: errors as complaints, and nothing is printed."""

    def hear(_: object, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        name = str(event.pop("event", ""))
        if method in ("error", "exception", "critical"):
            _complain(world, "penstock_coordinator", name, _told(event))
        raise structlog.DropEvent

    agents = logging.getLogger("penstock_agent")
    listener, level, propagates = _Listener(world), agents.level, agents.propagate
    kept = structlog.get_config()
    structlog.configure(
        processors=[hear],
        wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING),
        logger_factory=structlog.ReturnLoggerFactory(),
        cache_logger_on_first_use=False,
    )
    agents.addHandler(listener)
    agents.propagate = False
    agents.setLevel(logging.ERROR)
    try:
        yield
    finally:
        structlog.configure(**kept)
        agents.removeHandler(listener)
        agents.propagate = propagates
        agents.setLevel(level)


def _told(event: MutableMapping[str, Any]) -> str:
    error = event.pop("exc_info", None)
    named = ", ".join(f"{name}={value}" for name, value in sorted(event.items()))
    if error is True:
        error = sys.exc_info()[1]
    return f"{named} {error!r}" if error is not None else named

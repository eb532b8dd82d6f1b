"""The processes of a schedule: coordinators and agents as they really are, started, frozen and killed from outside."""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import os
import signal
import traceback
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, TypeAlias

from pydantic import SecretStr
from tests.simulation.shell.loop import Process
from tests.simulation.shell.wire import VirtualServer
from tests.simulation.shell.world import Complaint

from penstock_agent.runtime.agent import Agent
from penstock_agent.runtime.data_folder import DataFolder
from penstock_agent.runtime.stream import IdInUse
from penstock_agent.settings import AgentSettings
from penstock_coordinator import incarnation
from penstock_coordinator.adapters.artifacts.opening import OpenedStore
from penstock_coordinator.adapters.memory.faults import Faults
from penstock_coordinator.adapters.memory.stores import MemoryStores, memory_stores
from penstock_coordinator.api.guard import CallGuard
from penstock_coordinator.api.health import STOPPING, DatabaseProbe, Readiness
from penstock_coordinator.api.server import LAST_CALLS_SECONDS, Backend, EdgeOptions, _add_services
from penstock_coordinator.api.sizes import RequestSizes
from penstock_coordinator.ports import Fenced, Unavailable
from penstock_coordinator.settings import Settings

if TYPE_CHECKING:
    from tests.simulation.shell.world import World

ADDRESS = "coordinator:7400"
NAME = "coordinator-1"
LANES = 2


class _Partitions:
    async def run_once(self, now: int) -> None:
        """Memory has none."""


@dataclasses.dataclass(frozen=True, slots=True)
class SimulatedStores(MemoryStores):
    partitions: _Partitions


def open_stores(world: World, faults: Faults) -> SimulatedStores:
    stores = memory_stores(world.database, coordinator_id=NAME, lanes=LANES, faults=faults)
    named = {each.name: getattr(stores, each.name) for each in dataclasses.fields(stores)}
    return SimulatedStores(**named, partitions=_Partitions())


class Edge:
    """In the place of the coordinator's servers: the same services behind the same guard, on the virtual network."""

    def __init__(self, machine: CoordinatorMachine, backend: Backend, options: EdgeOptions) -> None:
        self._machine = machine
        self.backend = backend
        self.http_address = options.http_listen
        self.server = VirtualServer(machine.world.network, machine.process, CallGuard(RequestSizes(options.limits)))
        _add_services(self.server, backend, options)  # type: ignore[arg-type]  # as far as services use it
        self._probe = DatabaseProbe(lambda: backend.stores.bundles.present([]), backend.readiness, pause=2.0)
        self._probing: asyncio.Task[None] | None = None

    async def start(self) -> None:
        self._probing = asyncio.create_task(self._probe.run())
        self.server.listen(ADDRESS)

    async def stop(self, *steps: Callable[[], Awaitable[object]]) -> None:
        self.backend.readiness.block(STOPPING, "the coordinator is stopping")
        for step in steps:
            await step()
        if self._probing is not None:
            self._probing.cancel()
            await asyncio.gather(self._probing, return_exceptions=True)
        await self.server.stop(LAST_CALLS_SECONDS)


def being_spooled(process: Process) -> bytes:
    """What a thread is about to append."""
    for call in process.calls:
        if isinstance(call, functools.partial) and call.args and getattr(call.args[0], "__name__", "") == "_append":
            return b"".join(call.args[1])
    return b""


class CoordinatorMachine:
    """One coordinator by its name, in one incarnation after the other."""

    def __init__(self, world: World, settings: dict[str, Any]) -> None:
        self.world = world
        self.settings = Settings(
            database_url=SecretStr("postgresql://simulated/penstock"), data_dir=world.folder, lanes=LANES, **settings
        )
        self.process = Process(f"{NAME}/0")
        self.process.alive = False
        self.faults = Faults()
        self.coordinator: incarnation.Coordinator | None = None
        self.incarnations = 0
        self.ends: list[tuple[str, BaseException | None]] = []
        """How the processes ended that ended by themselves."""
        self.left_over: list[str] = []
        self.name = NAME
        self.older: list[Process] = []
        """Those that were taken for dead."""
        self._stop: asyncio.Event | None = None

    @property
    def up(self) -> bool:
        return self.process.alive

    def leave_behind(self) -> None:
        """It counts as dead, and is not."""
        self.older.append(self.process)
        self.process = Process(f"{NAME}/left")
        self.process.alive = False

    def start(self) -> None:
        self.incarnations += 1
        self.process = Process(f"{NAME}/{self.incarnations}")
        self.coordinator = None
        self.world.trace("start", self.process.name)
        self.world.loop.spawn(self.process, self._live(self.process))

    async def _live(self, process: Process) -> None:
        error: BaseException | None = None
        try:
            await self._serve()
        except Exception as raised:
            error = raised
        if process.alive:
            _exit(self, process, error)

    async def _serve(self) -> None:
        self._stop = asyncio.Event()
        readiness = Readiness()
        stores = open_stores(self.world, self.faults)
        epoch = await stores.incarnations.incarnate(NAME, LANES)
        self.world.edge = lambda backend, options: Edge(self, backend, options)
        # The stores have what a coordinator uses of PostgreSQL's.
        make = incarnation.Coordinator
        self.coordinator = make(self.settings, stores, OpenedStore(stores.objects), readiness, NAME, epoch)  # type: ignore[arg-type]
        await self.coordinator.run(self._stop)

    def stop(self) -> None:
        """SIGTERM."""
        if self._stop is not None:
            self.world.loop.within(self.process, self._stop.set)

    def kill(self, *, silent: bool = False) -> None:
        """SIGKILL; `silent`: the machine went with it, and nobody tells its peers."""
        self.world.loop.kill(self.process)
        self.world.network.process_died(self.process, silent=silent)


EXPECTED_ENDS = (Fenced, Unavailable, IdInUse)
"""A newer incarnation has begun; the database is away at the start; the former process is not missed yet."""
Machine: TypeAlias = "CoordinatorMachine | AgentMachine"


class SimulatedAgent(Agent):
    """Without a guardian: `AgentMachine` is one."""

    def _start_guardian(self) -> None: ...

    def _dismiss_guardian(self) -> None: ...


class AgentMachine:
    """One agent by its name and data folder, in one process after the other."""

    def __init__(self, world: World, name: str, slots: int) -> None:
        self.world = world
        self.name = name
        self.slots = slots
        self.boots = 0
        self.gone = False
        """Its machine is no more."""
        self.process = Process(f"{name}/0")
        self.process.alive = False
        self.agent: SimulatedAgent | None = None
        self.ends: list[tuple[str, BaseException | None]] = []
        self.left_over: list[str] = []
        self._folder: DataFolder | None = None

    @property
    def up(self) -> bool:
        return self.process.alive

    def start(self) -> None:
        self.boots += 1
        self.process = Process(f"{self.name}/{self.boots}")
        self.agent = None
        self.world.trace("start", self.process.name)
        self.world.loop.spawn(self.process, self._live(self.process))

    async def _live(self, process: Process) -> None:
        world = self.world
        error: BaseException | None = None
        settings = AgentSettings(
            address=ADDRESS, id=self.name, slots=self.slots, data_dir=world.folder / self.name, disk_floor_bytes=0
        )
        folder = self._folder = DataFolder(settings.data_dir)
        try:
            self.agent = SimulatedAgent(settings, folder)
            await self.agent.run()
        except Exception as raised:
            error = raised
        if not process.alive:
            return
        folder.close()
        self._folder = None
        _exit(self, process, error)

    def drain(self) -> None:
        """SIGTERM."""
        self.world.loop.signal(self.process, signal.SIGTERM)

    def kill(self, *, silent: bool = False, torn: int | None = None) -> None:
        """SIGKILL. `torn`: so many bytes of what was being written to the spool got there."""
        loop, agent = self.world.loop, self.agent
        loop.kill(self.process)
        self.world.network.process_died(self.process, silent=silent)
        if agent is not None:
            if torn is not None:
                self._tear(agent, torn)
            agent._spool.close()
            agent._executor.die()  # type: ignore[attr-defined]  # it is a StepRunner
        if self._folder is not None:
            os.close(self._folder._lock)
            self._folder = None

    def _tear(self, agent: SimulatedAgent, torn: int) -> None:
        """The kill came in the middle of a write."""
        begun = being_spooled(self.process)[:torn]
        if begun:
            self.world.trace("torn", self.name, len(begun))
            os.pwrite(agent._spool._fd, begun, os.fstat(agent._spool._fd).st_size)


def _exit(machine: Machine, process: Process, error: BaseException | None) -> None:
    """The end of `asyncio.run`."""
    world = machine.world
    machine.ends.append((process.name, error))
    if error is not None and not isinstance(error, EXPECTED_ENDS):
        place = traceback.extract_tb(error.__traceback__)[-1]
        details = f"{error!r} in {place.filename.rpartition('/')[2]}:{place.lineno}"
        world.complaints.append(Complaint(world.loop.now, process.name, "", "ended", details))
    world.trace("exit", process.name, type(error).__name__)
    left = [task for task in process.open_tasks() if task is not asyncio.current_task()]
    machine.left_over = [repr(task.get_coro()) for task in left]
    world.network.process_died(process, silent=False)
    world.loop.kill(process)

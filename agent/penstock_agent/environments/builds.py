"""Environments as attempts ask for them: each is built once, whoever asks, and few are built at a time."""

from __future__ import annotations

import asyncio
import hashlib
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from penstock_agent.environments.order import Built, EnvironmentFailed, PythonOrder
from penstock_agent.environments.shelf import Lock, Shelf
from penstock_agent.environments.uv import Uv, own_interpreter
from penstock_agent.own_log import OwnLog

log = OwnLog(__name__)

LOOK_AGAIN = 0.2
"""Seconds until an environment that another agent builds is looked at again."""
LET_GO_EVERY = 30.0
"""Seconds between two looks for environments that nobody here uses any more."""
LONGEST_ANNOUNCEMENT = 1_000
MOST_LINES = 1_000
"""Of what a build prints."""


@dataclass(frozen=True, slots=True)
class BuildLimits:
    at_once: int
    timeout: float
    """Seconds."""
    most: int
    most_bytes: int


Told: TypeAlias = Callable[[list[str]], None]


class _Build:
    """One that is under way, and who hears what it prints."""

    def __init__(self) -> None:
        self.task: asyncio.Task[Built] | None = None
        self.listeners: dict[object, Told] = {}
        self._lines: list[str] = []

    def listen(self, who: object, told: Told) -> None:
        """From the first line on."""
        self.listeners[who] = told
        if self._lines:
            told(list(self._lines))

    def tell(self, lines: list[str]) -> None:
        room = MOST_LINES - len(self._lines)
        if room <= 0:
            return
        lines = lines if len(lines) <= room else [*lines[: room - 1], "... and more"]
        self._lines += lines
        for told in list(self.listeners.values()):
            told(lines)


class Environments:
    """`in_use` names the environments that attempts and processes of this agent need."""

    def __init__(self, shelf: Shelf, uv: Uv, limits: BuildLimits, in_use: Callable[[], set[str]]) -> None:
        self._shelf = shelf
        self._uv = uv
        self._limits = limits
        self._in_use = in_use
        self.builds = {"ok": 0, "failed": 0}
        """How many there were, by how they ended; those that nobody waited for any more are neither."""
        self._held: dict[str, tuple[Built, Lock]] = {}
        """By name: those that are not removed by any agent."""
        self._builds: dict[str, _Build] = {}
        self._tasks: set[asyncio.Task[Built]] = set()
        self._places = asyncio.Semaphore(limits.at_once)
        self._timer: asyncio.TimerHandle | None = None
        self._shrinking: asyncio.Task[None] | None = None

    async def start(self) -> None:
        await asyncio.to_thread(self._shelf.sweep)

    def find(self, name: str) -> Built | None:
        """If it is here, and held already."""
        held = self._held.get(name)
        return None if held is None else held[0]

    async def get(self, order: PythonOrder, who: object, told: Told) -> Built:
        """Builds it if it is not here. A build that nobody waits for any more ends. Raises `EnvironmentFailed`."""
        build = self._builds.get(order.name) or self._begin(order)
        task = build.task
        assert task is not None
        build.listen(who, told)
        try:
            return await asyncio.shield(task)
        finally:
            del build.listeners[who]
            if not build.listeners and not task.done():
                # Who comes from now on begins anew.
                self._forget(order.name, build)
                task.cancel()

    async def close(self) -> None:
        """Builds end."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        if self._shrinking is not None:
            await asyncio.wait({self._shrinking})
        if self._timer is not None:
            self._timer.cancel()
        for _, lock in self._held.values():
            lock.release()
        self._held.clear()

    # --- getting one

    def _begin(self, order: PythonOrder) -> _Build:
        build = self._builds[order.name] = _Build()
        build.task = asyncio.get_running_loop().create_task(self._obtain(order, build))
        self._tasks.add(build.task)
        build.task.add_done_callback(lambda task: self._ended(order.name, build, task))
        return build

    def _ended(self, name: str, build: _Build, task: asyncio.Task[Built]) -> None:
        self._tasks.discard(task)
        self._forget(name, build)
        if not task.cancelled():
            task.exception()  # those who waited were told; there may be none left

    def _forget(self, name: str, build: _Build) -> None:
        if self._builds.get(name) is build:
            del self._builds[name]

    async def _obtain(self, order: PythonOrder, build: _Build) -> Built:
        if not order.is_well_named:
            raise EnvironmentFailed(f"{order.name!r} is no name of an environment")
        key = _key(order)
        try:
            while True:
                built = self._take(order.name, key)
                if built is not None:
                    return built
                # The lock of who builds is not turned into that of who uses: another agent may come in between.
                async with self._places:
                    await self._build(order, key, build)
        except (OSError, ValueError) as error:
            raise EnvironmentFailed(f"it cannot be kept in {self._shelf.folder}: {error}") from error

    def _take(self, name: str, key: str) -> Built | None:
        """It, if it is here: from now on no agent removes it."""
        lock = self._shelf.lock(key, alone=False)
        if lock is None:
            return None
        built = self._shelf.find(key)
        if built is None:
            lock.release()
        else:
            self._keep(name, built, lock)
        return built

    async def _build(self, order: PythonOrder, key: str, build: _Build) -> None:
        """Unless another agent does: somebody has built it then."""
        lock = await self._lock_alone(key)
        if lock is None:
            return
        try:
            if self._shelf.find(key) is None:
                log.info("environment_begun", environment=key)
                build.tell([_announced(order)])
                began = time.monotonic()
                await self._build_locked(order, key, build)
                self.builds["ok"] += 1
                build.tell([f"the environment is ready after {time.monotonic() - began:.1f} s"])
        except BaseException as error:
            self.builds["failed"] += isinstance(error, Exception)
            log.warning("environment_not_built", environment=key, reason=str(error) or type(error).__name__)
            await asyncio.shield(asyncio.to_thread(self._shelf.discard, key))
            raise
        finally:
            lock.release()

    async def _build_locked(self, order: PythonOrder, key: str, build: _Build) -> None:
        home = await asyncio.to_thread(self._shelf.new_home, key)
        try:
            async with asyncio.timeout(self._limits.timeout):
                await self._uv.build(order, home, build.tell)
        except TimeoutError:
            raise self._took_too_long("it took longer than") from None
        await asyncio.to_thread(self._shelf.finish, key, home)

    async def _lock_alone(self, key: str) -> Lock | None:
        """None: another agent has built it meanwhile, and may use it already."""
        try:
            async with asyncio.timeout(self._limits.timeout):
                while (lock := self._shelf.lock(key, alone=True)) is None:
                    if self._is_built(key):
                        return None
                    await asyncio.sleep(LOOK_AGAIN)
                return lock
        except TimeoutError:
            raise self._took_too_long("another agent of this machine has it in its hands for longer than") from None

    def _is_built(self, key: str) -> bool:
        lock = self._shelf.lock(key, alone=False)
        if lock is None:
            return False
        lock.release()
        return self._shelf.find(key) is not None

    def _took_too_long(self, what: str) -> EnvironmentFailed:
        name = "PENSTOCK_AGENT_ENVIRONMENTS_BUILD_TIMEOUT"
        return EnvironmentFailed(f"{what} {self._limits.timeout:g} s ({name})")

    def _keep(self, name: str, built: Built, lock: Lock) -> None:
        self._release_unused()
        self._held[name] = (built, lock)
        self._shrink()
        self._let_go_later()

    # --- giving them up

    def _let_go_later(self) -> None:
        if self._timer is None and self._held:
            self._timer = asyncio.get_running_loop().call_later(LET_GO_EVERY, self._let_go)

    def _let_go(self) -> None:
        self._timer = None
        self._release_unused()
        self._shrink()
        self._let_go_later()

    def _release_unused(self) -> None:
        for name in self._held.keys() - self._in_use():
            self._held.pop(name)[1].release()

    def _shrink(self) -> None:
        """One at a time; who comes meanwhile is looked at by the next."""
        if self._shrinking is None or self._shrinking.done():
            self._shrinking = asyncio.get_running_loop().create_task(self._shrink_shelf())

    async def _shrink_shelf(self) -> None:
        limits = self._limits
        try:
            gone = await asyncio.to_thread(self._shelf.shrink, limits.most, limits.most_bytes)
        except OSError as error:
            log.warning("environments_not_removed", reason=str(error))
        else:
            if gone:
                log.info("environments_removed", environments=gone, reason="to make room")


def _announced(order: PythonOrder) -> str:
    of = "a lock file" if order.lock else ", ".join(order.requirements) or "nothing but Python"
    return f"building the environment of this step: {of}"[:LONGEST_ANNOUNCEMENT]


def _key(order: PythonOrder) -> str:
    """An environment is of one interpreter: with another one of the agent it is another one, too."""
    said = f"{order.name} {sys.version} {own_interpreter()}"
    return hashlib.sha256(said.encode()).hexdigest()[:40]

"""Attempts whose environment is not here yet: they wait for its build, hear what it prints, and fail with it.

Waiting is no part of the attempt: its timeout does not run, its lease is renewed, and it can be called back.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from penstock_agent.core.leases import Handle, Lease, LeaseKey
from penstock_agent.environments.builds import Environments
from penstock_agent.environments.order import OLDEST_FOR_FUNCTIONS, Built, EnvironmentFailed, PythonOrder
from penstock_agent.runtime.logs import LogRelay
from penstock_agent.runtime.wire import Work

NOTE = "its environment is being built"


@dataclass(slots=True, eq=False)
class _Wait:
    lease: Lease
    task: asyncio.Task[None]


class EnvironmentWaits:
    """`ready` takes a lease whose environment is here, `failed` one that cannot have it, and why."""

    def __init__(
        self,
        environments: Environments,
        logs: LogRelay,
        ready: Callable[[Lease], None],
        failed: Callable[[Lease, str], None],
    ) -> None:
        self._environments = environments
        self._logs = logs
        self._ready = ready
        self._failed = failed
        self._waits: dict[Handle, _Wait] = {}
        self._said: dict[Handle, list[str]] = {}
        """What builds have printed, by attempt that has not begun."""

    def is_here(self, lease: Lease, work: Work, order: PythonOrder) -> bool:
        """Else it is waited for, or the attempt has failed."""
        built = self._environments.find(order.name)
        if built is None:
            task = asyncio.get_running_loop().create_task(self._wait(lease, work, order))
            self._waits[lease.handle] = _Wait(lease, task)
            return False
        fault = _fault(built, work)
        if fault:
            self._failed(lease, fault)
        return not fault

    def home(self, work: Work) -> str:
        """Of an environment that is here; empty: the agent's own."""
        order = work.kind.environment
        built = None if order is None else self._environments.find(order.name)
        return "" if built is None else built.home

    def printed(self, handle: Handle) -> list[str]:
        """By the build that the attempt has waited for; for one that is about to begin."""
        return self._said.pop(handle, [])

    def leave(self, handle: Handle) -> bool:
        """Whether the attempt waited here, and does no more."""
        self._said.pop(handle, None)
        wait = self._waits.pop(handle, None)
        if wait is not None:
            wait.task.cancel()
        return wait is not None

    def notes(self) -> dict[tuple[LeaseKey, int], str]:
        """What those who wait are told, by lease."""
        return {(wait.lease.key, wait.lease.token): NOTE for wait in self._waits.values()}

    def close(self) -> None:
        for wait in self._waits.values():
            wait.task.cancel()

    async def _wait(self, lease: Lease, work: Work, order: PythonOrder) -> None:
        handle = lease.handle
        said: list[str] = []
        try:
            await self._environments.get(order, handle, said.extend)
        except EnvironmentFailed as error:
            del self._waits[handle]
            self._logs.introduce(handle, work.ref, lease.attempt, said)
            self._logs.begun(handle)
            self._logs.attempt_ended(handle)
            self._failed(lease, f"the environment cannot be built: {error}")
        else:
            del self._waits[handle]
            if said:
                self._said[handle] = said
            self._ready(lease)


def _fault(built: Built, work: Work) -> str:
    """Why the environment is none for this step."""
    if work.kind.kind.command or built.version[:2] >= OLDEST_FOR_FUNCTIONS:
        return ""
    found, oldest = (".".join(map(str, version)) for version in (built.version, OLDEST_FOR_FUNCTIONS))
    return f"the environment has Python {found}, and a step that is a function needs {oldest} or newer"

"""The services of the compose file, started as it says, without Docker."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from contextlib import AsyncExitStack
from functools import partial
from graphlib import TopologicalSorter
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.e2e.compose_without_docker.definition import ROOT, Service
from tests.e2e.compose_without_docker.image import read_image
from tests.e2e.compose_without_docker.places import Places
from tests.e2e.compose_without_docker.processes import Failed, Running, run_to_its_end, running
from tests.e2e.compose_without_docker.stand_ins import NOT_STARTED, Healthy, stand_in
from tests.waiting import until

BIN = Path(sys.executable).parent
PATIENCE = 180.0
PASSED_ON = ("LANG", "PYTHONPATH", "PYTHONDONTWRITEBYTECODE")
"""Where our own code is, if it is not installed; nothing that a container would not have either."""


class System:
    """Up in the `async with` block. What is in a profile is started by `run_once`."""

    def __init__(self, services: dict[str, Service], folder: Path, say: Callable[[str], None]) -> None:
        self.services = services
        self.places = Places(folder, services)
        self._say = say
        self._stack = AsyncExitStack()
        self._health: dict[str, Healthy] = {}
        self._completed: set[str] = set()

    async def __aenter__(self) -> Self:
        try:
            for name in self._in_their_order():
                await self._come_to(self.services[name])
            for name in self._health:
                await self._become_healthy(name)
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.__aexit__(kind, error, trace)

    async def run_once(self, name: str) -> str:
        """What it printed. Raises `Failed` if it did not end well."""
        service = self.services[name]
        self.places.mount(service)
        return await run_to_its_end(name, self._command(service), self._environment(service), self.places.folder)

    def _in_their_order(self) -> list[str]:
        order = TopologicalSorter({name: list(each.depends_on) for name, each in self.services.items()}).static_order()
        return [name for name in order if not self.services[name].profiles]

    async def _come_to(self, service: Service) -> None:
        """Waits for what it depends on, then starts it."""
        if reason := NOT_STARTED.get(service.name):
            self._say(f"{service.name}: not started: {reason}")
            self._completed.add(service.name)
            return
        for other, condition in service.depends_on.items():
            if condition == "service_healthy":
                await self._become_healthy(other)
            elif condition == "service_completed_successfully" and other not in self._completed:
                raise Failed(f"{service.name} waits for the end of {other}, which does not end")
        await self._start(service)
        self._say(f"{service.name}: started")

    async def _start(self, service: Service) -> None:
        if not service.dockerfile:
            self._health[service.name] = await self._stack.enter_async_context(stand_in(service)(service, self.places))
        elif service.raw["restart"] == "no":
            await self.run_once(service.name)
            self._completed.add(service.name)
        else:
            self.places.mount(service)
            command, environment = self._command(service), self._environment(service)
            process = running(service.name, command, environment, self.places.folder)
            started = await self._stack.enter_async_context(process)
            self._health[service.name] = partial(self._is_healthy, service, started)

    async def _become_healthy(self, name: str) -> None:
        await until(self._health[name], PATIENCE)

    async def _is_healthy(self, service: Service, process: Running) -> bool:
        """By the image's own check. Raises `Failed` if the process has ended."""
        process.check()
        image = read_image(ROOT / service.dockerfile)
        check = [self.places.translate(service, word, image.copied) for word in image.healthcheck]
        try:
            await run_to_its_end(f"{service.name}-health", check, self._environment(service), self.places.folder)
        except Failed:
            return False
        return True

    def _command(self, service: Service) -> list[str]:
        """Without the first process of the container, which there is none of here."""
        image = read_image(ROOT / service.dockerfile)
        words = (service.entrypoint or image.entrypoint) + (service.command or image.command)
        if words[:2] == ["tini", "--"]:
            words = words[2:]
        return [self.places.translate(service, word) for word in words]

    def _environment(self, service: Service) -> dict[str, str]:
        image = read_image(ROOT / service.dockerfile)
        given = {**image.environment, **service.environment}
        translated = {name: self.places.translate(service, value) for name, value in given.items()}
        ours = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
        home = self.places.volume(f"home-of-{service.name}")
        return {**ours, **translated, "PATH": f"{BIN}:{os.environ['PATH']}", "HOME": str(home)}

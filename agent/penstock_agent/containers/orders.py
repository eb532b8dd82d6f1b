"""What this agent asks its engine for: the options of containers, and the removal of those that were left behind."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from penstock_agent.containers.engine import (
    AUTO,
    BOOT_LABEL,
    FOLDER_LABEL,
    NONE,
    PODMAN,
    Engine,
    NoEngine,
    find,
    remove_labelled,
)
from penstock_agent.executors.channel import ContainerWork
from penstock_agent.own_log import OwnLog

log = OwnLog(__name__)

CONTAINER = "container"
"""The kind of environment that steps with an image name."""


@dataclass(frozen=True, slots=True)
class Image:
    """What a step names."""

    name: str
    pull: str
    """missing, always or never."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a container is held to; 0: nothing."""

    memory_bytes: int = 0
    cpu: float = 0.0
    devices: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Containers:
    """Of one agent. `engine` None: it has none, and `why` says so."""

    engine: Engine | None
    why: str
    folder: Path = Path()

    @property
    def program(self) -> str:
        return "" if self.engine is None else self.engine.program


NO_CONTAINERS = Containers(None, "it was started without")


class ContainerOrders:
    """Of one start of an agent."""

    def __init__(self, containers: Containers, boot_id: str) -> None:
        self._engine = containers.engine
        self.why = containers.why
        self._labels = {FOLDER_LABEL: str(containers.folder), BOOT_LABEL: boot_id}

    def work(
        self, image: Image, bounds: Bounds, env: Mapping[str, str] | None = None, bundle_dir: str = ""
    ) -> ContainerWork | None:
        """`env`, `bundle_dir`: of functions. None: there is no engine."""
        engine = self._engine
        if engine is None:
            return None
        return ContainerWork(
            program=engine.program,
            image=image.name,
            pull=image.pull,
            options=[*_always(self._labels), *_user(engine), *_limits(engine, bounds)],
            env=dict(env or {}),
            bundle_dir=bundle_dir,
            memory_bytes=bounds.memory_bytes if engine.limits_memory else 0,
        )


def look(wanted: str, folder: Path) -> Containers:
    """The engine that is there, without what an agent that was killed left in it. Blocks. Raises `NoEngine` if one is
    named and does not answer."""
    try:
        engine = find(wanted)
        if "," in str(folder) or '"' in str(folder):
            raise NoEngine(f"folders with a comma or a quotation mark cannot be mounted: {folder}")
    except NoEngine as error:
        if wanted not in (AUTO, NONE):
            raise NoEngine(f"PENSTOCK_CONTAINER_ENGINE is {wanted}, but {error}") from None
        return Containers(None, str(error), folder)
    log.info("container_engine_found", engine=str(engine))
    try:
        left = remove_labelled(engine.program, FOLDER_LABEL, str(folder))
    except NoEngine as error:
        log.warning("containers_not_removed", reason=str(error))
    else:
        if left:
            log.warning("containers_removed", count=left, reason="a former start left them behind")
    return Containers(engine, "", folder)


async def look_in_background(wanted: str, folder: Path) -> Containers:
    """As `look`."""
    return await asyncio.to_thread(look, wanted, folder)


def _always(labels: Mapping[str, str]) -> list[str]:
    """Whoever removes a container does not wait for it, and what it prints is kept by nobody but the agent."""
    options = ["--log-driver", "none", "--stop-timeout", "0", "--security-opt", "no-new-privileges"]
    # Folders keep their labels where SELinux is in force; elsewhere it says nothing.
    options += ["--security-opt", "label=disable"]
    for name, value in labels.items():
        options += ["--label", f"{name}={value}"]
    return options


def _user(engine: Engine) -> list[str]:
    """What the attempt writes belongs to the agent's user, whichever user the image names."""
    own = f"{os.getuid()}:{os.getgid()}"
    options = ["--init"] if engine.init else []
    if not engine.rootless:
        return [*options, "--user", own]
    if engine.kind == PODMAN:
        return [*options, "--userns", "keep-id", "--user", own]
    return [*options, "--user", "0:0"]


def _limits(engine: Engine, bounds: Bounds) -> list[str]:
    options: list[str] = []
    if bounds.memory_bytes and engine.limits_memory:
        # With as much of memory and swap together: none of swap.
        options += ["--memory", str(bounds.memory_bytes), "--memory-swap", str(bounds.memory_bytes)]
    if bounds.cpu and engine.limits_cpu:
        options += ["--cpus", f"{bounds.cpu:.3f}".rstrip("0").rstrip(".")]
    return options + _devices(engine, bounds.devices)


def _devices(engine: Engine, devices: Sequence[str]) -> list[str]:
    if not devices:
        return []
    if engine.kind == PODMAN:
        return [part for device in devices for part in ("--device", f"nvidia.com/gpu={device}")]
    return ["--gpus", f'"device={",".join(devices)}"']

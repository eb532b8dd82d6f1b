"""Which container engine this agent has: a program on its PATH that answers, and what it can do."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

AUTO, DOCKER, PODMAN, NONE = "auto", "docker", "podman", "none"
ANSWER_SECONDS = 20.0
FOLDER_LABEL, BOOT_LABEL, WORKER_LABEL = "penstock.folder", "penstock.boot", "penstock.worker"
"""Of every container: the data folder of its agent, the start of that agent, the worker that runs it."""
_SAID = 400
_INIT_PATHS = ("/usr/libexec/podman/catatonit", "/usr/local/libexec/podman/catatonit", "/usr/lib/podman/catatonit")


class NoEngine(Exception):
    """Why there is none, for people."""


@dataclass(frozen=True, slots=True)
class Engine:
    kind: str
    """docker or podman: they differ in a few options."""
    program: str
    version: str
    limits_memory: bool
    limits_cpu: bool
    rootless: bool
    init: bool
    """It can put a small first process into a container, which passes signals on."""

    def __str__(self) -> str:
        return f"{self.kind} {self.version} ({self.program})"


def find(wanted: str, env: Mapping[str, str] | None = None) -> Engine:
    """The one that is named, or with `auto` the first of docker and podman that answers. Blocks for some 100 ms where
    there is one. Raises `NoEngine`."""
    if wanted == NONE:
        raise NoEngine("PENSTOCK_CONTAINER_ENGINE is none")
    env = os.environ if env is None else env
    reasons: list[str] = []
    for kind in (DOCKER, PODMAN) if wanted == AUTO else (wanted,):
        program = shutil.which(kind, path=env.get("PATH"))
        if program is None:
            reasons.append(f"no {kind} is on its PATH")
            continue
        try:
            return _ask(kind, program)
        except NoEngine as error:
            reasons.append(str(error))
    raise NoEngine("; ".join(reasons))


def _ask(kind: str, program: str) -> Engine:
    """`version` first: it fails at once where nobody answers."""
    answer(program, "version")
    try:
        said = json.loads(answer(program, "info", "--format", "{{json .}}"))
    except ValueError as error:
        raise NoEngine(f"{program} info says no JSON: {error}") from None
    try:
        return _docker(program, said) if kind == DOCKER else _podman(program, said)
    except (KeyError, TypeError, AttributeError) as error:
        raise NoEngine(f"{program} info is not understood: {error!r}") from None


def _docker(program: str, said: dict[str, Any]) -> Engine:
    if not said.get("ServerVersion"):
        raise NoEngine(f"{program} reaches no server: {'; '.join(said.get('ServerErrors') or ['it says nothing'])}")
    return Engine(
        kind=DOCKER,
        program=program,
        version=str(said["ServerVersion"]),
        limits_memory=bool(said.get("MemoryLimit")),
        limits_cpu=bool(said.get("CpuCfsQuota")),
        rootless=any("rootless" in option for option in said.get("SecurityOptions") or ()),
        init=True,
    )


def _podman(program: str, said: dict[str, Any]) -> Engine:
    host = said["host"]
    controllers: Iterable[str] = host.get("cgroupControllers") or ()
    return Engine(
        kind=PODMAN,
        program=program,
        version=str(said["version"]["Version"]),
        limits_memory="memory" in controllers,
        limits_cpu="cpu" in controllers,
        rootless=bool(host["security"]["rootless"]),
        init=any(os.access(path, os.X_OK) for path in _INIT_PATHS) or shutil.which("catatonit") is not None,
    )


def answer(program: str, *arguments: str, seconds: float = ANSWER_SECONDS) -> str:
    """What it prints. Raises `NoEngine` with its last words."""
    command = f"{program} {arguments[0]}"
    try:
        done = subprocess.run(
            [program, *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=seconds,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise NoEngine(f"{command} did not answer within {seconds:g} s") from None
    except OSError as error:
        raise NoEngine(f"{command} cannot be run: {error.strerror}") from None
    if done.returncode != 0:
        said = done.stderr.decode(errors="replace").strip().splitlines()
        raise NoEngine(f"{command} failed: {said[-1][:_SAID] if said else f'exit code {done.returncode}'}")
    return done.stdout.decode(errors="replace")


def remove_labelled(program: str, label: str, value: str) -> int:
    """Kill and remove all containers with that label: so many. Blocks. Raises `NoEngine`."""
    found = answer(program, "ps", "--all", "--quiet", "--no-trunc", "--filter", f"label={label}={value}").split()
    if found:
        answer(program, "rm", "--force", "--volumes", *found, seconds=3 * ANSWER_SECONDS)
    return len(found)

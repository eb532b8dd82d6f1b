"""Which engine an agent finds, and what it asks it for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from penstock_agent.containers.engine import Engine, NoEngine, find
from penstock_agent.containers.orders import Bounds, ContainerOrders, Containers, Image

PODMAN_SAYS = {
    "host": {"cgroupControllers": ["cpu", "memory"], "security": {"rootless": False}},
    "version": {"Version": "5.0.1"},
}
DOCKER_SAYS = {
    "ServerVersion": "28.0.0",
    "MemoryLimit": True,
    "CpuCfsQuota": True,
    "SecurityOptions": ["name=rootless"],
}


def program(folder: Path, name: str, info: dict[str, Any] | None, version: int = 0, says: str = "") -> None:
    folder.mkdir(exist_ok=True)
    answer = json.dumps(info)
    script = f"case $1 in version) echo '{says}' >&2; exit {version};; info) echo '{answer}';; *) exit 1;; esac"
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def test_the_first_that_answers_is_taken(tmp_path: Path) -> None:
    env = {"PATH": str(tmp_path / "bin")}
    with pytest.raises(NoEngine, match="no docker is on its PATH; no podman is on its PATH"):
        find("auto", env)
    program(tmp_path / "bin", "docker", None, version=1, says="Cannot connect to the daemon")
    program(tmp_path / "bin", "podman", PODMAN_SAYS)
    found = find("auto", env)
    assert (found.kind, found.version, found.limits_memory, found.rootless) == ("podman", "5.0.1", True, False)
    with pytest.raises(NoEngine, match=r"docker version failed: Cannot connect to the daemon"):
        find("docker", env)
    with pytest.raises(NoEngine, match="is none"):
        find("none", env)
    program(tmp_path / "bin", "docker", DOCKER_SAYS)
    assert (find("auto", env).kind, find("auto", env).rootless) == ("docker", True)


@pytest.mark.parametrize("said", [{}, {"host": None}, {"ServerErrors": ["no server"]}])
def test_an_engine_that_speaks_otherwise_is_none(tmp_path: Path, said: dict[str, Any]) -> None:
    for name in ("docker", "podman"):
        program(tmp_path / "bin", name, said)
        with pytest.raises(NoEngine):
            find(name, {"PATH": str(tmp_path / "bin")})


def options(kind: str, *, rootless: bool = False, limits: bool = True, bounds: Bounds) -> str:
    engine = Engine(kind, f"/usr/bin/{kind}", "1", limits, limits, rootless, init=True)
    work = ContainerOrders(Containers(engine, "", Path("/data")), "b" * 32).work(Image("a", "missing"), bounds)
    assert work is not None
    return " ".join(work.options)


def test_limits_and_devices_are_said_as_each_engine_knows_them() -> None:
    bounds = Bounds(memory_bytes=1 << 20, cpu=1.5, devices=("0", "3"))
    docker, podman = options("docker", bounds=bounds), options("podman", bounds=bounds)
    for each in (docker, podman):
        assert "--memory 1048576 --memory-swap 1048576 --cpus 1.5" in each
        assert "--label penstock.folder=/data" in each
    assert '--gpus "device=0,3"' in docker
    assert "--device nvidia.com/gpu=0 --device nvidia.com/gpu=3" in podman
    assert "--memory" not in options("podman", limits=False, bounds=bounds)


def test_what_is_written_belongs_to_the_agents_user() -> None:
    assert "--userns keep-id --user" in options("podman", rootless=True, bounds=Bounds())
    assert "--user 0:0" in options("docker", rootless=True, bounds=Bounds())

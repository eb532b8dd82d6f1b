"""What docker-compose.yml says, as docker-compose itself reads it: interpolated, merged, anchors followed."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from tests.debian import docker_compose

ROOT = Path(__file__).parents[3]
FILE = ROOT / "docker-compose.yml"
PATIENCE = 120.0


class Refused(Exception):
    """What docker-compose says is wrong with the file."""


@dataclass(frozen=True)
class Mount:
    source: str
    """A path of this machine, or the name of a volume."""
    target: str

    @property
    def is_volume(self) -> bool:
        return not self.source.startswith("/")


@dataclass(frozen=True)
class Service:
    name: str
    image: str
    dockerfile: str
    """Relative to the checkout; empty: the image is pulled."""
    entrypoint: list[str]
    command: list[str]
    environment: dict[str, str]
    mounts: list[Mount]
    depends_on: dict[str, str]
    """The condition by the name of the other service."""
    published: list[str]
    profiles: list[str]
    healthcheck: list[str]
    raw: Mapping[str, Any]


def read_definition(variables: Mapping[str, str]) -> dict[str, Service]:
    """Every service by its name, those of profiles too, with the variables that .env would hold. Raises `Refused`."""
    found = yaml.safe_load(rendered(variables))["services"]
    return {name: _service(name, each) for name, each in found.items()}


def rendered(variables: Mapping[str, str]) -> str:
    """What `docker-compose config` prints. Raises `Refused`."""
    command, needed = docker_compose()
    with tempfile.NamedTemporaryFile("w", suffix=".env") as none:  # One that is beside the file is not looked at.
        ended = subprocess.run(
            [*command, "--env-file", none.name, "-f", str(FILE), "--profile", "seed", "config"],
            env={"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/"), **needed, **variables},
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
    if ended.returncode:
        raise Refused(ended.stderr.strip())
    return ended.stdout


def read_variables(text: str) -> dict[str, str]:
    """Of a file as .env is one."""
    lines = (line.strip() for line in text.splitlines())
    pairs = (line.partition("=") for line in lines if line and not line.startswith("#"))
    return {name: value for name, _, value in pairs}


def _service(name: str, given: Mapping[str, Any]) -> Service:
    return Service(
        name=name,
        image=given["image"],
        dockerfile=given.get("build", {}).get("dockerfile", ""),
        entrypoint=_plain(given.get("entrypoint", [])),
        command=_plain(given.get("command", [])),
        environment={variable: _escaped(value or "") for variable, value in given.get("environment", {}).items()},
        mounts=[_mount(each) for each in given.get("volumes", [])],
        depends_on={other: how["condition"] for other, how in given.get("depends_on", {}).items()},
        published=[str(each) for each in given.get("ports", [])],
        profiles=given.get("profiles", []),
        healthcheck=_plain(given.get("healthcheck", {}).get("test", [])),
        raw=given,
    )


def _mount(given: str) -> Mount:
    source, target = given.split(":")[:2]
    return Mount(source, target)


def _plain(words: Sequence[Any]) -> list[str]:
    return [_escaped(str(word)) for word in words]


def _escaped(text: str) -> str:
    """docker-compose prints a dollar sign as it must be written in the file."""
    return text.replace("$$", "$")

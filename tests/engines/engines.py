"""The container engines that tests run: Podman itself where this machine has it, and everywhere a program that speaks
its command line and makes plain processes of containers."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.engines import podman

IMAGE, BARE_IMAGE = podman.IMAGE, podman.BARE_IMAGE
PULLED_IMAGE = "localhost/penstock-pulled:1"
"""Of the stand-in: it is not there until it is pulled."""
MISSING_IMAGE = "localhost:1/penstock-missing:1"
"""No registry answers there."""
KINDS = ("stand-in", "podman") if podman.is_here() else ("stand-in",)
_STAND_IN = Path(__file__).with_name("stand_in.py")


@dataclass(frozen=True)
class Engine:
    kind: str
    folder: Path

    @property
    def is_real(self) -> bool:
        return self.kind == "podman"

    @property
    def prefix(self) -> tuple[str, ...]:
        """What an agent is to be started with."""
        return podman.prefix() if self.is_real else ()

    @property
    def env(self) -> dict[str, str]:
        if self.is_real:
            return podman.variables(self.folder)
        return {
            "PATH": f"{self.folder / 'bin'}:{os.environ['PATH']}",
            "STAND_IN_FOLDER": str(self.folder),
            "PENSTOCK_CONTAINER_ENGINE": "podman",
        }

    def call(self, *arguments: str) -> str:
        if self.is_real:
            return podman.call(self.folder, *arguments)
        return subprocess.run(
            ["podman", *arguments], env={**os.environ, **self.env}, capture_output=True, text=True, check=True
        ).stdout  # fmt: skip

    def containers(self) -> list[str]:
        """All that are there, by name."""
        return self.call("ps", "--all", "--format", "{{.Names}}").split()


@contextmanager
def engine(kind: str, folder: Path) -> Iterator[Engine]:
    made = Engine(kind, folder)
    if made.is_real:
        podman.set_up(folder)
    else:
        program = folder / "bin" / "podman"
        program.parent.mkdir()
        program.write_text(f'#!/bin/sh\nexec {sys.executable} -I {_STAND_IN} "$@"\n')
        program.chmod(0o755)
    try:
        yield made
    finally:
        for name in made.containers():
            made.call("rm", "--force", name)

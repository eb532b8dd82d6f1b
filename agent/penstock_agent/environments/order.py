"""What environments are asked for, and what is given."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass

KIND = "python"
_NAME = re.compile(rf"{KIND}:[0-9a-f]{{64}}")
OLDEST_FOR_FUNCTIONS = (3, 11)
"""Of Python, where a step is a function: the worker is written in it."""


@dataclass(frozen=True, slots=True)
class PythonOrder:
    """In the coordinator's canonical form: equal orders have equal names."""

    name: str
    requirements: tuple[str, ...]
    lock: str
    pylock: bool
    python: str
    """Specifiers of its version; empty: the agent's own."""

    @property
    def is_well_named(self) -> bool:
        """The name becomes that of a folder."""
        return _NAME.fullmatch(self.name) is not None


@dataclass(frozen=True, slots=True)
class Built:
    """An environment that is whole and is kept as long as somebody uses it."""

    home: str
    version: tuple[int, ...]

    @property
    def python(self) -> str:
        return f"{self.home}/bin/python"


class EnvironmentFailed(Exception):
    """It cannot be made, and why: for the attempt that asked for it."""


def activated(env: Mapping[str, str], own: Mapping[str, str], home: str) -> dict[str, str]:
    """The variables of a process in the environment: those of the agent, whose paths of Python are not its business,
    and the step's own."""
    left = {name: value for name, value in env.items() if name not in {"PYTHONHOME", "PYTHONPATH"}}
    path = own.get("PATH") or env.get("PATH", os.defpath)
    return {**left, **own, "VIRTUAL_ENV": home, "PATH": f"{home}/bin:{path}"}

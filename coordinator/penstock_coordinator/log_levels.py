"""Levels of a process's own log: one for all of it, and others for single loggers with what is below them.

Coordinator and agent have this file each, word for word: neither imports the other's.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

LEVELS = ("debug", "info", "warning", "error")
DEFAULT = "info"
_FOLDER = Path(__file__).parent
_PACKAGE = _FOLDER.name
_WORDS = f"{', '.join(LEVELS[:-1])} or {LEVELS[-1]}"
_EXAMPLE = f"info,{_PACKAGE}.runtime=debug"


class Levels(NamedTuple):
    """Each of them is one of `LEVELS`."""

    least: str
    """Of loggers that are not named."""
    of: dict[str, str]
    """By the name of the logger; what is below it goes by the longest name that it begins with."""


def read_levels(given: str) -> Levels:
    """Of `debug`, or `info,penstock_agent.runtime=debug,asyncio=error`; without a level for all, that is info.

    Raises `ValueError` with the remedy.
    """
    least, of = "", dict[str, str]()
    for part in filter(None, map(str.strip, given.split(","))):
        name, equals, level = map(str.strip, part.rpartition("="))
        level = level.lower()
        if level not in LEVELS:
            raise ValueError(f"{part!r} is no level: write {_WORDS}, and for single loggers {_EXAMPLE}")
        if name in of or (not equals and least):
            raise ValueError(f"{name or 'the log as a whole'} has two levels: keep one")
        if not equals:
            least = level
            continue
        _check(name)
        of[name] = level
    return Levels(least or DEFAULT, of)


def spelled(given: str) -> str:
    """The same as it is shown: the level for all, then loggers by their names. Raises `ValueError`."""
    levels = read_levels(given)
    return ",".join([levels.least, *(f"{name}={level}" for name, level in sorted(levels.of.items()))])


def _check(name: str) -> None:
    """Loggers of libraries may have any name; ours are named as the modules, so that a slip is seen."""
    if not name or not all(part.isidentifier() for part in name.replace("-", "_").split(".")):
        raise ValueError(f"{name!r} is no name of a logger: write for example {_EXAMPLE}")
    if name.split(".")[0] != _PACKAGE:
        return
    known = _modules()
    if name not in known:
        import difflib  # of no use but here

        near = difflib.get_close_matches(name, known, n=1, cutoff=0) or [_PACKAGE]
        raise ValueError(f"there is no logger {name!r}: it may be {near[0]} that is meant")


def _modules() -> list[str]:
    """With the packages that they are in."""
    paths = [path.relative_to(_FOLDER.parent).with_suffix("") for path in _FOLDER.rglob("*.py")]
    return sorted({".".join(each.parts) for path in paths for each in (path, *path.parents[:-1])})

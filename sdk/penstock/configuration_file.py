"""The configuration file: TOML with a section for each part of Penstock, `[server]`, `[agent]` and `[client]`.

Each part reads its own section, by code of its own: they share none. What other sections hold is theirs to check.

A value may be written as TOML has it (`lanes = 2`, `reflection = false`, `queues = ["a", "b"]`, a table for names with
values) or as in the environment (`lease_ttl = "30s"`): both are brought to the text of the environment, so that there
is one way to read it.
"""

from __future__ import annotations

import difflib
import os
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import platformdirs

VARIABLE = "PENSTOCK_CONFIG"
SECTIONS = ("server", "agent", "client")


class BadFile(Exception):
    """The text names the file, the setting and the remedy, and shows no value."""


def file_in_force(given: str | None = None) -> Path:
    """Whether it is there or not: the one that is given, else that of PENSTOCK_CONFIG, else the user's."""
    named = given or os.environ.get(VARIABLE)
    return Path(named) if named else Path(platformdirs.user_config_dir("penstock", appauthor=False)) / "config.toml"


def read_section(section: str, known: Iterable[str], given: str | None = None) -> dict[str, str]:
    """What the section of the file in force sets, as in the environment. Nothing if there is no file and none was
    named. Raises `BadFile`."""
    path = file_in_force(given)
    whole = _read(path, must_exist=bool(given or os.environ.get(VARIABLE)))
    for name in whole:
        if name not in SECTIONS:
            raise BadFile(
                f"{path}: there is no section [{name}]{_near(name, SECTIONS)}: settings stand below"
                f" {', '.join(f'[{each}]' for each in SECTIONS)}"
            )
    found = whole.get(section, {})
    if not isinstance(found, dict):
        raise BadFile(f"{path}: {section} is no section: write [{section}] and its settings below")
    names = set(known)
    for name in found:
        if name not in names:
            raise BadFile(
                f"{path}: [{section}] has no setting {name!r}{_near(name, names)}:"
                f" `penstock config {section}` lists them"
            )
    return {name: _text(place(section, name, given), value) for name, value in found.items()}


def place(section: str, name: str, given: str | None = None) -> str:
    """Where the setting stands in the file in force, for who has to mend it."""
    return f"{file_in_force(given)}: [{section}] {name}"


def _read(path: Path, *, must_exist: bool) -> dict[str, Any]:
    try:
        with path.open("rb") as opened:
            return tomllib.load(opened)
    except (FileNotFoundError, NotADirectoryError):
        if must_exist:
            raise BadFile(f"{path}: there is no such file: mend --config or {VARIABLE}, or leave it out") from None
        return {}
    except OSError as error:
        if not must_exist and not os.path.exists(path):  # noqa: PTH110  # Path.exists raises where a folder is closed
            return {}
        raise BadFile(f"{path}: it cannot be read ({error.strerror}): mend its rights, or name another file") from None
    except ValueError as error:
        raise BadFile(f"{path}: it is no TOML ({error}): mend or remove the file") from None


def _text(where: str, value: Any) -> str:
    match value:
        case bool():
            return str(value).lower()
        case str() | int() | float():
            return str(value)
        case list() if not any(isinstance(each, list | dict) for each in value):
            return ",".join(_text(where, each) for each in value)
        case dict() if not any(isinstance(each, list | dict) for each in value.values()):
            return ",".join(f"{name}={_text(where, each)}" for name, each in value.items())
    raise BadFile(f"{where}: write a text, a number, true or false, a list of these or a table of them")


def _near(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, sorted(known), 1)
    return f" (do you mean {near[0]!r}?)" if near else ""

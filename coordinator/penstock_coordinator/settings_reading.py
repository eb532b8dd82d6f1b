"""The settings are read by a process of its own.

What reads and checks them (pydantic) would stay for as long as the coordinator runs: 12 MB, an eighth of all that it
takes. So a child reads them, and tells what it has found; it is started before anything else is loaded, and its parent
loads the rest meanwhile.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from typing import TYPE_CHECKING, NamedTuple, cast

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from penstock_coordinator.settings import Settings

_A_FAULT = 1
_TELLER = "penstock_coordinator.settings_telling"


class Secret:
    """A text that is shown nowhere."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def get_secret_value(self) -> str:
        return self._text


class Values:
    """The settings by their names, as they were read."""

    def __init__(self, values: Mapping[str, object]) -> None:
        vars(self).update(values)


class Given(NamedTuple):
    """What a coordinator is started with."""

    settings: Settings
    migrates: bool
    former: Sequence[str]
    """Ids of coordinators of earlier releases whose runs are taken over."""


def is_to_serve(arguments: Sequence[str]) -> bool:
    """Whether the arguments begin as those of the command `server`, which is the default."""
    if not arguments:
        return True
    first = arguments[0]
    return first == "server" or (first.startswith("-") and first not in ("-h", "--help"))


class SettingsReading:
    """A process that reads the settings; what is wrong with them it tells the user itself."""

    def __init__(self, arguments: Sequence[str]) -> None:
        self._reader, writer = os.pipe()
        flags = ["-P"] if sys.flags.safe_path else []
        command = [sys.executable, *flags, "-m", _TELLER, str(writer), *arguments]
        self._teller = subprocess.Popen(command, pass_fds=(writer,))
        os.close(writer)

    def take(self) -> Given:
        """What it has read. Raises `SystemExit` if there is nothing to serve."""
        with os.fdopen(self._reader, "rb") as told:
            found = told.read()
        code = self._teller.wait()
        if code or not found:
            raise SystemExit(code if code >= 0 else _A_FAULT)
        values, migrates, former = pickle.loads(found)  # noqa: S301  # of its own child
        return Given(cast("Settings", Values(values)), migrates, former)

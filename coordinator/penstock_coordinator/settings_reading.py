"""The settings are read by a process of its own.

What reads and checks them (pydantic) would stay for as long as the coordinator runs: 12 MB, an eighth of all that it
takes. So a child reads them, and tells what it has found; it begins before anything else is loaded, and its parent
loads the rest meanwhile.
"""

from __future__ import annotations

import os
import pickle
import sys
import traceback
from typing import TYPE_CHECKING, NamedTuple, NoReturn, cast

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from penstock_coordinator.settings import Settings

_A_FAULT = 1
_INTERRUPTED = 130


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
    """A child that reads the settings. To be made before the process has threads."""

    def __init__(self, arguments: Sequence[str]) -> None:
        reader, writer = os.pipe()
        self._child = os.fork()
        if self._child == 0:
            os.close(reader)
            _tell(arguments, writer)
        os.close(writer)
        self._reader = reader

    def take(self) -> Given:
        """What it has read. Raises `SystemExit` if it told the user why there is nothing to serve."""
        with os.fdopen(self._reader, "rb") as told:
            found = told.read()
        _, status = os.waitpid(self._child, 0)
        code = os.waitstatus_to_exitcode(status)
        if code or not found:
            raise SystemExit(code if code >= 0 else _A_FAULT)
        values, migrates, former = pickle.loads(found)  # noqa: S301  # of its own child
        return Given(cast("Settings", Values(values)), migrates, former)


def _tell(arguments: Sequence[str], writer: int) -> NoReturn:
    code = _A_FAULT
    try:
        from penstock_coordinator.commands import to_serve

        found = pickle.dumps(to_serve(arguments))
        with os.fdopen(writer, "wb") as telling:
            telling.write(found)
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 0 if end.code is None else _A_FAULT
    except KeyboardInterrupt:
        code = _INTERRUPTED
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)

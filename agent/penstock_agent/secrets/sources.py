"""The agent's own secrets: variables of its environment, and files that somebody mounts."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

PREFIX = "PENSTOCK_SECRET_"
LARGEST = 16 * 1024
_NO_NAME = re.compile(r"[^A-Z0-9]")


class BadSecret(Exception):
    """It is there and cannot be used. The text names it and the remedy, and nothing of the value."""


class OwnSecrets:
    """Files are read anew each time: they may be exchanged while the agent runs."""

    def __init__(self, folder: Path | None, environment: Mapping[str, str]) -> None:
        self._folder = folder
        self._variables = {name: value for name, value in environment.items() if name.startswith(PREFIX)}

    def get(self, name: str) -> str | None:
        """None: the agent has none of that name. Raises `BadSecret`."""
        value = self._variables.get(variable_of(name))
        return self._read(name) if value is None else value

    def _read(self, name: str) -> str | None:
        if self._folder is None:
            return None
        path = self._folder / name
        try:
            with path.open("rb") as file:
                data = file.read(LARGEST + 2)
            return one_line(data.decode())
        except (FileNotFoundError, NotADirectoryError):
            return None
        except UnicodeDecodeError:
            remedy = "encode it, for example in base64"
            raise BadSecret(f"the secret {name!r}: the agent's file {path} is no text in UTF-8; {remedy}") from None
        except OSError as error:
            remedy = "let the agent's user read it"
            text = f"the secret {name!r}: the agent's file {path} cannot be read ({error.strerror}); {remedy}"
            raise BadSecret(text) from None


def variable_of(name: str) -> str:
    return PREFIX + _NO_NAME.sub("_", name.upper())


def one_line(value: str) -> str:
    """The line break at the end of a single line is the editor's; a text of several lines is as it is."""
    line = value.removesuffix("\n").removesuffix("\r")
    return value if "\n" in line else line

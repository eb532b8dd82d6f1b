"""The standard streams of a command: also those that are closed, cannot write every character, or are full."""

from __future__ import annotations

import io
import os
import sys
from pathlib import Path


def prepare_streams() -> None:
    """A character that the terminal's encoding does not have is written as a question mark, and what is written to a
    stream that is closed is lost: neither is a reason for a command to end without its work."""
    # Named one by one: they are attributes of a module.
    sys.stdout = sys.stdout or _nowhere()
    sys.stderr = sys.stderr or _nowhere()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def writes_unicode() -> bool:
    """Whether standard output has all characters."""
    return (getattr(sys.stdout, "encoding", None) or "utf-8").lower().startswith("utf")


def give_up_output() -> None:
    """What is left in the buffer of standard output goes nowhere: the end of the process would try it once more."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _nowhere() -> io.TextIOWrapper:
    return Path(os.devnull).open("w", encoding="utf-8")

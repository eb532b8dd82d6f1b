"""Files that a command names as they are called in its source tree: it finds them below `bundle/`, or not at all."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from penstock_agent.executors.channel import CommandWork

_NOT_THERE = ("not found", "no such file")
_MOST_WORDS = 200
_MOST_OF_A_SCRIPT = 16 * 1024
_PATH = re.compile(r"[\w./-]{2,200}")
_CHANGES_FOLDER = re.compile(r"\b(?:cd|pushd)\b")


def where_it_is(work: CommandWork, folder: Path, said: str) -> str:
    """To be put behind the failure of a command that lacks a file: where the first such one is; empty if none is known.

    `folder` is the one that the command started in, `said` what it wrote to standard error. A command that knows of
    `bundle/` needs no hint.
    """
    if "bundle" in (work.shell or " ".join(work.argv)) or not any(words in said.lower() for words in _NOT_THERE):
        return ""
    try:
        return _hint(work, folder)
    except OSError:  # A name that is too long, a folder that may not be read: the failure is told all the same.
        return ""


def _hint(work: CommandWork, folder: Path) -> str:
    moves = bool(_CHANGES_FOLDER.search(work.shell))
    for word in _relative_paths(work):
        if (folder / word).exists():
            continue
        if work.bundle_dir and (Path(work.bundle_dir) / word).is_file():
            return f" ({word} is a file of the bundle: write bundle/{word.removeprefix('./')})"
        if not work.bundle_dir and not moves and word.startswith("./"):
            return (
                f" ({word} is not there: a command starts in an empty folder, and finds the files of the folder that"
                " the pipeline names as its `bundle` below bundle/)"
            )
    return ""


def _relative_paths(work: CommandWork) -> Iterator[str]:
    words = _PATH.findall(work.shell[:_MOST_OF_A_SCRIPT]) if work.shell else work.argv
    for word in words[:_MOST_WORDS]:
        if _PATH.fullmatch(word) and not word.startswith("/") and ("/" in word or "." in word):
            yield word

"""Who a coordinator is: a name that its data folder keeps."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import uuid
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


_NAME = re.compile(r"[\w.-]{1,128}", re.ASCII)


class CannotStart(Exception):
    """The text says what is missing and what to do."""


@contextlib.contextmanager
def identity(data_dir: Path) -> Iterator[str]:
    """This coordinator's name, the same at every start on this data folder: a restart takes its own runs at once.

    The folder is this process's alone. Two of the same name would fence each other off for ever. Raises `CannotStart`.
    """
    lock, name = _claim(data_dir)
    with lock:
        yield name


def _claim(data_dir: Path) -> tuple[IO[str], str]:
    lock: IO[str] | None = None
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        lock = (data_dir / "lock").open("a")
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return lock, _name(data_dir / "coordinator-id")
    except OSError as error:
        if lock is not None:
            lock.close()
        if isinstance(error, BlockingIOError):
            problem = f"another coordinator runs on {data_dir}: stop it"
        else:
            reason = os.strerror(error.errno or 0)
            problem = f"cannot keep this coordinator's identity in {data_dir} ({reason}): let this user write there"
        raise CannotStart(f"{problem}, or set PENSTOCK_DATA_DIR to a folder of this one's own") from None


def _name(path: Path) -> str:
    if not path.exists():
        fresh = path.with_suffix(".new")
        fresh.write_text(f"coordinator-{uuid.uuid4().hex[:12]}\n")
        fresh.replace(path)
    try:
        name = path.read_text().strip()
    except UnicodeDecodeError:
        name = ""
    if not _NAME.fullmatch(name):
        raise CannotStart(
            f"{path} holds no name of a coordinator: restore it from a backup, or remove it, and the coordinator gets"
            " another name, which takes its former runs over when their ownership lease has run out"
        )
    return name

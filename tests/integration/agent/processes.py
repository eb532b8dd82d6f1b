"""Looking at processes, and at the files they write, from outside."""

from __future__ import annotations

from pathlib import Path

import psutil
from tests.waiting import until


def is_alive(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def touch(path: str | Path) -> None:
    Path(path).touch()


def line_of(path: Path) -> str:
    """The file's text, once it ends with a whole line."""
    text = path.read_text() if path.exists() else ""
    return text if text.endswith("\n") else ""


async def written(path: str | Path, deadline: float = 60.0) -> str:
    """The text of a file, once a step has written a whole line of it."""

    async def condition() -> str:
        return line_of(Path(path))

    return await until(condition, deadline)


async def gone(*pids: int, deadline: float = 60.0) -> None:
    async def condition() -> bool:
        return not any(is_alive(pid) for pid in pids)

    await until(condition, deadline)

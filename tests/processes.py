"""Looking at other processes."""

from __future__ import annotations

from pathlib import Path

import psutil


def is_alive(pid: int) -> bool:
    """Not if it has ended and its parent has not noticed yet."""
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def processes_of(folder: Path) -> list[str]:
    """The command lines of processes that name the folder, or work in it."""
    found = []
    for process in psutil.process_iter():
        try:
            if _concerns(process, str(folder)):
                found.append(" ".join(process.cmdline()))
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return found


def _concerns(process: psutil.Process, folder: str) -> bool:
    if process.status() == psutil.STATUS_ZOMBIE:
        return False
    return process.cwd().startswith(folder) or any(folder in part for part in process.cmdline())

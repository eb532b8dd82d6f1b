"""Ending processes with everything that they started, wherever it went.

A worker adopts the orphans below it, so its descendants are found by parentage, also those that left its session. As
a second net every process of a worker carries a mark in its environment. Workers are stopped before they are killed:
what stands still starts nothing new.
"""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from pathlib import Path

import psutil

MARK = "PENSTOCK_WORKER"
"""The variable that marks the processes of a worker: `<boot id>:<worker>`."""
PATIENCE = 2.0
"""Seconds for the killed to vanish; a process in the kernel's hands may take longer."""
_PAUSE = 0.002


def kill_tree(root: int, mark: str) -> None:
    """Kill `root`, its descendants, and all processes with that mark. Blocks; `root` is left for its parent to reap."""
    killed = _stop_all(root)
    for pid in killed:
        _signal(pid, signal.SIGKILL)
    until = time.monotonic() + PATIENCE
    while (left := marked(mark) - {root}) and time.monotonic() < until:
        for pid in left:
            _signal(pid, signal.SIGKILL)
        killed |= left
        time.sleep(_PAUSE)
    _reap(killed - {root}, until)


def _stop_all(root: int) -> set[int]:
    """Everything below `root`, standing still."""
    stopped: set[int] = set()
    while new := ({root} | _descendants(root)) - stopped:
        for pid in new:
            _signal(pid, signal.SIGSTOP)
        stopped |= new
    return stopped


def _descendants(root: int) -> set[int]:
    try:
        return {process.pid for process in psutil.Process(root).children(recursive=True)}
    except psutil.Error:
        return set()


def marked(mark: str) -> set[int]:
    """Living processes whose environment holds the variable with a value that begins with `mark`."""
    needle = f"{MARK}={mark}".encode()
    own = os.getpid()
    found: set[int] = set()
    for entry in os.scandir("/proc"):
        if entry.name.isdigit() and int(entry.name) != own:
            with suppress(OSError):
                if needle in Path(entry.path, "environ").read_bytes():
                    found.add(int(entry.name))
    return found


def _signal(pid: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.kill(pid, number)


def _reap(pids: set[int], until: float) -> None:
    """Of those that came to this process when their parents died."""
    waiting = set(pids)
    while waiting:
        for pid in list(waiting):
            try:
                gone = os.waitpid(pid, os.WNOHANG)[0] == pid
            except ChildProcessError:
                gone = True
            if gone:
                waiting.discard(pid)
        if not waiting or time.monotonic() > until:
            return
        time.sleep(_PAUSE)

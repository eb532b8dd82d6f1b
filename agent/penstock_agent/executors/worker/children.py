"""The worker adopts what its descendants leave behind: so it can end all of it, whatever session it went to."""

from __future__ import annotations

import ctypes
import os
import signal
from contextlib import suppress
from pathlib import Path
from resource import struct_rusage

_PR_SET_CHILD_SUBREAPER = 36


def adopt_orphans() -> None:
    """Orphans below this process become its children. OSError: the kernel refuses."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl")


def kill_all() -> list[struct_rusage]:
    """Kill every descendant: the children first, then those that come to this process by it. What they used."""
    usages: list[struct_rusage] = []
    while pids := _children():
        for pid in pids:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        for pid in pids:
            with suppress(ChildProcessError):
                usages.append(os.wait4(pid, 0)[2])
    return usages


def _children() -> list[int]:
    pids: list[int] = []
    try:
        for thread in os.listdir("/proc/self/task"):  # noqa: PTH208 - at the end of every command
            with suppress(FileNotFoundError):
                pids += map(int, Path(f"/proc/self/task/{thread}/children").read_bytes().split())
        if pids or Path("/proc/self/task").joinpath(str(os.getpid()), "children").exists():
            return pids
    except OSError:
        return []
    return _children_by_scan()


def _children_by_scan() -> list[int]:
    """For kernels without the list of children."""
    own = os.getpid()
    found: list[int] = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError, IndexError, ValueError):
                fields = (entry / "stat").read_bytes().rpartition(b")")[2].split()
                if int(fields[1]) == own:
                    found.append(int(entry.name))
    return found

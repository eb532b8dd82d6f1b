"""CPU seconds and peak memory of one attempt in a process that outlives it."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from resource import RUSAGE_CHILDREN, RUSAGE_SELF, getrusage

_PEAK = re.compile(rb"VmHWM:\s+(\d+) kB")
_RESET_PEAK = b"5"


class Usage:
    """One at a time: `begin`, then `end`."""

    def __init__(self) -> None:
        self._status = os.open("/proc/self/status", os.O_RDONLY | os.O_CLOEXEC)
        self._reset: int | None = None
        with suppress(OSError):
            self._reset = os.open("/proc/self/clear_refs", os.O_WRONLY | os.O_CLOEXEC)
        self._cpu = 0.0

    def begin(self) -> None:
        # Where the kernel does not allow the reset, the peak is that of the process so far.
        if self._reset is not None:
            with suppress(OSError):
                os.pwrite(self._reset, _RESET_PEAK, 0)
        self._cpu = _cpu_seconds()

    def end(self) -> tuple[int, int]:
        """(CPU time in µs with children that were waited for, peak memory of this process in bytes)"""
        found = _PEAK.search(os.pread(self._status, 4096, 0))
        return int((_cpu_seconds() - self._cpu) * 1e6), int(found[1]) * 1024 if found else 0


def _cpu_seconds() -> float:
    own, children = getrusage(RUSAGE_SELF), getrusage(RUSAGE_CHILDREN)
    return own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime

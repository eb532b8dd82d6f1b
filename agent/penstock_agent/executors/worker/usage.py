"""CPU seconds and peak memory of one attempt in a process that outlives it.

What the kernel tells of the memory costs as much as a short step does, so it is read only if the attempt has touched
new memory: an attempt without page faults cannot have raised what the process holds.
"""

from __future__ import annotations

import os
import re
import time
from contextlib import suppress
from resource import RUSAGE_CHILDREN, RUSAGE_SELF, getrusage

_PEAK = re.compile(rb"VmHWM:\s+(\d+) kB")
_HELD = re.compile(rb"VmRSS:\s+(\d+) kB")
_RESET_PEAK = b"5"
_FEW_FAULTS = 8
"""A huge page may come with each."""


class Usage:
    """One at a time: `begin`, then `end`."""

    def __init__(self) -> None:
        self._status = os.open("/proc/self/status", os.O_RDONLY | os.O_CLOEXEC)
        self._reset: int | None = None
        with suppress(OSError):
            self._reset = os.open("/proc/self/clear_refs", os.O_WRONLY | os.O_CLOEXEC)
        self._cpu = 0
        self._children = _children_cpu()
        self._faults = 0
        """At the last reading."""
        self._held = 0
        """Bytes, at the last reading."""
        self._raised = True
        """The peak that the kernel tells is that of an attempt before."""

    def begin(self) -> None:
        if self._raised:
            self._reset_peak()
        self._cpu = time.process_time_ns()

    def end(self) -> tuple[int, int]:
        """(CPU time in µs with children that were waited for, peak memory of this process in bytes)"""
        children = _children_cpu()
        spent = (time.process_time_ns() - self._cpu) // 1000 + children - self._children
        self._children = children
        faults = getrusage(RUSAGE_SELF).ru_minflt
        if self._held and faults - self._faults <= _FEW_FAULTS:
            return spent, self._held
        return spent, self._read(faults)

    def _reset_peak(self) -> None:
        # Where the kernel does not allow the reset, the peak is that of the process so far.
        self._raised = False
        if self._reset is not None:
            with suppress(OSError):
                os.pwrite(self._reset, _RESET_PEAK, 0)

    def _read(self, faults: int) -> int:
        status = os.pread(self._status, 4096, 0)
        self._faults, self._raised = faults, True
        self._held = _bytes(_HELD, status)
        return _bytes(_PEAK, status)


def _bytes(name: re.Pattern[bytes], status: bytes) -> int:
    found = name.search(status)
    return int(found[1]) * 1024 if found else 0


def _children_cpu() -> int:
    """Microseconds."""
    children = getrusage(RUSAGE_CHILDREN)
    return int((children.ru_utime + children.ru_stime) * 1e6)

"""Time and chance of this machine."""

from __future__ import annotations

import contextlib
import os
import random
import secrets
import time
from pathlib import Path

import uuid_utils

_STATM = "/proc/self/statm"
_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))
_PAGE = os.sysconf("SC_PAGE_SIZE")


class SystemClock:
    """`monotonic` is CLOCK_BOOTTIME: leases go on while the machine is suspended."""

    def now(self) -> int:
        return time.time_ns() // 1_000

    def monotonic(self) -> int:
        return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1_000


def resident_bytes() -> int:
    """Of this process. 0 where the system does not tell. Asked for often, so without files that know of
    buffers and encodings: it takes a fifth of the time."""
    try:
        file = os.open(_STATM, os.O_RDONLY)
        try:
            return int(os.read(file, 256).split()[1]) * _PAGE
        finally:
            os.close(file)
    except (OSError, IndexError, ValueError):
        return 0


def memory_there_is() -> int:
    """Bytes: of the machine, or of the group of processes that this one is in, if that is less. 0: nobody tells."""
    found = [number for path in _LIMITS if (number := _number_in(path))]
    with contextlib.suppress(OSError, ValueError):
        found.append(os.sysconf("SC_PHYS_PAGES") * _PAGE)
    return min(found, default=0)


def _number_in(path: Path) -> int:
    try:
        return int(path.read_text())
    except (OSError, ValueError):  # not there, or "max"
        return 0


class SystemIds:
    def run_id(self) -> bytes:
        return uuid_utils.uuid7().bytes

    def key(self) -> bytes:
        return secrets.token_bytes(32)

    def jitter(self) -> float:
        return random.random()  # noqa: S311  # spreads retries, guards nothing

"""Time and chance of this machine."""

from __future__ import annotations

import random
import time

import uuid_utils


class SystemClock:
    """`monotonic` is CLOCK_BOOTTIME: leases go on while the machine is suspended."""

    def now(self) -> int:
        return time.time_ns() // 1_000

    def monotonic(self) -> int:
        return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1_000


class SystemIds:
    def run_id(self) -> bytes:
        return uuid_utils.uuid7().bytes

    def jitter(self) -> float:
        return random.random()  # noqa: S311  # spreads retries, guards nothing

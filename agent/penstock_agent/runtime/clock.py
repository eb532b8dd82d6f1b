"""The lease clock: it goes on while the machine is suspended, and no change of the time of day moves it."""

from __future__ import annotations

import time


def now() -> int:
    """Microseconds since the machine was started."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1000

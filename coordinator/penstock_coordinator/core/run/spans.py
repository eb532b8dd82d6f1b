"""Spans of time for people."""

from __future__ import annotations

from datetime import timedelta

_MICROSECOND = timedelta(microseconds=1)
_UNITS = ((86_400_000_000, "d"), (3_600_000_000, "h"), (60_000_000, "min"), (1_000_000, "s"), (1_000, "ms"))


def microseconds(span: timedelta) -> int:
    return span // _MICROSECOND


def spelled(span: int) -> str:
    """Microseconds in the largest unit that tells them exactly: "90 s", "2 h", "1500 ms"."""
    for size, unit in _UNITS:
        if span % size == 0 and (span or unit == "s"):
            return f"{span // size} {unit}"
    return f"{span} us"

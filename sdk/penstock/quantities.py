"""Spans of time and sizes of memory, as people write them."""

from __future__ import annotations

import math
import re
from datetime import timedelta
from typing import Any, TypeAlias

Span: TypeAlias = "float | int | str | timedelta"
"""Seconds, a timedelta, or a text such as "30s", "5m", "1h30m", "250ms"."""

Size: TypeAlias = "int | str"
"""Bytes, or a text such as "512MiB", "2GiB", "1.5GB"."""

# The longest span that google.protobuf.Duration holds.
MAX_SPAN_SECONDS = 315_576_000_000

_NANOSECONDS = {
    "ns": 1,
    "us": 10**3,
    "µs": 10**3,
    "ms": 10**6,
    "s": 10**9,
    "m": 60 * 10**9,
    "h": 3600 * 10**9,
    "d": 86_400 * 10**9,
}
_PART = re.compile(r"(\d+(?:\.\d+)?)(ns|us|µs|ms|s|m|h|d)")
_SPAN = re.compile(rf"(?:{_PART.pattern})+")
_NUMBER = re.compile(r"\d+(?:\.\d+)?")
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGTP]i?)?B?", re.IGNORECASE)
_POWERS = {letter: power for power, letter in enumerate("kmgtp", start=1)}

LARGEST = 2**63 - 1
"""A whole number that the API can carry."""
MAX_PRIORITY = 1_000
"""And as much below 0."""
LEAST_WEIGHT, MOST_WEIGHT = 0.01, 100
SPAN_REMEDY = 'write seconds as a number, or "30s", "5m", "1h30m", "250ms"'
SIZE_REMEDY = 'write bytes as a whole number, or "512MiB", "2GiB", "1.5GB"'


def nanoseconds(span: Any) -> int:
    """Whole nanoseconds of `span`, a `Span`. ValueError (with a message for people) if it is no span of time."""
    if isinstance(span, timedelta):
        value = (span.days * 86_400 + span.seconds) * 10**9 + span.microseconds * 1_000
    elif isinstance(span, str):
        value = _parse_span(span.strip())
    elif (
        isinstance(span, bool)
        or not isinstance(span, int | float)
        or (isinstance(span, float) and not math.isfinite(span))
    ):
        raise ValueError(f"{span!r} is no span of time")
    else:
        value = round(span * 10**9)
    if value < 0:
        raise ValueError("a span of time must not be negative")
    if value > MAX_SPAN_SECONDS * 10**9:
        raise ValueError("the span of time is too long (at most 10,000 years)")
    return value


def _parse_span(text: str) -> int:
    if _NUMBER.fullmatch(text):
        return round(float(text) * 10**9)
    if not _SPAN.fullmatch(text):
        raise ValueError(f"{text!r} is no span of time")
    return sum(_part_nanoseconds(number, unit) for number, unit in _PART.findall(text))


def _part_nanoseconds(number: str, unit: str) -> int:
    if "." not in number:
        return int(number) * _NANOSECONDS[unit]
    return round(float(number) * _NANOSECONDS[unit])


def format_nanoseconds(value: int) -> str:
    """The shortest text that `nanoseconds` reads back as `value`, for example "1h30m" or "250ms"."""
    if value == 0:
        return "0s"
    parts = []
    for unit in ("h", "m", "s", "ms", "us", "ns"):
        count, value = divmod(value, _NANOSECONDS[unit])
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts)


def size_bytes(size: Any) -> int:
    """Whole bytes of `size`, a `Size`. ValueError (with a message for people) if it is no size."""
    if isinstance(size, int) and not isinstance(size, bool):
        value = size
    elif isinstance(size, str):
        value = _parse_size(size.strip())
    else:
        raise ValueError(f"{size!r} is no size")
    if value < 0:
        raise ValueError("a size must not be negative")
    if value >= 2**63:
        raise ValueError("the size is too large")
    return value


def _parse_size(text: str) -> int:
    match = _SIZE.fullmatch(text)
    if not match:
        raise ValueError(f"{text!r} is no size")
    number, unit = match[1], (match[2] or "").lower()
    base = 1024 if unit.endswith("i") else 1000
    factor = base ** _POWERS[unit[0]] if unit else 1
    return int(number) * factor if "." not in number else round(float(number) * factor)


def format_size(value: int) -> str:
    """For people: 1536 is "1.5 KiB"."""
    amount, unit = float(value), "bytes"
    for unit_name in ("KiB", "MiB", "GiB", "TiB"):
        if amount < 1024:
            break
        amount, unit = amount / 1024, unit_name
    return f"{amount:.0f} {unit}" if unit == "bytes" else f"{amount:.1f} {unit}"

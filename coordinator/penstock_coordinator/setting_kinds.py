"""Kinds of settings: spans and sizes as they are written."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, ByteSize

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30
LONGEST = timedelta(days=3_650)
_SPAN = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*(ms|s|min|m|h|d)")
_UNITS = {"ms": 1e3, "s": 1e6, "m": 6e7, "min": 6e7, "h": 3.6e9, "d": 8.64e10}


def span(given: object) -> object:
    if not isinstance(given, str):
        return given
    match = _SPAN.fullmatch(given.strip())
    if match is None:
        raise ValueError("is no span of time: write a number and ms, s, m, h or d, for example 30s or 500ms")
    try:
        return timedelta(microseconds=round(float(match[1]) * _UNITS[match[2]]))
    except OverflowError:
        raise ValueError("is too long a span of time") from None


def unless_empty(given: object) -> object:
    """Empty is as if it were not set, in whatever way it is given."""
    return None if given == "" else given


def kept_for(given: timedelta) -> timedelta:
    if given and given < timedelta(seconds=1):
        raise ValueError("is shorter than a second: write for example 30d, or 0s to keep for ever")
    return given


Span = Annotated[timedelta, BeforeValidator(span)]
KeptFor = Annotated[timedelta, BeforeValidator(span), AfterValidator(kept_for)]
"""0 is for ever."""


def size_of(number: int, unit: int) -> ByteSize:
    return ByteSize(number * unit)

"""Moments as people write them: a date, a time, or how long ago."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

import click

_AGO = re.compile(r"(\d+)\s*(s|m|h|d|w)")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def read_moment(_context: click.Context, _option: click.Parameter, text: str | None) -> datetime | None:
    """The callback of an option. None: it is not given."""
    found = None if text is None else moment(text, datetime.now(UTC))
    if text is not None and found is None:
        raise click.BadParameter(
            f"{text!r} is no moment: write 2026-11-21, '2026-11-21 12:30', 90m or 2d (ago), today or yesterday."
        )
    return found


def moment(text: str, now: datetime) -> datetime | None:
    """`2026-11-21`, `2026-11-21 12:30` (of UTC unless it has an offset), `90m` or `2d` ago, `today`, `yesterday`.

    In UTC; days begin there at midnight. None: it is no moment.
    """
    word = text.strip().lower()
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
    if word in ("now", "today", "yesterday"):
        return {"now": now, "today": midnight, "yesterday": midnight - timedelta(days=1)}[word]
    try:
        if ago := _AGO.fullmatch(word):
            return now - timedelta(**{_UNITS[ago[2]]: int(ago[1])})
        found = datetime.fromisoformat(text.strip())
        return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)
    except (ValueError, OverflowError):
        return None

"""Budgets of what attempts cost: of each run, or of all runs of a pipeline within a day, a week or a month."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

_SECOND = 1_000_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Measure(enum.IntEnum):
    """What is limited. The numbers stand in journals."""

    SLOT_TIME = 1
    CPU_TIME = 2
    PRICE = 3


class OnExceeded(enum.IntEnum):
    """The numbers are those of the proto."""

    HOLD = 1
    STOP = 2


class Per(enum.IntEnum):
    """What has the budget. The numbers are those of the proto's CostBudgetPer."""

    RUN = 1
    DAY = 2
    WEEK = 3
    MONTH = 4


class Amounts(NamedTuple):
    """Microseconds, and millionths of a unit of money. Of a limit 0 is none."""

    slot_time: int = 0
    cpu_time: int = 0
    price: int = 0

    def plus(self, more: Amounts) -> Amounts:
        return Amounts(self.slot_time + more.slot_time, self.cpu_time + more.cpu_time, self.price + more.price)

    def of(self, measure: Measure) -> int:
        return self[measure - 1]

    def most(self, other: Amounts) -> Amounts:
        """The larger one of each."""
        return Amounts(*(max(pair) for pair in zip(self, other, strict=True)))


def exceeded(used: Amounts, limits: Amounts) -> Measure | None:
    """The first limit of which nothing is left."""
    return next((m for m in Measure if limits.of(m) and used.of(m) >= limits.of(m)), None)


@dataclass(frozen=True, slots=True)
class Prices:
    """Per second."""

    slot: float = 0.0
    cpu: float = 0.0
    gb: float = 0.0
    """Of 10^9 bytes of an attempt's peak memory."""

    def of(self, slot_time: int, cpu_time: int, peak_memory_bytes: int) -> int:
        """In millionths: microseconds times a price of a second are."""
        return round(slot_time * self.slot + cpu_time * self.cpu + peak_memory_bytes / 1e9 * slot_time * self.gb)

    def __bool__(self) -> bool:
        return bool(self.slot or self.cpu or self.gb)


NO_PRICES = Prices()


@dataclass(frozen=True, slots=True)
class CostBudget:
    limits: Amounts
    per: Per = Per.RUN
    on_exceeded: OnExceeded = OnExceeded.HOLD


class Window(NamedTuple):
    start: int
    stop: int


def window_at(per: Per, now: int) -> Window:
    """The day, the week from Monday on or the month of the instant, in UTC; all in microseconds since 1970."""
    day = _EPOCH + timedelta(days=now // (86_400 * _SECOND))
    if per is Per.DAY:
        start, stop = day, day + timedelta(days=1)
    elif per is Per.WEEK:
        start = day - timedelta(days=day.weekday())
        stop = start + timedelta(days=7)
    else:
        start = day.replace(day=1)
        stop = (start + timedelta(days=32)).replace(day=1)
    return Window((start - _EPOCH) // timedelta(microseconds=1), (stop - _EPOCH) // timedelta(microseconds=1))


def said(number: int) -> str:
    """Of millionths, for people: "12.5"."""
    return f"{number / _SECOND:,.3f}".rstrip("0").rstrip(".")


def used_of(measure: Measure, used: int, limit: int) -> str:
    """For people: "12.5 of 10 CPU-seconds"."""
    return f"{said(used)} of {said(limit)} {NAMES[measure]}"


NAMES = {Measure.SLOT_TIME: "slot-seconds", Measure.CPU_TIME: "CPU-seconds", Measure.PRICE: "in price"}
FIELDS = {Measure.SLOT_TIME: "slot_seconds", Measure.CPU_TIME: "cpu_seconds", Measure.PRICE: "price"}
"""As the specification and the options of the command line name them."""
WINDOW_NAMES = {Per.RUN: "run", Per.DAY: "day", Per.WEEK: "week", Per.MONTH: "month"}


def limits_fault(limits: Amounts, given: Amounts) -> str:
    """Why these limits cannot be raised to those that are given, where 0 leaves them; empty: they can."""
    for measure in Measure:
        wanted, present = given.of(measure), limits.of(measure)
        if wanted and not present:
            return f"the budget has no limit on {FIELDS[measure]}"
        if wanted and wanted < present:
            return f"{FIELDS[measure]} is {said(present)} already: a budget is raised, never lowered"
    return ""

"""Budgets of specifications, and of plans; the windows that they are counted in."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from google.protobuf import json_format

from penstock.v1 import pipeline_pb2 as pb
from penstock_coordinator.core.plan.budget import (
    NO_PRICES,
    Amounts,
    CostBudget,
    Measure,
    OnExceeded,
    Per,
    Prices,
    exceeded,
    limits_fault,
    used_of,
    window_at,
)
from penstock_coordinator.core.plan.compile import compile_plan
from penstock_coordinator.core.plan.validate import problems
from penstock_coordinator.core.plan.validation.budget import price_fault

SECOND = 1_000_000


def spec(**budget: Any) -> pb.PipelineSpec:
    made = {"name": "p", "steps": [{"name": "a", "command": {"argv": ["true"]}}], "budget": budget}
    return json_format.ParseDict(made, pb.PipelineSpec())


REFUSED: list[tuple[dict[str, Any], str, str]] = [
    ({}, "budget", "give it slot_seconds, cpu_seconds or price"),
    ({"per": "COST_BUDGET_PER_DAY"}, "budget", "there is no limit"),
    ({"slot_seconds": -1}, "budget.slot_seconds", "use 0.001 to 1e+12"),
    ({"cpu_seconds": 1e-9}, "budget.cpu_seconds", "use 0.001 to 1e+12"),
    ({"price": 1e13}, "budget.price", "use 0.001 to 1e+12"),
    ({"cpu_seconds": "NaN"}, "budget.cpu_seconds", "is no amount"),
    ({"cpu_seconds": "Infinity"}, "budget.cpu_seconds", "is no amount"),
    ({"cpu_seconds": 1, "per": 9}, "budget.per", "CostBudgetPer"),
    ({"cpu_seconds": 1, "on_exceeded": 9}, "budget.on_exceeded", "OnExceeded"),
]


@pytest.mark.parametrize(("budget", "field", "message"), REFUSED)
def test_refused(budget: dict[str, Any], field: str, message: str) -> None:
    (problem,) = problems(spec(**budget))
    assert problem.field == field
    assert message in problem.description


def test_a_price_needs_prices() -> None:
    found = price_fault(spec(price=3), NO_PRICES)
    assert found is not None
    assert found.field == "budget.price"
    assert "PENSTOCK_PRICE_SLOT_SECOND" in found.description
    assert price_fault(spec(price=3), Prices(gb=0.1)) is None
    assert price_fault(spec(cpu_seconds=3), NO_PRICES) is None


def test_what_a_plan_has() -> None:
    made = compile_plan(spec(cpu_seconds=1.5), "0" * 64)
    assert made.budget == CostBudget(Amounts(cpu_time=1_500_000), Per.RUN, OnExceeded.HOLD)
    assert made.window_budget is None
    made = compile_plan(spec(price=2, per="COST_BUDGET_PER_MONTH", on_exceeded="ON_EXCEEDED_STOP"), "0" * 64)
    assert made.window_budget == CostBudget(Amounts(price=2_000_000), Per.MONTH, OnExceeded.STOP)


def at(year: int, month: int, day: int, hour: int = 0, minute: int = 0, second: int = 0) -> int:
    return int(datetime(year, month, day, hour, minute, second, tzinfo=UTC).timestamp()) * SECOND


@pytest.mark.parametrize(
    ("per", "now", "start", "stop"),
    [
        (Per.DAY, at(2026, 11, 21, 23, 59, 59), at(2026, 11, 21), at(2026, 11, 22)),
        (Per.DAY, at(2026, 11, 22), at(2026, 11, 22), at(2026, 11, 23)),
        (Per.WEEK, at(2026, 11, 21, 12), at(2026, 11, 16), at(2026, 11, 23)),
        (Per.WEEK, at(2026, 11, 23), at(2026, 11, 23), at(2026, 11, 30)),
        (Per.MONTH, at(2026, 12, 31, 23), at(2026, 12, 1), at(2027, 1, 1)),
        (Per.MONTH, at(2028, 2, 29, 1), at(2028, 2, 1), at(2028, 3, 1)),
    ],
)
def test_windows(per: Per, now: int, start: int, stop: int) -> None:
    assert window_at(per, now) == (start, stop)
    assert window_at(per, stop - 1) == (start, stop)
    assert window_at(per, stop).start == stop


def test_a_budget_is_exceeded_when_nothing_is_left_of_one_limit() -> None:
    limits = Amounts(slot_time=10, price=5)
    assert exceeded(Amounts(9, 1_000, 4), limits) is None
    assert exceeded(Amounts(10, 0, 0), limits) is Measure.SLOT_TIME
    assert exceeded(Amounts(0, 0, 6), limits) is Measure.PRICE
    assert used_of(Measure.CPU_TIME, 12_500_000, 1_000 * SECOND) == "12.5 of 1,000 CPU-seconds"


def test_a_budget_is_raised_and_never_lowered() -> None:
    limits = Amounts(slot_time=10 * SECOND)
    assert not limits_fault(limits, Amounts(11 * SECOND))
    assert not limits_fault(limits, Amounts(10 * SECOND))
    assert limits_fault(limits, Amounts(9 * SECOND)) == "slot_seconds is 10 already: a budget is raised, never lowered"
    assert limits_fault(limits, Amounts(0, 1)) == "the budget has no limit on cpu_seconds"


def test_prices_are_of_seconds_and_of_memory_for_as_long() -> None:
    assert Prices(slot=2, cpu=3).of(SECOND, 2 * SECOND, 5 << 30) == 8_000_000
    assert Prices(gb=0.5).of(2 * SECOND, 0, 3 * 10**9) == 3_000_000
    assert not NO_PRICES

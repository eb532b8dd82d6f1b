"""The budget of a pipeline."""

from __future__ import annotations

import math

from penstock.v1 import pipeline_pb2 as pb
from penstock_coordinator.core.plan.budget import Prices
from penstock_coordinator.core.plan.validation.report import Problem, Report

MOST = 1e12
LEAST = 1e-3
_FIELDS = ("slot_seconds", "cpu_seconds", "price")
_PERS = frozenset(pb.CostBudgetPer.values())
_ACTIONS = frozenset(pb.OnExceeded.values())


def check_budget(report: Report, budget: pb.CostBudget) -> None:
    given = {name: getattr(budget, name) for name in _FIELDS}
    for name, number in given.items():
        fault = amount_fault(number)
        if fault is not None:
            report.add(f"budget.{name}", fault)
    if not any(given.values()):
        report.add("budget", "there is no limit: give it slot_seconds, cpu_seconds or price, or leave it out")
    if budget.per not in _PERS:
        report.add("budget.per", f"{budget.per} is nothing that has a budget: use one of the CostBudgetPer enum")
    if budget.on_exceeded not in _ACTIONS:
        report.add("budget.on_exceeded", f"{budget.on_exceeded} is unknown: use one of the OnExceeded enum")


def price_fault(spec: pb.PipelineSpec, prices: Prices) -> Problem | None:
    """What is wrong with a limit in money, and the remedy."""
    if not spec.budget.price or prices:
        return None
    remedy = "have the operator set PENSTOCK_PRICE_SLOT_SECOND and the like, or limit slot_seconds or cpu_seconds"
    return Problem("budget.price", f"this coordinator has no prices, so nothing would ever count: {remedy}")


def amount_fault(number: float) -> str | None:
    """What is wrong with a limit, and the remedy; 0 is none."""
    if not math.isfinite(number):
        return f"{number} is no amount: use a number from {LEAST:g} up, or 0 for no limit"
    if number and not LEAST <= number <= MOST:
        return f"{number:g} is out of range: use {LEAST:g} to {MOST:g}, or 0 for no limit"
    return None

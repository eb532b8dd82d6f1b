"""Budgets, as the SDK and YAML say them."""

from __future__ import annotations

from typing import Any

import pytest

from penstock import Budget, BudgetPer, OnExceeded, errors, pipeline, step
from penstock.v1 import pipeline_pb2
from penstock.yaml_format import dump, load

STEPS = "steps: {a: {command: 'true'}}"


@step
def one() -> None:
    pass


@pipeline(budget=Budget(cpu_seconds=10, per=BudgetPer.DAY, on_exceeded=OnExceeded.STOP))
def daily() -> None:
    one()


@pipeline(budget=Budget(slot_seconds=1.5, price=3))
def each() -> None:
    one()


@pipeline
def without() -> None:
    one()


def test_what_a_pipeline_says() -> None:
    assert daily.spec("0" * 64).budget == pipeline_pb2.CostBudget(
        cpu_seconds=10,
        per=pipeline_pb2.COST_BUDGET_PER_DAY,
        on_exceeded=pipeline_pb2.ON_EXCEEDED_STOP,
    )
    assert each.spec("0" * 64).budget == pipeline_pb2.CostBudget(slot_seconds=1.5, price=3)
    assert not without.spec("0" * 64).HasField("budget")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "budget: there is no limit"),
        ({"slot_seconds": -1}, "budget.slot_seconds: -1 is no limit"),
        ({"cpu_seconds": True}, "budget.cpu_seconds: True is no limit"),
        ({"cpu_seconds": float("inf")}, "budget.cpu_seconds: inf is no limit"),
        ({"cpu_seconds": 10**400}, "is no limit (give a number"),
        ({"price": "3"}, "budget.price: '3' is no limit"),
        ({"price": 1e13}, "budget.price: 10000000000000.0 is no limit"),
        ({"price": 3, "per": "dya"}, "did you mean 'day'"),
        ({"price": 3, "on_exceeded": "pause"}, "budget.on_exceeded: 'pause' is not known"),
    ],
)
def test_budgets_are_checked(given: dict[str, Any], message: str) -> None:
    with pytest.raises(errors.DefinitionError) as caught:
        Budget(**given)
    assert message in str(caught.value)
    assert caught.value.remedy


def test_a_number_is_no_budget() -> None:
    with pytest.raises(errors.DefinitionError) as caught:
        pipeline(budget=5)(lambda: None)  # type: ignore[call-overload]  # what is refused
    assert caught.value.remedy


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("budget: {cpu_seconds: 10}", {"cpu_seconds": 10}),
        ("budget: {price: 2.5, per: month, on_exceeded: stop}", {"price": 2.5, "per": 4, "on_exceeded": 2}),
        ("budget: {slot_seconds: 1, per: run, on_exceeded: hold}", {"slot_seconds": 1, "per": 1, "on_exceeded": 1}),
    ],
)
def test_yaml_there_and_back(text: str, expected: dict[str, Any]) -> None:
    spec = load(f"name: p\n{text}\n{STEPS}\n")
    assert spec.budget == pipeline_pb2.CostBudget(**expected)
    assert load(dump(spec)) == spec

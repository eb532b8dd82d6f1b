"""The steps of the ETL as plain functions, on the real data."""

from __future__ import annotations

from typing import Any

import pytest
from examples.chain import chain
from examples.etl import flights
from examples.regions import region, regions

from penstock import Pipeline
from penstock_coordinator.core.plan.compile import compile_plan


@pytest.fixture(scope="module")
def february() -> dict[str, Any]:
    return flights.load_month(2, 15)


def test_survey_finds_the_months_that_exist() -> None:
    found = flights.survey([1, 2, 13])
    assert found == {"months": [1, 2], "rows": {"1": 27_004, "2": 24_951}}


def test_month_is_counted_the_same_by_airline_and_by_day(february: dict[str, Any]) -> None:
    sums = [
        {name: sum(tally[name] for tally in february[key].values()) for name in ("flights", "cancelled", "late")}
        for key in ("airlines", "days")
    ]
    assert sums[0] == sums[1]
    assert sums[0]["flights"] == 24_951
    assert len(february["days"]) == 28


def test_join_names_airlines_and_puts_the_latest_first(february: dict[str, Any]) -> None:
    year = flights.join_airlines([february], flights.airline_names())
    shares = [row["late_share"] for row in year["airlines"]]
    assert shares == sorted(shares, reverse=True)
    assert "JetBlue Airways" in {row["airline"] for row in year["airlines"]}
    assert year["total"]["cancelled"] == sum(row["cancelled"] for row in year["airlines"])


def test_worst_day_of_february_is_that_of_the_blizzard(february: dict[str, Any]) -> None:
    year = flights.join_airlines([february], {})
    worst = flights.worst_days([february], year, flights.weather())
    assert [day["day"] for day in worst[:2]] == ["2/8", "2/9"]
    assert worst[0]["cancelled"] == 472
    assert worst[0]["visibility_miles"] < 5


def test_report_does_without_worst_days(february: dict[str, Any]) -> None:
    year = flights.join_airlines([february], {})
    assert flights.report(year, None) == {**year, "worst_days": []}


@pytest.mark.parametrize("pipeline", [flights.late_flights, chain, region, regions], ids=lambda pipeline: pipeline.name)
def test_coordinator_takes_the_examples(pipeline: Pipeline) -> None:
    plan = compile_plan(pipeline.spec("0" * 64), "digest")
    assert [step.name for step in plan.steps] == list(pipeline.graph().nodes)

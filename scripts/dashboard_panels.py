"""What a dashboard is made of, and the queries that its panels share."""

from __future__ import annotations

from dataclasses import dataclass

from grafana_foundation_sdk.models import units

STAT, LINES, STACK = "stat", "lines", "stack"
"""One number; a line per series; areas on top of each other."""


@dataclass(frozen=True)
class Query:
    expr: str
    legend: str = "__auto"


@dataclass(frozen=True)
class Panel:
    title: str
    description: str
    unit: str
    queries: tuple[Query, ...]
    kind: str = LINES
    red_from: float | None = None
    """Numbers from here on are red; with `red_below` those under it."""
    red_below: float | None = None


@dataclass(frozen=True)
class Row:
    title: str
    panels: tuple[Panel, ...]


@dataclass(frozen=True)
class Board:
    uid: str
    title: str
    description: str
    rows: tuple[Row, ...]


def stat(title: str, expr: str, description: str, unit: str = units.Short, **red: float) -> Panel:
    return Panel(title, description, unit, (Query(expr),), STAT, red.get("red_from"), red.get("red_below"))


def lines(title: str, unit: str, description: str, *queries: tuple[str, str]) -> Panel:
    return Panel(title, description, unit, tuple(Query(*each) for each in queries))


def stack(title: str, unit: str, description: str, *queries: tuple[str, str]) -> Panel:
    return Panel(title, description, unit, tuple(Query(*each) for each in queries), STACK)


# `$__rate_interval` is Grafana's: the span that fits what the screen and the scrapes can tell apart.


def rate(counter: str, *labels: str) -> str:
    by = f" by ({', '.join(labels)})" if labels else ""
    return f"sum{by} (rate({counter}[$__rate_interval]))"


def quantile(share: float, histogram: str, *labels: str) -> str:
    return f"histogram_quantile({share:g}, {rate(f'{histogram}_bucket', 'le', *labels)})"

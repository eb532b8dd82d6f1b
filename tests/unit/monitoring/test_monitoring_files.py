"""Dashboards and rules are what they are made from, and can be read by those who will."""

from __future__ import annotations

import re
import warnings
from typing import Any

import promql_parser
import pytest
from scripts import write_dashboards, write_slo_rules
from tests.unit.monitoring import monitoring_files as files
from tests.unit.monitoring.monitoring_files import Query

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)
    from grafana_foundation_sdk.cog.encoder import JSONEncoder
    from grafana_foundation_sdk.cog.plugins import register_default_plugins
    from grafana_foundation_sdk.models.dashboard import Dashboard

ALL_QUERIES = [*files.queries_of_dashboards(), *files.queries_of_rules(), *files.queries_of_runbooks()]


def test_the_rules_of_objectives_are_up_to_date() -> None:
    assert write_slo_rules.FILE.read_text(encoding="utf-8") == write_slo_rules.written(), write_slo_rules.REMEDY


def test_the_dashboards_are_up_to_date() -> None:
    there = {path.name: path.read_text(encoding="utf-8") for path in files.DASHBOARDS}
    assert there == write_dashboards.files(), write_dashboards.REMEDY


@pytest.mark.parametrize("name", [path.stem for path in files.DASHBOARDS])
def test_grafanas_own_model_reads_a_dashboard_and_loses_nothing(name: str) -> None:
    register_default_plugins()
    dashboard = files.dashboards()[name]
    read = JSONEncoder(sort_keys=True).encode(Dashboard.from_json(dashboard))
    assert read == JSONEncoder(sort_keys=True).encode(dashboard)


def test_dashboards_have_a_name_of_their_own_and_a_choice_of_prometheus() -> None:
    dashboards = files.dashboards()
    assert {name: each["uid"] for name, each in dashboards.items()} == {name: name for name in dashboards}
    assert len({each["title"] for each in dashboards.values()}) == len(dashboards) == 5
    for name, dashboard in dashboards.items():
        (variable,) = dashboard["templating"]["list"]
        assert (variable["name"], variable["type"], variable["query"]) == ("datasource", "datasource", "prometheus")
        numbers = [panel["id"] for panel in dashboard["panels"]]
        assert len(set(numbers)) == len(numbers), name


def test_panels_say_what_they_show_and_do_not_overlap() -> None:
    for name, dashboard in files.dashboards().items():
        taken: set[tuple[int, int]] = set()
        for panel in dashboard["panels"]:
            place = panel["gridPos"]
            covered = {
                (place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])
            }  # fmt: skip
            assert not covered & taken, f"{name}: {panel['title']} covers another panel"
            assert place["x"] + place["w"] <= 24, f"{name}: {panel['title']}"
            taken |= covered
        for panel in files.panels(dashboard):
            _says_what_it_shows(name, panel)


def _says_what_it_shows(name: str, panel: Any) -> None:
    assert panel["description"].endswith("."), f"{name}: {panel['title']}"
    assert panel["fieldConfig"]["defaults"]["unit"], f"{name}: {panel['title']}"
    assert panel["datasource"]["uid"] == "${datasource}"
    for target in panel["targets"]:
        assert target["datasource"]["uid"] == "${datasource}"


@pytest.mark.parametrize("query", ALL_QUERIES, ids=lambda query: query.where)
def test_every_query_is_promql(query: Query) -> None:
    promql_parser.parse(query.expr.replace("$__rate_interval", "1m"))


def test_recorded_series_that_are_asked_for_are_recorded() -> None:
    recorded = {rule["record"] for rule in files.rules() if "record" in rule}
    asked = {name for query in ALL_QUERIES for name in re.findall(r"\bpenstock:[\w:]+", query.expr)}
    assert asked <= recorded


def test_metrics_that_are_asked_for_are_told() -> None:
    told = set(re.findall(r"^\| `(penstock_\w+)` ", (files.ROOT / "docs" / "metrics.md").read_text(), re.MULTILINE))
    asked = {name for query in ALL_QUERIES for name in re.findall(r"\bpenstock_\w+", query.expr)}
    assert {re.sub("_(bucket|count|sum)$", "", name) for name in asked - told} <= told

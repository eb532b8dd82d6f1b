"""What is in deploy/ and docs/runbooks for those who watch Penstock, as tests read it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[3]
RULES = sorted((ROOT / "deploy" / "prometheus" / "rules").glob("*.yml"))
RULE_TESTS = sorted((ROOT / "deploy" / "prometheus" / "tests").glob("*.yml"))
DASHBOARDS = sorted((ROOT / "deploy" / "grafana" / "dashboards").glob("*.json"))
RUNBOOKS = sorted((ROOT / "docs" / "runbooks").glob("*.md"))
OPERATIONS = (ROOT / "docs" / "operations.md", ROOT / "docs" / "slo.md")


@dataclass(frozen=True)
class Query:
    """One expression, and where it stands."""

    where: str
    expr: str


def rules() -> list[dict[str, Any]]:
    """All that record and all that alert."""
    found = (yaml.safe_load(path.read_text(encoding="utf-8")) for path in RULES)
    return [rule for file in found for group in file["groups"] for rule in group["rules"]]


def alerts() -> list[dict[str, Any]]:
    return [rule for rule in rules() if "alert" in rule]


def dashboards() -> dict[str, Any]:
    return {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in DASHBOARDS}


def panels(dashboard: Any) -> list[Any]:
    return [panel for panel in dashboard["panels"] if panel["type"] != "row"]


def queries_of_dashboards() -> Iterator[Query]:
    for name, dashboard in dashboards().items():
        for panel in panels(dashboard):
            for target in panel["targets"]:
                yield Query(f"{name}: {panel['title']}", target["expr"])


def queries_of_rules() -> Iterator[Query]:
    for rule in rules():
        yield Query(rule.get("alert") or rule["record"], rule["expr"])


def queries_of_runbooks() -> Iterator[Query]:
    for path in RUNBOOKS:
        for expr in blocks(path, "promql"):
            yield Query(path.stem, expr)


def blocks(path: Path, language: str) -> list[str]:
    """The blocks of code of a page."""
    return re.findall(rf"^```{language}\n(.*?)^```", path.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)

"""docs/conditions.md says what is so."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from penstock_coordinator.core.plan.cel import cost, functions, syntax
from penstock_coordinator.core.plan.cel.kinds import STATES
from penstock_coordinator.core.plan.conditions import Condition, Scope, check
from penstock_coordinator.core.plan.limits import DEFAULT_LIMITS

PAGE = (Path(__file__).parents[3] / "docs" / "conditions.md").read_text()

PARAMETERS = {"limit": 100, "mode": "full", "regions": ["eu", "us"]}
STEPS: dict[str, dict[str, Any]] = {
    "extract": {
        "state": "COMPLETED",
        "output": {
            "rows": 250,
            "kind": "orders",
            "files": [{"name": "a.csv", "bytes": 10}, {"name": "b.csv", "bytes": 0}],
        },
    },
    "check-quality": {"state": "FAILED", "output": None},
}
ITEM = {"region": "eu", "size": 3}
EXAMPLES = [
    (source.replace("\\|", "|"), answer == "true")
    for source, answer in re.findall(r"^\| `(.+)` \| (true|false) \|$", PAGE, re.MULTILINE)
]


@pytest.mark.parametrize(("source", "answer"), EXAMPLES)
def test_the_examples(source: str, answer: bool) -> None:
    check(source, Scope({"limit": 2, "mode": 1, "regions": 5}, STEPS.keys(), STEPS.keys(), mapped=True))
    assert Condition(source).evaluate(PARAMETERS, STEPS, ITEM) is answer


def test_there_are_examples() -> None:
    assert len(EXAMPLES) >= 10


def test_all_functions_and_macros_are_named() -> None:
    for name in [*functions.FUNCTIONS, *functions.MACROS, "has"]:
        assert re.search(rf"`{name}\b", PAGE), name


def test_the_states_are_states() -> None:
    assert set(re.findall(r"`([A-Z_]{5,})`", PAGE)) <= set(STATES)


def test_the_bounds() -> None:
    rows = dict(re.findall(r"^\| ([a-z ]+) \| ([\d,]+)", PAGE, re.MULTILINE))
    assert rows == {
        "length of an expression": f"{DEFAULT_LIMITS.condition_bytes:,}",
        "nesting": str(syntax.MAX_DEPTH),
        "cost": f"{cost.MAX_COST:,}",
        "a list of unknown length counts as": f"{cost.UNKNOWN_SIZE:,}",
        "a pattern": str(functions.MAX_PATTERN),
    }

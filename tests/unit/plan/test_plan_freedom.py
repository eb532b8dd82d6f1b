"""Which runs may be any owner's, and why others stay with the head."""

from __future__ import annotations

from typing import Any

import pytest
from tests.unit.plan.specs import base, spec_of

from penstock_coordinator.core.plan.compile import compile_plan
from penstock_coordinator.core.plan.freedom import asked_bound_by, bound_by

LIMIT = {"key": "k", "limit": 1}


def cause(document: dict[str, Any]) -> str:
    return bound_by(compile_plan(spec_of(document), "0" * 64))


def step(**fields: Any) -> dict[str, Any]:
    return {"name": "last", "command": {"argv": ["true"]}, **fields}


BOUND: list[tuple[dict[str, Any], str]] = [
    ({"concurrency": LIMIT}, "its runs share a limit (concurrency)"),
    ({"maxActiveRuns": 3}, "so many of its runs may be active at once (max_active_runs)"),
    (
        {"budget": {"slotSeconds": 1, "per": "COST_BUDGET_PER_WEEK"}},
        "its runs share a budget of a week (budget)",
    ),
    ({"labels": {"slo_tier": "non-critical"}}, "its runs are non-critical (slo_tier)"),
    ({"steps": [step(concurrency=LIMIT)]}, "the step 'last' shares a limit (concurrency)"),
    ({"steps": [step(cache={"expires": "60s"})]}, "the step 'last' may take its value from the cache (cache)"),
    (
        {"steps": [{"name": "last", "pipeline": {"name": "other"}}]},
        "the step 'last' is a run of another pipeline (pipeline)",
    ),
]


@pytest.mark.parametrize(("fields", "words"), BOUND)
def test_what_runs_share_binds_them(fields: dict[str, Any], words: str) -> None:
    assert cause({**base(), **fields}) == words


@pytest.mark.parametrize(
    "fields",
    [{}, {"budget": {"slotSeconds": 1}}, {"maxParallel": 2}, {"labels": {"slo_tier": "default", "team": "a"}}],
)
def test_what_a_run_has_alone_does_not(fields: dict[str, Any]) -> None:
    assert not cause({**base(), **fields})


def test_a_request_may_bind_what_its_plan_does_not() -> None:
    assert not asked_bound_by(0, 1.0, "")
    assert asked_bound_by(0, 1.0, "nightly") == "it has a run key"
    assert asked_bound_by(0, 1.0, "", child=True) == "it is a step of another run"
    assert asked_bound_by(-2, 1.0, "") == "its priority is -2, and not 0"
    assert asked_bound_by(0, 0.5, "") == "its weight is 0.5, and not 1"

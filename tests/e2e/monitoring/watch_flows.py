"""Runs of every kind that is counted: of three tiers, with retries, dead letters, values from the cache, artifacts."""

from __future__ import annotations

import os
from typing import Any

from penstock import Retry, pipeline, step


@step(retry=Retry(max_attempts=2))
def fails_once() -> int:
    if os.environ["PENSTOCK_ATTEMPT"] == "1":
        raise ValueError("not at once")
    print("this time it does")
    return 1


@step
def fails() -> None:
    raise ValueError("never")


@step(cache=True)
def remembered(value: int) -> int:
    return value + 1


@step
def large() -> str:
    """Too large to stand beside the run: an artifact."""
    return "x" * 200_000


@step
def length(text: str) -> int:
    return len(text)


@pipeline(labels={"slo_tier": "critical"})
def tried_again() -> Any:
    return remembered(fails_once())


@pipeline(labels={"slo_tier": "non-critical"})
def in_vain() -> None:
    fails()


@pipeline
def with_artifact() -> Any:
    return length(large())

"""Runs to be backed up: one with an artifact, one that waits for a file."""

from __future__ import annotations

import threading
import time
from pathlib import Path

from penstock import pipeline, step

LARGE = 200_000


@step
def large(letter: str) -> str:
    """More than stays in a run: it becomes an artifact."""
    return letter * LARGE


@pipeline
def with_an_artifact(letter: str) -> str:
    return large(letter)


@step
def first(ledger: str) -> int:
    Path(ledger).write_text("began")
    return 1


@step
def wait_for(value: int, path: str) -> int:
    deadline = time.monotonic() + 600
    while not Path(path).exists() and time.monotonic() < deadline:
        threading.Event().wait(0.05)
    return value + 1


@pipeline
def that_waits(ledger: str, path: str) -> int:
    return wait_for(first(ledger), path)

"""Pipelines whose steps fail for good: by killing their agent, and by themselves."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from penstock import Retry, pipeline, step

PATIENCE = 240.0
"""Longer than the test itself waits for anything: no step gives up, or ends, before the test does."""


def _attempt() -> int:
    return int(os.environ["PENSTOCK_ATTEMPT"])


def _wait_for(path: Path) -> None:
    end = time.monotonic() + PATIENCE
    while not path.exists():
        if time.monotonic() > end:
            raise TimeoutError(str(path))
        time.sleep(0.01)


@step(retry=Retry(max_attempts=2))
def kills_its_agent(folder: str) -> str:
    """Three times, unless somebody mends it; each time when the test has seen what it wrote."""
    print(f"attempt {_attempt()} begins")
    if (Path(folder) / "mended").exists():
        return "fine"
    if _attempt() == 1:
        _wait_for(Path(folder) / "calm-1")
    _wait_for(Path(folder) / f"seen-{_attempt()}")
    os.kill(os.getppid(), signal.SIGKILL)
    time.sleep(PATIENCE)
    return "never"


@step
def calm(folder: str) -> int:
    """Is on the same agent when that dies for the first time."""
    attempt = _attempt()
    (Path(folder) / f"calm-{attempt}").touch()
    if attempt == 1:
        time.sleep(PATIENCE)
    return attempt


@pipeline
def deadly(folder: str) -> None:
    kills_its_agent(folder)
    calm(folder)


@step
def breaks(item: int, folder: str) -> int:
    if not (Path(folder) / "mended").exists():
        raise ValueError(f"item {item} is broken")
    return item


@step
def total(numbers: list[int]) -> int:
    return sum(numbers)


@pipeline
def broken(folder: str) -> None:
    total(breaks.map([1, 2, 3], folder=folder))

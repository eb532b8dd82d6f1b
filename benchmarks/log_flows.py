"""Steps that print at a steady rate, and the same steps with standard output on the null device."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from penstock import pipeline, step

BURST_SECONDS = 0.01


@step
def speak(speaker: int, lines: int, rate: int, folder: str, null: bool) -> float:
    """How long it took, in seconds. `rate` in lines per second; 0: as fast as it goes."""
    with _on_the_null_device() if null else contextlib.nullcontext():
        _meet(folder, speaker)
        began = time.monotonic()
        _say(speaker, lines, rate, began)
        return time.monotonic() - began


@contextlib.contextmanager
def _on_the_null_device() -> Iterator[None]:
    """Standard output: of this step alone, the process is for others, too."""
    kept, null = os.dup(1), os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    try:
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)
        os.close(null)


def _say(speaker: int, lines: int, rate: int, began: float) -> None:
    burst = max(int(rate * BURST_SECONDS), 1) if rate else lines
    for first in range(0, lines, burst):
        if rate:
            time.sleep(max(began + first / rate - time.monotonic(), 0))
        for number in range(first + 1, min(first + burst, lines) + 1):
            print(f"{time.time():.6f} speaker {speaker} has something to say for the {number}th time", flush=True)


def _meet(folder: str, speaker: int) -> None:
    """All begin at once."""
    (Path(folder) / f"ready-{speaker}").touch()
    while not (Path(folder) / "go").exists():
        time.sleep(BURST_SECONDS)


@pipeline
def chorus(speakers: list[int], lines: int, rate: int, folder: str, null: bool) -> Any:
    return speak.map(speaker=speakers, lines=lines, rate=rate, folder=folder, null=null)

"""Steps that print at a steady rate, and the same steps with standard output on the null device."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any

from penstock import pipeline, step

BURST_SECONDS = 0.01


@step
def speak(speaker: int, lines: int, rate: int, folder: str, null: bool) -> float:
    """How long it took, in seconds. `rate` in lines per second; 0: as fast as it goes."""
    if null:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    _meet(folder, speaker)
    burst = max(int(rate * BURST_SECONDS), 1) if rate else lines
    began = time.monotonic()
    for first in range(0, lines, burst):
        if rate:
            time.sleep(max(began + first / rate - time.monotonic(), 0))
        for number in range(first + 1, min(first + burst, lines) + 1):
            print(f"{time.time():.6f} speaker {speaker} has something to say for the {number}th time", flush=True)
    return time.monotonic() - began


def _meet(folder: str, speaker: int) -> None:
    """All begin at once."""
    (Path(folder) / f"ready-{speaker}").touch()
    while not (Path(folder) / "go").exists():
        time.sleep(BURST_SECONDS)
    sys.stdout.flush()


@pipeline
def chorus(speakers: list[int], lines: int, rate: int, folder: str, null: bool) -> Any:
    return speak.map(speaker=speakers, lines=lines, rate=rate, folder=folder, null=null)

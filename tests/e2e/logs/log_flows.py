"""Steps that talk, and wait for each other before they begin; those that pause wait again before the last fifth."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

from penstock import pipeline, step

PAUSE = 0.002


def _meet(folder: str, speaker: int) -> None:
    """Until the test says so."""
    (Path(folder) / f"ready-{speaker}").touch()
    _wait(folder, "go")


def _wait(folder: str, gate: str) -> None:
    while not (Path(folder) / gate).exists():
        time.sleep(PAUSE)


@step
def talk(speaker: int, lines: int, folder: str, pause: float) -> int:
    _meet(folder, speaker)
    for number in range(1, lines + 1):
        print(f"speaker {speaker} line {number}", file=sys.stderr if number % 5 == 0 else sys.stdout, flush=True)
        if pause:
            time.sleep(pause)
            if number == lines * 4 // 5:
                _wait(folder, "end")
    return lines


@pipeline
def talkers(speakers: list[int], lines: int, folder: str, pause: float) -> Any:
    return talk.map(speaker=speakers, lines=lines, folder=folder, pause=pause)

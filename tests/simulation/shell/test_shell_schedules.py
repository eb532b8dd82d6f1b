"""Schedules of the real shell: seeds that stay, some that nobody has played before, and the same one again."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from tests.simulation.shell.schedule import Report, Script, play

ROOT = Path(__file__).parents[3]
FIXED = 30
FRESH_SECONDS = float(os.environ.get("PENSTOCK_SHELL_SECONDS", "8"))


def check(report: Report) -> None:
    again = f"python -m tests.simulation.shell --seed {report.script.seed}"
    shown = "\n".join(f"{at / 1e6:.6f} {' '.join(map(str, words))}" for at, *words in report.lines[-80:])
    assert report.broken is None, f"{report.broken}\n{again}\n{shown}"


@pytest.mark.parametrize("tens", range(FIXED // 10))
def test_fixed_seeds(tens: int) -> None:
    for seed in range(10 * tens, 10 * tens + 10):
        check(play(Script.of(seed)))


def test_fresh_seeds() -> None:
    first = random.SystemRandom().randrange(1 << 40)
    print(f"schedules from seed {first}")
    for seed in _for_a_while(first):
        check(play(Script.of(seed)))


def _for_a_while(first: int) -> Iterator[int]:
    until = time.monotonic() + FRESH_SECONDS
    while time.monotonic() < until:
        yield first
        first += 1


def test_a_seed_is_the_same_schedule_whenever_it_is_played() -> None:
    code = (
        "import json; from tests.simulation.shell.schedule import Script, play;"
        "print(json.dumps([play(Script.of(seed)).digest for seed in (3, 8, 15, 26)]))"
    )
    players = [
        subprocess.Popen(
            [sys.executable, "-c", code],
            cwd=ROOT,
            env={**os.environ, "PYTHONHASHSEED": str(number), "PYTHONPATH": os.pathsep.join([*sys.path, str(ROOT)])},
            stdout=subprocess.PIPE,
        )
        for number in (1, 2, 3)
    ]
    digests = [json.loads(player.communicate(timeout=240)[0]) for player in players]

    assert digests[0] == digests[1] == digests[2]
    assert len(set(digests[0])) == 4


def test_a_script_survives_its_way_through_a_command() -> None:
    script = Script.of(7)

    assert msgspec.json.decode(msgspec.json.encode(script), type=Script) == script

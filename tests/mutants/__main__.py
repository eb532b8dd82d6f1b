"""Breaks the rules of runs on purpose, one at a time, and sees that the tests find each break.

python -m tests.mutants [NAME...]

Each mutant is a copy of the coordinator's package with one place changed. The golden scripts are played against it,
then random schedules, until something fails: then it is dead. One that lives shows what the tests would not notice.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.mutants.changes import MUTANTS, Mutant

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "coordinator" / "penstock_coordinator"
HUNTERS = (
    ("tests/scripts/run",),
    ("tests/unit/run", "-k", "not schedules and not mutant and not states_page"),
    ("tests/unit/run/test_schedules.py",),
)
"""What is run against a mutant, quickest first."""
PATIENCE = 300


def kill(mutant: Mutant) -> str | None:
    """What killed it; None if it lives."""
    with tempfile.TemporaryDirectory(prefix="penstock-mutant-") as folder:
        copy = Path(folder) / PACKAGE.name
        shutil.copytree(PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__"))
        mutant.apply(copy)
        for hunter in HUNTERS:
            if not _passes(folder, hunter):
                return hunter[0]
    return None


def _passes(folder: str, hunter: tuple[str, ...]) -> bool:
    path = os.pathsep.join([folder, str(ROOT / "agent"), str(ROOT / "sdk"), str(ROOT)])
    environment = {**os.environ, "PYTHONPATH": path, "PENSTOCK_SCHEDULES": "2000"}
    command = [sys.executable, "-m", "pytest", "-q", "-x", *hunter]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, timeout=PATIENCE, check=False)
    assert done.returncode in (0, 1), done.stdout.decode()[-2_000:] + done.stderr.decode()[-2_000:]
    return done.returncode == 0


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.mutants")
    parser.add_argument("names", nargs="*", metavar="NAME", help="(all)")
    names = set(parser.parse_args().names)
    survivors = []
    for mutant in MUTANTS:
        if names and mutant.name not in names:
            continue
        began = time.monotonic()
        killer = kill(mutant)
        if killer is None:
            survivors.append(mutant.name)
        fate = f"killed by {killer}" if killer else "LIVES"
        sys.stdout.write(f"{mutant.name:<34} {fate:<44} {time.monotonic() - began:5.1f} s\n")
        sys.stdout.flush()
    if survivors:
        sys.stdout.write(f"not found: {', '.join(survivors)}\n")
    return 1 if survivors else 0


if __name__ == "__main__":
    raise SystemExit(main())

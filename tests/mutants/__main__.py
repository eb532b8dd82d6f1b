"""Breaks things on purpose, one at a time, and sees that the tests find each break.

python -m tests.mutants [NAME...]

Each mutant is a copy of a package with one place changed. Against one of the rules of runs the golden scripts are
played, then random schedules, until something fails: then it is dead. One of the shell is hunted by the simulator of
the real shell; one of the protocol, of dispatch, of what is made of a commit or of ownership by that of the cores, which
tells the promise that it found broken. One that lives shows what the tests would not notice.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.mutants.changes import MUTANTS, Mutant
from tests.mutants.overload import OVERLOAD_MUTANTS
from tests.mutants.ownership import OWNERSHIP
from tests.mutants.promises import SIMULATED
from tests.mutants.several import SEVERAL
from tests.mutants.shell import SHELL_MUTANTS

ROOT = Path(__file__).resolve().parents[2]
_PYTEST = ("pytest", "-q", "-x", "--timeout", "40")
"""A test that hangs has found the mutant: some take an end from what waits."""
ALL = (*MUTANTS, *SIMULATED, *OWNERSHIP, *SEVERAL, *SHELL_MUTANTS, *OVERLOAD_MUTANTS)
HUNTERS = {
    "rules": (
        (*_PYTEST, "tests/scripts/run"),
        (*_PYTEST, "tests/unit/run", "-k", "not schedules and not mutant and not states_page"),
        (*_PYTEST, "tests/unit/run/test_schedules.py"),
    ),
    "fleet": ((*_PYTEST, "tests/unit/fleet"),),
    "agent": ((*_PYTEST, "tests/scripts/agent"),),
    "cores": (("tests.simulation.cores", "--hunt", "--seconds", "60"),),
    "cluster": (("tests.simulation.cores", "--several", "--hunt", "--seconds", "60"),),
    "members": (("tests.simulation.cores", "--members", "--hunt", "--seconds", "60"),),
    "overload": (
        (*_PYTEST, "tests/unit/overload"),
        (*_PYTEST, "tests/integration/runtime/test_bounded_buffers.py"),
        (*_PYTEST, "tests/integration/api/test_overload_over_the_wire.py"),
    ),
    "shell": (("tests.simulation.shell", "--first", "0", "--seconds", "60", "--no-shrink"),),
}
"""What is run against a mutant, quickest first: modules with their arguments, that end with 1 when they found it."""
PATIENCE = 1_800
"""Seconds. A hunter counts its own processor time, of which a busy machine gives little."""


def kill(mutant: Mutant) -> str | None:
    """What killed it; None if it lives."""
    with tempfile.TemporaryDirectory(prefix="penstock-mutant-") as folder:
        for change in mutant.changes:
            package = ROOT / change.package
            copy = Path(folder) / package.name
            if not copy.exists():
                shutil.copytree(package, copy, ignore=shutil.ignore_patterns("__pycache__"))
            change.apply(copy)
        for hunter in HUNTERS[mutant.hunter]:
            aimed = ("--faults", *mutant.faults) if mutant.faults else ()
            found = _found(folder, (*hunter, *aimed))
            if found is not None:
                return f"{next(word for word in hunter if word.startswith('tests'))}{found}"
    return None


def _found(folder: str, hunter: tuple[str, ...]) -> str | None:
    """None: nothing. Else what the hunter tells of it, if anything."""
    parts = (ROOT / part for part in ("coordinator", "agent", "sdk", "."))
    path = os.pathsep.join([folder, *map(str, parts)])
    environment = {**os.environ, "PYTHONPATH": path, "PENSTOCK_SCHEDULES": "2000"}
    command = [sys.executable, "-m", *hunter]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, timeout=PATIENCE, check=False)
    told = done.stdout.decode()[-2_000:] + done.stderr.decode()[-2_000:]
    assert done.returncode in (0, 1), told
    assert "ImportError" not in told, told
    if done.returncode == 0:
        return None
    lines = done.stdout.decode().splitlines()
    last = json.loads(lines[-1]) if lines and lines[-1].startswith("{") else {}
    return f": {last['invariant']}, schedule {last['schedules']}" if "invariant" in last else ""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.mutants")
    parser.add_argument("names", nargs="*", metavar="NAME", help="(all)")
    names = set(parser.parse_args().names)
    survivors = []
    for mutant in ALL:
        if names and mutant.name not in names:
            continue
        began = time.monotonic()
        killer = kill(mutant)
        if killer is None:
            survivors.append(mutant.name)
        fate = f"killed by {killer}" if killer else "LIVES"
        sys.stdout.write(f"{mutant.name:<60} {fate:<80} {time.monotonic() - began:5.1f} s\n")
        sys.stdout.flush()
    if survivors:
        sys.stdout.write(f"not found: {', '.join(survivors)}\n")
    return 1 if survivors else 0


if __name__ == "__main__":
    raise SystemExit(main())

"""Plays schedules of the real shell, until one breaks or the time is over.

python -m tests.simulation.shell --seconds 60 --processes 2
python -m tests.simulation.shell --seed 17
python -m tests.simulation.shell --script '{"seed": 17, "kinds": ["agent killed"], ...}'
"""

from __future__ import annotations

import argparse
import random
import sys
import time
import traceback
from collections.abc import Sequence

import msgspec
from tests.simulation.shell.many import play_many
from tests.simulation.shell.schedule import Report, Script, play
from tests.simulation.shell.shrinking import shrink

QUIET = {"heartbeat", "heartbeat_ack"}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation.shell", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0, help="how long schedules are played")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--first", type=int, help="the first seed of many (drawn)")
    parser.add_argument("--faults", nargs="*", default=(), help="kinds of them, instead of those of each seed")
    parser.add_argument("--seed", type=int, help="play this one, and show what happens")
    parser.add_argument("--script", help="play this one, as a failure gave it, and show what happens")
    parser.add_argument("--no-shrink", dest="shrinks", action="store_false", help="show a failure as it is")
    chosen = parser.parse_args()
    if chosen.seed is not None or chosen.script is not None:
        script = Script.of(chosen.seed) if chosen.script is None else msgspec.json.decode(chosen.script, type=Script)
        return _show(play(script))
    first = random.SystemRandom().randrange(1 << 40) if chosen.first is None else chosen.first
    return _play_many(first, chosen.seconds, chosen.processes, chosen.faults, shrinks=chosen.shrinks)


def _play_many(first: int, seconds: float, processes: int, kinds: Sequence[str], *, shrinks: bool) -> int:
    sys.stdout.write(f"shell: schedules from seed {first}\n")
    sys.stdout.flush()
    began = time.monotonic()
    harvest = play_many(first, seconds, processes, kinds)
    spent = time.monotonic() - began
    sys.stdout.write(
        f"shell: {harvest.schedules} schedules in {spent:.1f} s on {processes} processes,"
        f" {harvest.schedules / spent:.1f}/s; {harvest.runs} runs, {harvest.turns} callbacks\n"
    )
    for title, counts in (("faults", harvest.faults), ("events", harvest.events)):
        sys.stdout.write(f"  {title}: {', '.join(f'{name} {count}' for name, count in sorted(counts.items()))}\n")
    return 0 if harvest.broken is None else _fail(harvest.broken, shrinks=shrinks)


def _fail(report: Report, *, shrinks: bool) -> int:
    sys.stdout.write(f"shell: seed {report.script.seed} breaks {report.broken}\n")
    sys.stdout.write(f"  python -m tests.simulation.shell --seed {report.script.seed}\n")
    if shrinks:
        sys.stdout.write("shrinking for a minute\n")
        sys.stdout.flush()
        report = shrink(play(report.script))
    return _show(report)


def _show(report: Report) -> int:
    for at, *words in report.lines:
        if not QUIET.intersection(map(str, words)):
            sys.stdout.write(f"{at / 1e6:12.6f}  {' '.join(map(str, words))}\n")
    told = ", ".join(f"{name} {count}" for name, count in sorted(report.faults.items()))
    sys.stdout.write(f"{report.runs} runs, {report.turns} callbacks, trace {report.digest}; faults: {told or 'none'}\n")
    if report.broken is None:
        return 0
    sys.stdout.write(f"BROKEN {report.broken}\n")
    sys.stdout.write(f"  python -m tests.simulation.shell --script '{msgspec.json.encode(report.script).decode()}'\n")
    return 1


if __name__ == "__main__":
    try:
        raise SystemExit(main())
    except Exception:
        # 1 is for a schedule that breaks; this is the simulator's own fault.
        traceback.print_exc()
        raise SystemExit(3) from None

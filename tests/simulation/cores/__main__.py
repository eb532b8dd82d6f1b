"""Schedules of the real cores for a while, on several processes.

python -m tests.simulation.cores [--seconds S] [--processes N] [--first SEED] [--schedules N]
python -m tests.simulation.cores --seed SEED      plays one schedule again, and tells what happened

The exit code is 1 if a promise was broken, if fewer schedules were played than asked for, or if an event or a
transition that docs/states.md names was never seen.
"""

from __future__ import annotations

import argparse
import gc
import json
import secrets
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from tests.simulation.cores.coverage import DOCUMENTED, EVENTS, Coverage
from tests.simulation.cores.schedules import scenario
from tests.unit.run.transitions import Subject, Transition

from penstock.testing.faults import FaultKind
from penstock.testing.shrinking import script, shrunk
from penstock.testing.simulation import Outcome, Simulation

STRIDE = 1_000_000
"""Between the seeds of two processes."""
REPORT_EVERY = 500
TIDY_EVERY = 8
"""Of so many schedules what they left is taken away at once: it is found sooner while the processor still has it."""
FRESH = 1 << 40
MOST_REPORTED = 3


def main() -> int:
    options = _parser().parse_args()
    if options.seed is not None:
        return _play_again(options.seed)
    if options.hunt:
        return _hunt(options.first or 0, options.seconds, options.faults)
    if options.worker:
        _work(options.first, options.seconds)
        return 0
    first = secrets.randbelow(FRESH) if options.first is None else options.first
    return Campaign(first, options.seconds, options.processes, options.schedules).run()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation.cores")
    parser.add_argument("--seconds", type=float, default=60.0, help="how long each process plays")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--first", type=int, help="the first seed; a fresh one if it is not given")
    parser.add_argument("--schedules", type=int, default=0, help="fail if fewer were played; then all is to be seen")
    parser.add_argument("--seed", type=int, help="play this one again")
    parser.add_argument("--hunt", action="store_true", help="stop at the first broken promise, and tell it as JSON")
    parser.add_argument("--faults", nargs="*", type=FaultKind, default=tuple(FaultKind), help="kinds to hunt with")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    return parser


def _play_again(seed: int) -> int:
    outcome = Simulation(scenario(seed)).play()
    if outcome.violation is None:
        sys.stdout.write(f"seed {seed}: every promise held; {outcome.steps} things happened, {outcome.trace_hash}\n")
        return 0
    sys.stdout.write(script(shrunk(outcome), command(seed)) + "\n")
    return 1


def command(seed: int) -> str:
    """What plays the schedule again."""
    return f"python -m tests.simulation.cores --seed {seed}"


def _hunt(first: int, seconds: float, kinds: Sequence[FaultKind]) -> int:
    """For mutants: the first promise that is broken, within so many seconds of processor time."""
    gc.freeze()
    gc.disable()
    began, seed = time.process_time(), first
    while time.process_time() - began < seconds:
        violation = Simulation(scenario(seed, kinds)).play().violation
        seed += 1
        if violation is not None:
            _tell({"invariant": violation.invariant, "schedules": seed - first, "seconds": time.process_time() - began})
            return 1
        if seed % TIDY_EVERY == 0:
            gc.collect(0)
    _tell({"schedules": seed - first})
    return 0


# --- one process


def _work(first: int, seconds: float) -> None:
    """A line of JSON for some schedules, and one for each violation."""
    gc.freeze()
    gc.disable()  # schedules are short: what they leave is taken away between them
    began, seed, coverage = time.monotonic(), first, Coverage()
    while time.monotonic() - began < seconds:
        outcome = Simulation(scenario(seed), coverage.watch).play()
        coverage.add(outcome)
        if outcome.violation is not None:
            _tell({"violation": str(outcome.violation), "seed": seed})
        seed += 1
        if seed % TIDY_EVERY == 0:
            gc.collect(0)
        if coverage.schedules >= REPORT_EVERY:
            coverage = _report(coverage)
    _report(coverage)


def _report(coverage: Coverage) -> Coverage:
    transitions = [[each.subject.name, *each[1:]] for each in coverage.observations.transitions]
    counts = {"schedules": coverage.schedules, "steps": coverage.steps, "executions": coverage.executions}
    _tell({**counts, "faults": coverage.faults, "events": coverage.events, "transitions": transitions})
    gc.collect()
    gc.freeze()  # plans, which stay
    return Coverage()


def _tell(what: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


# --- all of them


@dataclass
class Campaign:
    first: int
    seconds: float
    processes: int
    wanted: int
    coverage: Coverage = field(default_factory=Coverage)
    violations: list[tuple[int, str]] = field(default_factory=list)

    def run(self) -> int:
        sys.stdout.write(f"seeds from {self.first}, {self.processes} processes, {self.seconds:.0f} s\n")
        sys.stdout.flush()
        began = time.monotonic()
        workers = [self._start(number) for number in range(self.processes)]
        for worker, output in zip(workers, outputs_of(workers), strict=True):
            for line in output.splitlines():
                self._hear(json.loads(line))
            if worker.returncode:
                raise SystemExit(f"a process of the simulation ended with {worker.returncode}")
        return self._conclude(time.monotonic() - began)

    def _start(self, number: int) -> subprocess.Popen[str]:
        first = self.first + number * STRIDE
        argv = [sys.executable, "-m", "tests.simulation.cores", "--worker", "--first", str(first)]
        return subprocess.Popen([*argv, "--seconds", str(self.seconds)], stdout=subprocess.PIPE, text=True)

    def _hear(self, told: dict[str, Any]) -> None:
        if "violation" in told:
            self.violations.append((told["seed"], told["violation"]))
            return
        coverage = self.coverage
        coverage.schedules += told["schedules"]
        coverage.steps += told["steps"]
        coverage.executions += told["executions"]
        coverage.faults.update(told["faults"])
        coverage.events.update(told["events"])
        found = {Transition(Subject[name], *rest) for name, *rest in told["transitions"]}
        coverage.observations.transitions |= found

    def _conclude(self, seconds: float) -> int:
        coverage = self.coverage
        rate = coverage.schedules / seconds
        each = rate / self.processes
        say = sys.stdout.write
        say(f"{coverage.schedules:,} schedules in {seconds:.0f} s: {rate:.0f}/s, {each:.0f}/s and process\n")
        say(f"{coverage.steps:,} things happened, {coverage.executions:,} attempts ran\n")
        say(f"faults: {_counted(coverage.faults)}\n")
        seen = len(EVENTS) - len(coverage.missing_events())
        say(f"events: {seen} of {len(EVENTS)} kinds: {_counted(coverage.events)}\n")
        missing = len(coverage.missing_transitions())
        say(f"transitions: {len(DOCUMENTED) - missing} of {len(DOCUMENTED)} that docs/states.md names\n")
        return 1 if self._complain() else 0

    def _complain(self) -> bool:
        coverage = self.coverage
        complaints = [f"not in docs/states.md: {_named(each)}" for each in coverage.unknown_transitions()]
        if self.wanted:
            complaints += [f"no {name} was seen" for name in coverage.missing_events()]
            complaints += [f"not seen: {_named(each)}" for each in coverage.missing_transitions()]
            if coverage.schedules < self.wanted:
                complaints.append(f"{coverage.schedules:,} schedules are fewer than {self.wanted:,}")
        for complaint in complaints:
            sys.stdout.write(complaint + "\n")
        for seed, violation in self.violations[:MOST_REPORTED]:
            sys.stdout.write(f"\nseed {seed}: {violation}\n{script(shrunk(_again(seed)), command(seed))}\n")
        if self.violations:
            sys.stdout.write(f"{len(self.violations)} schedules broke a promise\n")
        return bool(complaints or self.violations)


def outputs_of(workers: Sequence[subprocess.Popen[str]]) -> list[str]:
    """All are read at once: one that nobody reads stands still when its pipe is full."""
    with ThreadPoolExecutor(len(workers)) as readers:
        return list(readers.map(lambda worker: worker.communicate()[0], workers))


def _again(seed: int) -> Outcome:
    return Simulation(scenario(seed)).play()


def _named(transition: Transition) -> str:
    return f"{transition.subject.value}: {transition.before} {transition.event} {transition.after}"


def _counted(counts: Counter[str]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in sorted(counts.items()))


if __name__ == "__main__":
    raise SystemExit(main())

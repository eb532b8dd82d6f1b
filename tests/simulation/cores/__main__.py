"""Schedules of the real cores for a while, on several processes.

python -m tests.simulation.cores [--several | --members] [--seconds S] [--processes N] [--first SEED] [--schedules N]
python -m tests.simulation.cores [--several | --members] --seed SEED     plays one again, and tells what happened

With --several there are three coordinators, with --members two of them are members of the third. A campaign ends when
so many schedules were played, or the time is over.

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
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tests.simulation.cores.coverage import DOCUMENTED, EVENTS, Coverage
from tests.simulation.cores.schedules import cluster, members, scenario
from tests.unit.run.transitions import Subject, Transition

from penstock.testing.cluster import simulation_of
from penstock.testing.faults import OF_ALL, OF_ONE, OF_SEVERAL, FaultKind
from penstock.testing.shrinking import script, shrunk
from penstock.testing.simulation import Outcome, Scenario

if TYPE_CHECKING:
    from penstock.testing.invariants import Invariants

STRIDE = 1_000_000
"""Between the seeds of two processes."""
REPORT_EVERY = 500
TIDY_EVERY = 8
"""Of so many schedules what they left is taken away at once: it is found sooner while the processor still has it."""
FRESH = 1 << 40
MOST_REPORTED = 3


def main() -> int:
    options = _parser().parse_args()
    drawn = Drawn(options.world, options.faults)
    if options.seed is not None:
        return _play_again(drawn, options.seed)
    if options.hunt:
        return _hunt(drawn, options.first or 0, options.seconds)
    if options.worker:
        _work(drawn, options.first, options.seconds, options.schedules)
        return 0
    first = secrets.randbelow(FRESH) if options.first is None else options.first
    return Campaign(drawn, first, options.seconds, options.processes, options.schedules).run()


@dataclass(frozen=True)
class Drawn:
    """Where schedules come from."""

    world: str = ""
    """"": one coordinator; "several": three, "members": three, of which two are members of the third."""
    kinds: Sequence[FaultKind] | None = None
    """All that there are, if not given."""

    @property
    def possible(self) -> Sequence[FaultKind]:
        return {"": OF_ONE, "several": OF_SEVERAL, "members": OF_ALL}[self.world]

    def scenario(self, seed: int) -> Scenario:
        draw = {"": scenario, "several": cluster, "members": members}[self.world]
        return draw(seed, self.kinds or self.possible)

    def play(self, seed: int, watch: Callable[[Invariants], None] | None = None) -> Outcome:
        return simulation_of(self.scenario(seed), watch).play()

    @property
    def option(self) -> list[str]:
        return [f"--{self.world}"] if self.world else []

    def command(self, seed: int) -> str:
        """What plays the schedule again."""
        return " ".join(["python -m tests.simulation.cores", *self.option, f"--seed {seed}"])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation.cores")
    world = parser.add_mutually_exclusive_group()
    world.add_argument("--several", dest="world", action="store_const", const="several", help="three coordinators")
    world.add_argument("--members", dest="world", action="store_const", const="members", help="a head and two members")
    parser.set_defaults(world="")
    parser.add_argument("--seconds", type=float, default=60.0, help="how long each process plays")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--first", type=int, help="the first seed; a fresh one if it is not given")
    parser.add_argument("--schedules", type=int, default=0, help="fail if fewer were played; then all is to be seen")
    parser.add_argument("--seed", type=int, help="play this one again")
    parser.add_argument("--hunt", action="store_true", help="stop at the first broken promise, and tell it as JSON")
    parser.add_argument("--faults", nargs="*", type=FaultKind, help="kinds to hunt with")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    return parser


def _play_again(drawn: Drawn, seed: int) -> int:
    outcome = drawn.play(seed)
    if outcome.violation is None:
        sys.stdout.write(f"seed {seed}: every promise held; {outcome.steps} things happened, {outcome.trace_hash}\n")
        return 0
    sys.stdout.write(script(shrunk(outcome), drawn.command(seed)) + "\n")
    return 1


def _hunt(drawn: Drawn, first: int, seconds: float) -> int:
    """For mutants: the first promise that is broken, within so many seconds of processor time."""
    gc.freeze()
    gc.disable()
    began, seed = time.process_time(), first
    while time.process_time() - began < seconds:
        violation = drawn.play(seed).violation
        seed += 1
        if violation is not None:
            _tell({"invariant": violation.invariant, "schedules": seed - first, "seconds": time.process_time() - began})
            return 1
        if seed % TIDY_EVERY == 0:
            gc.collect(0)
    _tell({"schedules": seed - first})
    return 0


# --- one process


def _work(drawn: Drawn, first: int, seconds: float, schedules: int) -> None:
    """Until the time is over, or that many were played, if there is a number. Tells a line of JSON for some schedules,
    and one for each violation."""
    gc.freeze()
    gc.disable()  # schedules are short: what they leave is taken away between them
    began, seed, coverage = time.monotonic(), first, Coverage()
    while time.monotonic() - began < seconds and not 0 < schedules <= seed - first:
        outcome = drawn.play(seed, coverage.watch)
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
    seen = {"faults": coverage.faults, "events": coverage.events, "ownership": coverage.ownership}
    _tell({**counts, **seen, "transitions": transitions})
    gc.collect()
    gc.freeze()  # plans, which stay
    return Coverage()


def _tell(what: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


# --- all of them


@dataclass
class Campaign:
    drawn: Drawn
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
        argv = [sys.executable, "-m", "tests.simulation.cores", "--worker", *self.drawn.option, "--first", str(first)]
        # One coordinator's campaign plays for as long as it is told; the other one is long enough with what is wanted.
        each = -(-self.wanted // self.processes) if self.drawn.world else 0
        argv += ["--seconds", str(self.seconds), "--schedules", str(each)]
        return subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)

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
        coverage.ownership.update(told["ownership"])
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
        if coverage.ownership:
            say(f"ownership: {_counted(coverage.ownership)}\n")
        seen = len(EVENTS) - len(coverage.missing_events())
        say(f"events: {seen} of {len(EVENTS)} kinds: {_counted(coverage.events)}\n")
        missing = len(coverage.missing_transitions())
        say(f"transitions: {len(DOCUMENTED) - missing} of {len(DOCUMENTED)} that docs/states.md names\n")
        return 1 if self._complain() else 0

    def _complain(self) -> bool:
        coverage = self.coverage
        complaints = [f"not in docs/states.md: {_named(each)}" for each in coverage.unknown_transitions()]
        if self.wanted:
            complaints += [f"no fault {kind.value} was seen" for kind in self._unseen()]
            complaints += [f"no {name} was seen" for name in coverage.missing_events()]
            complaints += [f"not seen: {_named(each)}" for each in coverage.missing_transitions()]
            if coverage.schedules < self.wanted:
                complaints.append(f"{coverage.schedules:,} schedules are fewer than {self.wanted:,}")
        for complaint in complaints:
            sys.stdout.write(complaint + "\n")
        for seed, violation in self.violations[:MOST_REPORTED]:
            told = script(shrunk(self.drawn.play(seed)), self.drawn.command(seed))
            sys.stdout.write(f"\nseed {seed}: {violation}\n{told}\n")
        if self.violations:
            sys.stdout.write(f"{len(self.violations)} schedules broke a promise\n")
        return bool(complaints or self.violations)

    def _unseen(self) -> list[FaultKind]:
        return [kind for kind in self.drawn.possible if not self.coverage.faults[kind.value]]


def outputs_of(workers: Sequence[subprocess.Popen[str]]) -> list[str]:
    """All are read at once: one that nobody reads stands still when its pipe is full."""
    with ThreadPoolExecutor(len(workers)) as readers:
        return list(readers.map(lambda worker: worker.communicate()[0], workers))


def _named(transition: Transition) -> str:
    return f"{transition.subject.value}: {transition.before} {transition.event} {transition.after}"


def _counted(counts: Counter[str]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in sorted(counts.items()))


if __name__ == "__main__":
    raise SystemExit(main())

"""Chaos with real processes: python -m tests.chaos [--minutes 20]

With --coordinators 3 it is done to coordinators that share a database, and to Redis, until there were --faults of them;
with --members to the head and to those that own runs beside it.

Exit code: 0 if nothing was lost, committed twice, stuck or leaked, and enough was done; 1 else.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import shutil
import signal
import statistics
import sys
import tempfile
import threading
import time
from collections import Counter, defaultdict
from dataclasses import replace
from pathlib import Path

from tests.chaos import places
from tests.chaos.rounds import Outcome, Plan, Round
from tests.chaos.take_overs import TakeOver
from tests.chaos.world import World

FIXED_SEED = "penstock"
FIXED_SEED_OF_SEVERAL = "coordinators-58122"
"""Its first faults kill an owner, cut it off from agents and clients, and freeze it."""
MORE_ROUNDS = 2
"""For want of kills and freezes."""
FAR_AGENTS = 2
"""Of the agents, are on machines of their own."""


def main() -> int:
    options = _options()
    if not places.names() and not options.no_places:
        code = places.run_inside(sys.argv[1:], options.coordinators if options.coordinators > 1 else FAR_AGENTS)
        if code is not None:
            return code
    _end_with_parent()
    return Campaign(options).run()


def _end_with_parent() -> None:
    """However this ends, it ends what it started: also if it is told to, or whoever waits for it is gone."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1.0)
        os.kill(os.getpid(), signal.SIGTERM)

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    threading.Thread(target=watch, daemon=True).start()


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--minutes", type=float, default=20.0, help="in all; the last round is played to its end")
    parser.add_argument("--coordinators", type=int, default=1, help="faults are theirs alone if there are several")
    parser.add_argument("--members", action="store_true", help="several coordinators own runs, and not one of them")
    parser.add_argument("--faults", type=int, default=50, help="of coordinators, if there are several; not --minutes")
    parser.add_argument("--any-time", action="store_true", help="take-overs may last as long as they do")
    parser.add_argument("--least-rounds", type=int, default=1, help="however long they take")
    parser.add_argument("--runs", type=int, default=1000, help="in flight")
    parser.add_argument("--slots", type=int, default=4, help="of each of the four agents")
    parser.add_argument("--round", type=float, default=45.0, metavar="SECONDS", help="of faults in a round")
    parser.add_argument("--every", type=float, default=2.2, metavar="SECONDS", help="between two faults, on average")
    parser.add_argument("--rest", type=float, default=120.0, metavar="SECONDS", help="to the end of all runs, healed")
    parser.add_argument("--least-steps", type=float, default=500.0, help="per minute, else a round is void")
    parser.add_argument("--least-hard", type=float, default=7.5, help="kills and freezes per minute, else it fails")
    parser.add_argument("--seed", default="", help="of the second and later rounds; a fresh one if it is not given")
    parser.add_argument("--keep", type=Path, default=Path("chaos-failure"), help="where logs are kept of a failure")
    parser.add_argument("--keep-always", action="store_true", help="keep logs of a success too")
    parser.add_argument("--no-places", action="store_true", help="without namespaces and a small disk, which need root")
    return parser.parse_args()


class Campaign:
    def __init__(self, options: argparse.Namespace) -> None:
        self._options = options
        self._fresh = options.seed or secrets.token_hex(4)
        self._outcomes: list[Outcome] = []

    def run(self) -> int:
        if not places.names():
            _say("no namespaces can be made here (it needs root): no partitions, no small disk")
        elif not places.CAN_LOSE:
            _say("there is no nft: no loss of some packets")
        _say(f"seeds: {self._fixed}, then --seed {self._fresh}")
        folder = Path(tempfile.mkdtemp(prefix="penstock-chaos-"))
        folder.chmod(0o755)
        log = folder / "faults.jsonl"
        try:
            options = self._options
            world = World(folder, options.slots, coordinators=options.coordinators, members=options.members)
            try:
                with world:
                    began = time.monotonic()
                    while self._goes_on(time.monotonic() - began):
                        self._play(world, log)
            finally:
                if not self._outcomes or not self._good or self._options.keep_always:
                    self._keep(world, log)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        seconds = sum(outcome.seconds for outcome in self._outcomes)
        self._report(seconds)
        return 0 if self._good and self._enough(seconds) and self._in_time else 1

    def _goes_on(self, seconds: float) -> bool:
        if self._several:
            return self._good and not self._enough(seconds)
        last_begins: float = self._options.minutes * 60 - self._options.round / 2
        least: int = self._options.least_rounds
        if len(self._outcomes) < least or seconds < last_begins:
            return True
        # A machine so slow that few rounds fit in has as many kills and freezes as others, in some more.
        return self._good and not self._enough(seconds) and len(self._outcomes) < least + MORE_ROUNDS

    def _keep(self, world: World, log: Path) -> None:
        keep = self._options.keep
        world.keep_logs(keep)
        if log.exists():
            shutil.copy(log, keep / log.name)
        charged = [json.dumps(each) + "\n" for outcome in self._outcomes for each in outcome.verdict.charged]
        (keep / "doubles.jsonl").write_text("".join(charged))
        _say(f"logs, ledgers, what was done when, and what ran twice: {keep}")

    def _play(self, world: World, log: Path) -> None:
        number = len(self._outcomes) + 1
        options = self._options
        seed = self._fixed if number == 1 else self._fresh
        plan = Plan(seed, options.runs, options.round, options.every, options.least_steps, options.rest)
        if self._several:
            plan = replace(plan, least_live=0.9, filled_up=True)
        playing = Round(world, plan, number, log, _say)
        self._outcomes.append(playing.outcome)
        outcome = playing.run()
        verdict = outcome.verdict
        hard = sum(1 for fault in outcome.faults if fault.began and fault.is_hard)
        _say(
            f"round {number}: {verdict.accepted} runs, {verdict.steps} steps, {sum(verdict.doubles.values())} doubles,"
            f" {len(outcome.faults)} faults ({hard} kills and freezes), at rest {outcome.rest_seconds:.1f} s after"
            f" healing, {outcome.seconds:.0f} s in all{', VOID' if outcome.void else ''}"
        )
        for each in outcome.take_overs:
            _say(f"  {each.line()}")
        for problem in verdict.problems[:20]:
            _say(f"  {problem}")
        if len(verdict.problems) > 20:
            _say(f"  and {len(verdict.problems) - 20} more")

    @property
    def _good(self) -> bool:
        return all(outcome.verdict.good and not outcome.void and outcome.seconds > 0 for outcome in self._outcomes)

    @property
    def _fixed(self) -> str:
        return FIXED_SEED_OF_SEVERAL if self._several else FIXED_SEED

    @property
    def _several(self) -> bool:
        return bool(self._options.coordinators > 1)

    @property
    def _in_time(self) -> bool:
        late = any(each.missed for outcome in self._outcomes for each in outcome.take_overs)
        return bool(self._options.any_time) or not late

    @property
    def _of_coordinators(self) -> int:
        return sum(fault.began > 0 and fault.role != "" for outcome in self._outcomes for fault in outcome.faults)

    def _enough(self, seconds: float) -> bool:
        if self._several:
            return self._of_coordinators >= int(self._options.faults)
        least: float = self._options.least_hard * min(seconds, self._options.minutes * 60) / 60
        return self._hard() >= least

    def _hard(self) -> int:
        return sum(1 for outcome in self._outcomes for fault in outcome.faults if fault.began and fault.is_hard)

    # --- the report

    def _report(self, seconds: float) -> None:
        outcomes = self._outcomes
        faults = Counter(f.title for o in outcomes for f in o.faults if f.began)
        doubles: Counter[str] = sum((o.verdict.doubles for o in outcomes), Counter())
        for title, table in (("what was done", faults), ("executions beyond the first, by the fault charged", doubles)):
            _say(f"\n{title}:")
            for name, count in sorted(table.items(), key=lambda each: -each[1]):
                _say(f"  {count:6}  {name}")
        recoveries = sorted(each for o in outcomes for each in o.recoveries)
        result = {
            "minutes": round(seconds / 60, 1),
            "rounds": len(outcomes),
            "void_rounds": sum(o.void for o in outcomes),
            "seed": self._fresh,
            "runs_accepted": sum(o.verdict.accepted for o in outcomes),
            "runs_completed": sum(o.verdict.completed for o in outcomes),
            "runs_given_up": sum(o.verdict.given_up for o in outcomes),
            "steps": sum(o.verdict.steps for o in outcomes),
            "executions": sum(o.verdict.executions for o in outcomes),
            "planned_failures": sum(o.verdict.planned for o in outcomes),
            "doubles": sum(doubles.values()),
            "faults": sum(faults.values()),
            "kills_and_freezes": self._hard(),
            "recovery_median_s": statistics.median(recoveries) if recoveries else None,
            "recovery_max_s": recoveries[-1] if recoveries else None,
            **({"take_overs": self._take_overs()} if self._several else {}),
            "rest_max_s": round(max((o.rest_seconds for o in outcomes), default=0.0), 1),
            "problems": sum(len(o.verdict.problems) for o in outcomes),
            "doubles_by_fault": dict(doubles),
            "faults_by_kind": dict(faults),
        }
        _say("\n" + json.dumps(result))

    def _take_overs(self) -> dict[str, object]:
        """Of kills, of freezes, and of partitions: how many of an owner moved its runs, and the seconds they took."""
        found: dict[str, object] = {}
        by_kind: defaultdict[str, list[TakeOver]] = defaultdict(list)
        every = [each for outcome in self._outcomes for each in outcome.take_overs]
        for each in every:
            kind = {"kill": "kills", "freeze": "freezes"}.get(each.fault.kind, "partitions")
            by_kind[f"{kind}_{'taken_over' if each.moved else 'kept'}"].append(each)
        for name, among in sorted(by_kind.items()):
            seconds = [each.seconds for each in among]
            found[name] = {
                "count": len(seconds),
                "median_s": round(statistics.median(seconds), 2),
                "max_s": round(max(seconds), 2),
                "missed": [each.line() for each in among if each.missed],
            }
        found["of_coordinators"] = self._of_coordinators
        found["of_owners"] = len(every)
        found["sessions_by_a_hop"] = sum(outcome.hops for outcome in self._outcomes)
        return found


def _say(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    sys.exit(main())

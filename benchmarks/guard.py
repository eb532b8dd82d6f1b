"""Fails when Penstock has become much slower, as a ratio to the bare loop: python -m benchmarks.guard

Never as a time: the machine may be any, and busy. The bounds are loose for the same reason. What breaks one is measured
once more before it counts.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import uvloop

from benchmarks.contestants import Contestant
from benchmarks.report import Report, comparison, show
from benchmarks.turns import HEADLINES, IN_PROCESSES, PENSTOCK, Result, penstock_and_bare_loops, ratio, take_turns

REPEAT = 3
REPEAT_IN_DOUBT = 7


@dataclass(frozen=True, slots=True)
class Bound:
    """Of Penstock's figure as a multiple of the bare loop's."""

    least: float = 0.0
    most: float = float("inf")

    def complaint(self, results: Sequence[Result]) -> str | None:
        found = ratio(results, PENSTOCK, IN_PROCESSES)
        if self.least <= found <= self.most:
            return None
        allowed = f"at least {self.least:g}" if found < self.least else f"at most {self.most:g}"
        workload = results[0].workload
        return f"{workload}: {HEADLINES[workload]} is {found:.2f} times that of the bare loop, and must be {allowed}"


BOUNDS = {
    "chain40": Bound(most=8.0),
    "fan1000": Bound(least=0.2),
    "diamonds200": Bound(least=0.15),
    "start": Bound(most=8.0),
}


async def guarded(workload: str, contestants: Mapping[str, Contestant]) -> tuple[list[Result], str | None]:
    results = await take_turns(workload, contestants, REPEAT)
    if BOUNDS[workload].complaint(results):
        results = await take_turns(workload, contestants, REPEAT_IN_DOUBT)
    return results, BOUNDS[workload].complaint(results)


async def main() -> int:
    report = Report()
    measured: list[list[Result]] = []
    complaints: list[str] = []
    async with penstock_and_bare_loops([IN_PROCESSES]) as contestants:
        for workload in BOUNDS:
            results, complaint = await guarded(workload, contestants)
            measured.append(results)
            complaints += [complaint] if complaint else []
            for result in results:
                report.add(result.line())
    show(comparison(measured))
    for complaint in complaints:
        sys.stderr.write(f"guard: {complaint}\n")
    return 1 if complaints else 0


if __name__ == "__main__":
    sys.exit(uvloop.run(main()))

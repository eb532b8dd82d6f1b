"""Measure Penstock, in turn with the bare loop: python -m benchmarks --help"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import uvloop

from benchmarks.alone import ALONE, measure_alone
from benchmarks.report import Report, comparison, show
from benchmarks.turns import Result, penstock_and_bare_loops, ratio_line, take_turns
from benchmarks.workloads import WORKLOADS


async def compare(names: Sequence[str], repeat: int, report: Report) -> list[list[Result]]:
    """The workloads on Penstock and the bare loops, in turn."""
    compared = []
    async with penstock_and_bare_loops() as contestants:
        for name in names:
            results = await take_turns(name, contestants, repeat)
            for result in results:
                report.add(result.line())
            report.add(ratio_line(results))
            compared.append(results)
    return compared


async def measure(names: Sequence[str], repeat: int, report: Report) -> None:
    compared = [name for name in names if name in WORKLOADS]
    if compared:
        show(comparison(await compare(compared, repeat, report)))
    for name in names:
        if name in ALONE:
            report.add(await measure_alone(name))


def main() -> None:
    usual = [*WORKLOADS, *(name for name, workload in ALONE.items() if not workload.is_long)]
    known = [*WORKLOADS, *ALONE]
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "workloads", nargs="*", metavar="WORKLOAD", help=f"of {', '.join(known)} (without any: {', '.join(usual)})"
    )
    parser.add_argument("--repeat", type=int, default=5, help="turns of each system; medians are told (5)")
    parser.add_argument("--results", type=Path, help="a file that the lines of JSON are appended to as well")
    options = parser.parse_args()
    unknown = [name for name in options.workloads if name not in known]
    if unknown:
        parser.error(f"no such workload: {', '.join(unknown)}; there are {', '.join(known)}")
    uvloop.run(measure(options.workloads or usual, options.repeat, Report(options.results)))


if __name__ == "__main__":
    main()

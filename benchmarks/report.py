"""How results are told: lines of JSON on the standard output, and a table for people on the standard error."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any

import uvloop
from rich.console import Console
from rich.table import Table

from benchmarks.turns import HEADLINES, PENSTOCK, Result, ratio


class Report:
    def __init__(self, file: Path | None = None) -> None:
        """With a file the lines are appended to it too."""
        self._file = file

    def add(self, line: dict[str, Any]) -> None:
        text = json.dumps(line) + "\n"
        sys.stdout.write(text)
        sys.stdout.flush()
        if self._file is not None:
            with self._file.open("a") as file:
                file.write(text)


def play(what: str | None, measure: Callable[[int, Report], Coroutine[Any, Any, None]]) -> None:
    """The command line of a benchmark that takes turns: `measure` hears how many count, and where to tell them."""
    parser = argparse.ArgumentParser(description=what, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeat", type=int, default=5, help="turns of each; the one before them does not count")
    parser.add_argument("--results", type=Path)
    parsed = parser.parse_args()
    uvloop.run(measure(parsed.repeat, Report(parsed.results)))


def comparison(workloads: Sequence[Sequence[Result]]) -> Table:
    """A row per workload; a column per system with its median, and how many times that figure ours is."""
    table = Table(title="medians; in brackets Penstock's figure as a multiple of that system's")
    table.add_column("workload")
    table.add_column("figure")
    for result in workloads[0]:
        table.add_column(result.system, justify="right")
    for results in workloads:
        workload = results[0].workload
        table.add_row(workload, HEADLINES[workload], *(_cell(results, result) for result in results))
    return table


def _cell(results: Sequence[Result], result: Result) -> str:
    figure = f"{result.headline:,.2f}" if result.headline < 100 else f"{result.headline:,.0f}"
    return figure if result.system == PENSTOCK else f"{figure} ({ratio(results, PENSTOCK, result.system):.2f})"


def show(table: Table) -> None:
    Console(file=sys.stderr, width=120).print(table)

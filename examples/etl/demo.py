"""`make demo`: a whole Penstock with two agents, a year of flights through it, and how to look at it again.

    python -m examples.etl.demo [--data FOLDER]

Exits with 0 if the run is COMPLETED. The data is kept; no process is.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import shlex
import shutil
import sys
import time
from pathlib import Path
from typing import Any

from examples.etl.flights import late_flights
from rich.console import Console
from rich.table import Table

from penstock import Client, PenstockError
from penstock.cli.live import follow
from penstock.cli.progress import RunProgress
from penstock.dev.cluster import DevCluster

AGENTS = 2
SLOTS = 2
DEFAULT_FOLDER = ".penstock-demo"


def main() -> int:
    parser = argparse.ArgumentParser(description="Run the flights ETL on two agents.")
    parser.add_argument("--data", type=Path, default=Path(DEFAULT_FOLDER), help="keeps database and logs")
    folder: Path = parser.parse_args().data
    console = Console(highlight=False, soft_wrap=not sys.stdout.isatty())
    try:
        return asyncio.run(_demo(folder, console))
    except PenstockError as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("demo: interrupted, and everything is stopped", file=sys.stderr)
        return 130


async def _demo(folder: Path, console: Console) -> int:
    console.print(f"Starting PostgreSQL, a coordinator and {AGENTS} agents ...")
    started = time.monotonic()
    async with DevCluster(folder, agents=AGENTS, slots=SLOTS, say=console.print) as cluster:
        console.print(f"Ready after {time.monotonic() - started:.1f} s. Running examples/etl/flights.py ...\n")
        try:
            async with Client(cluster.address) as client:
                progress, report = await _run(client, console)
        except asyncio.CancelledError:  # Ctrl-C: nobody waits for the steps that run
            cluster.hurry()
            raise
    if report is None:
        console.print(f"\nThe run {progress.run_id} is {progress.state}. {progress.reason}")
        return 1
    _show(report, progress, console)
    _show_ways_back(folder, progress.run_id, console)
    return 0


async def _run(client: Client, console: Console) -> tuple[RunProgress, Any]:
    """The run at rest, and its report if it is COMPLETED."""
    run = await client.start(late_flights)
    progress = RunProgress(run.id, late_flights.name, late_flights.graph().nodes)
    await follow(progress, run.watch(), console)
    completed = progress.state == "COMPLETED"
    return progress, await run.result("report") if completed else None


def _show(report: dict[str, Any], progress: RunProgress, console: Console) -> None:
    console.print()
    console.print(_airlines(report))
    console.print()
    console.print(_days(report["worst_days"]))
    for step in progress.steps.values():
        if step.attempt > 1:
            console.print(f"\nThe step {step.name} failed and was tried again: attempt {step.attempt} was good.")


def _airlines(report: dict[str, Any]) -> Table:
    table = _table("Departures from New York in 2013", "airline", "flights", "cancelled", "late", "mean delay")
    for row in report["airlines"]:
        table.add_row(row["airline"], *_shares(row))
    table.add_section()
    table.add_row("all", *_shares(report["total"]))
    return table


def _shares(row: dict[str, Any]) -> tuple[str, ...]:
    shares = f"{row['cancelled_share']:.1%}", f"{row['late_share']:.1%}"
    return f"{row['flights']:,}", *shares, f"{row['mean_delay_minutes']:.1f} min"


def _days(days: list[dict[str, Any]]) -> Table:
    table = _table("The days with the most cancelled flights", "day", "cancelled", "visibility", "wind", "temperature")
    for day in days:
        cancelled = f"{day['cancelled']} of {day['flights']}"
        weather = (f"{day['visibility_miles']} mi", f"{day['wind_mph']} mph", f"{day['temperature_fahrenheit']} °F")
        table.add_row(day["day"], cancelled, *weather)
    return table


def _table(title: str, first: str, *others: str) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold")
    table.add_column(first)
    for other in others:
        table.add_column(other, justify="right")
    return table


def _show_ways_back(folder: Path, run_id: str, console: Console) -> None:
    penstock = _program("penstock")
    question = shlex.quote(f'{{"run_id": "{run_id}"}}')
    lines = [
        f"\nAll of it is kept in {folder}. Look at it again: start it in one terminal,",
        f"  {penstock} dev --data {shlex.quote(str(folder))}",
        "and ask in another:",
        f"  {penstock} get {run_id}",
        f"  {penstock} get {run_id} report",
        f"  {_program('grpcurl')} -plaintext -d {question} 127.0.0.1:7400 penstock.v1.RunService/Get",
    ]
    print("\n".join(lines), file=console.file)


def _program(name: str) -> str:
    """As it can be typed here: by its name if that is enough, else by its path in the environment."""
    installed = Path(sys.executable).with_name(name)
    found = shutil.which(name)
    if not installed.exists() or (found is not None and Path(found).samefile(installed)):
        return name
    return os.path.relpath(installed)


if __name__ == "__main__":
    sys.exit(main())

"""Tables and the forms of single values in them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click
from rich.table import Table
from rich.text import Text

from penstock.cli.table_widths import Column, cell_width, fitting

if TYPE_CHECKING:
    from google.protobuf.message import Message
    from google.protobuf.timestamp_pb2 import Timestamp
    from rich.console import Console

    from penstock.v1 import run_pb2

MAX_OUTPUT = 60
MAX_FAILURE = 200


def print_table(console: Console, columns: Sequence[str | Column], rows: Iterable[Sequence[str | Text]]) -> None:
    """Aligned columns. In a pipe each row is one line, however long, with all of its columns.

    In a terminal columns give way as `Column` says, the rest is whole: nothing is cut.
    """
    cells = [[Text(cell) if isinstance(cell, str) else cell for cell in row] for row in rows]
    known = [Column(column) if isinstance(column, str) else column for column in columns]
    used = [at for at, column in enumerate(known) if not column.optional or any(row[at].plain for row in cells)]
    known, cells = [known[at] for at in used], [[row[at] for at in used] for row in cells]
    if not console.is_terminal:
        _print_plain([[column.title for column in known], *([cell.plain for cell in row] for row in cells)])
        return
    table = Table(box=None, pad_edge=False, header_style="dim")
    shown = fitting(known, cells, console.width)
    for each in shown:
        table.add_column(each.title, width=each.width, no_wrap=False, overflow="fold")
    for number in range(len(cells)):
        table.add_row(*(each.cells[number] for each in shown))
    console.print(table, crop=False)


def _print_plain(rows: list[list[str]]) -> None:
    widths = [max(cell_width(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        padded = [cell + " " * (width - cell_width(cell)) for cell, width in zip(row, widths, strict=True)]
        click.echo("  ".join(padded).rstrip())


def time_text(message: Message, field: str) -> str:
    """A timestamp in UTC, or "" if it is not set."""
    if not message.HasField(field):
        return ""
    stamp: Timestamp = getattr(message, field)
    return stamp.ToDatetime().isoformat(sep=" ", timespec="seconds") + "Z"


def duration_text(message: run_pb2.Run | run_pb2.StepRun | run_pb2.Attempt, until: float | None = None) -> str:
    """From the start to the end, or to `until` (seconds since the epoch), or to now."""
    from penstock.cli.live import span_text

    if not message.HasField("start_time"):
        return ""
    start = message.start_time.ToNanoseconds() / 10**9
    if message.HasField("end_time"):
        return span_text(message.end_time.ToNanoseconds() / 10**9 - start)
    return span_text((_now() if until is None else until) - start)


def _now() -> float:
    return datetime.now(UTC).timestamp()


def counts_text(counts: run_pb2.StepCounts) -> str:
    """The states that occur: "3 completed, 1 running"."""
    named = [(field.name.replace("_", " "), value) for field, value in counts.ListFields()]
    return ", ".join(f"{value} {name}" for name, value in named)


def shortened(text: str, limit: int = MAX_OUTPUT) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= limit else f"{flat[: limit - 1]}…"


def cached_text(step_run: run_pb2.StepRun) -> str:
    """Where the value of a step run came from that was answered from the cache."""
    if not step_run.cached:
        return ""
    source = step_run.cache_source
    by = f"{source.display_name} of run {source.run_id}, attempt {source.attempt}"
    return f"{by}, {time_text(source, 'time')} (key {source.key[:12]})"

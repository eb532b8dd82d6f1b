"""Tables and the forms of single values in them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click
from rich.cells import cell_len
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from google.protobuf.message import Message
    from google.protobuf.timestamp_pb2 import Timestamp
    from rich.console import Console

    from penstock.v1 import run_pb2

MAX_OUTPUT = 60


def print_table(console: Console, titles: Sequence[str], rows: Iterable[Sequence[str | Text]]) -> None:
    """Aligned columns, cut to the terminal's width; in a pipe each row is one line, however long."""
    cells = [[Text(cell) if isinstance(cell, str) else cell for cell in row] for row in rows]
    if not console.is_terminal:
        _print_plain([list(titles), *([cell.plain for cell in row] for row in cells)])
        return
    table = Table(box=None, pad_edge=False, header_style="dim")
    for title in titles:
        table.add_column(title, no_wrap=True, overflow="ellipsis")
    for row in cells:
        table.add_row(*row)
    console.print(table)


def _print_plain(rows: list[list[str]]) -> None:
    widths = [max(cell_len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        padded = [cell + " " * (width - cell_len(cell)) for cell, width in zip(row, widths, strict=True)]
        click.echo("  ".join(padded).rstrip())


def time_text(message: Message, field: str) -> str:
    """A timestamp in UTC, or "" if it is not set."""
    if not message.HasField(field):
        return ""
    stamp: Timestamp = getattr(message, field)
    return stamp.ToDatetime().isoformat(sep=" ", timespec="seconds") + "Z"


def duration_text(message: run_pb2.Run | run_pb2.StepRun | run_pb2.Attempt) -> str:
    """From the start to the end, or to now."""
    from penstock.cli.live import span_text

    if not message.HasField("start_time"):
        return ""
    start = message.start_time.ToNanoseconds() / 10**9
    end = message.end_time.ToNanoseconds() / 10**9 if message.HasField("end_time") else _now()
    return span_text(end - start)


def _now() -> float:
    return datetime.now(UTC).timestamp()


def counts_text(counts: run_pb2.StepCounts) -> str:
    """The states that occur: "3 completed, 1 running"."""
    named = [(field.name.replace("_", " "), value) for field, value in counts.ListFields()]
    return ", ".join(f"{value} {name}" for name, value in named)


def shortened(text: str, limit: int = MAX_OUTPUT) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= limit else f"{flat[: limit - 1]}…"

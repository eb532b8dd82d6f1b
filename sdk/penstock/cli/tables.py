"""Tables and the forms of single values in them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from google.protobuf.message import Message
    from google.protobuf.timestamp_pb2 import Timestamp
    from rich.console import Console

    from penstock.v1 import run_pb2

MAX_OUTPUT = 60


def print_table(console: Console, titles: Sequence[str], rows: Iterable[Sequence[str | Text]]) -> None:
    """Aligned columns; in a pipe each row is one line, however long."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    for title in titles:
        table.add_column(title, no_wrap=True, overflow="ignore" if not console.is_terminal else "ellipsis")
    for row in rows:
        table.add_row(*(Text(cell) if isinstance(cell, str) else cell for cell in row))
    if console.is_terminal:
        console.print(table)
        return
    wide = console.measure(table).maximum
    console.print(table, width=max(wide, 1), crop=False, no_wrap=True)


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

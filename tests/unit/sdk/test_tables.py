"""Tables in terminals of any width: what gives way, and what never does."""

from __future__ import annotations

import io
from collections.abc import Sequence

import pytest
from rich.console import Console

from penstock.cli.table_widths import Column, id_end, short_time
from penstock.cli.tables import print_table

RUN_ID = "01a1fdfd-5d2f-7004-bbc6-9f3a1b2c4d5e"
RUNS = (
    Column("RUN", shorter=id_end),
    Column("PIPELINE", folds=20),
    Column("VERSION", leaves=1),
    "STATE",
    Column("CREATED", shorter=short_time, leaves=2),
    "TIME",
    Column("STEPS", folds=16, leaves=3),
)
ROWS = (
    (RUN_ID, "etl", "2", "COMPLETED", "2026-11-21 12:30:05Z", "4.0 s", "3 completed"),
    (RUN_ID, "etl", "3", "CANCELLED", "2026-11-21 12:31:05Z", "5.6 s", "4 completed, 1 failed, 3 skipped, 1 cancelled"),
)


def drawn(width: int, columns: Sequence[str | Column] = RUNS, rows: Sequence[Sequence[str]] = ROWS) -> list[str]:
    console = Console(file=io.StringIO(), force_terminal=True, width=width, color_system=None)
    print_table(console, columns, rows)
    assert isinstance(console.file, io.StringIO)
    lines = [line.rstrip() for line in console.file.getvalue().splitlines()]
    assert max(len(line) for line in lines) <= width
    assert "…" not in console.file.getvalue()
    return lines


def test_with_room_for_all_nothing_gives_way() -> None:
    titles, first, second = drawn(160)
    assert titles.split() == ["RUN", "PIPELINE", "VERSION", "STATE", "CREATED", "TIME", "STEPS"]
    assert first.split()[:4] == [RUN_ID, "etl", "2", "COMPLETED"]
    assert second.endswith("4 completed, 1 failed, 3 skipped, 1 cancelled")


def test_the_wide_column_folds_first() -> None:
    lines = drawn(125)
    assert lines[2].startswith(RUN_ID)
    assert "2026-11-21 12:31:05Z" in lines[2]
    assert len(lines) > 3


@pytest.mark.parametrize("width", [100, 80, 70, 60, 50, 40])
def test_states_times_and_the_ends_of_ids_are_never_cut(width: int) -> None:
    text = "\n".join(drawn(width))
    for whole in ("9f3a1b2c4d5e", "etl", "COMPLETED", "CANCELLED", "4.0 s", "5.6 s"):
        assert whole in text


def test_in_80_columns_a_run_has_all_but_its_version() -> None:
    lines = drawn(80)
    assert lines[0].split() == ["RUN", "PIPELINE", "STATE", "CREATED", "TIME", "STEPS"]
    assert lines[1].split()[:6] == ["9f3a1b2c4d5e", "etl", "COMPLETED", "11-21", "12:30Z", "4.0"]
    steps = lines[0].index("STEPS")
    assert " ".join(line[steps:].strip() for line in lines[2:]) == "4 completed, 1 failed, 3 skipped, 1 cancelled"


def test_a_column_without_content_leaves_before_others() -> None:
    columns = ("STEP", Column("ATTEMPTS", leaves=1), Column("ITEMS", leaves=9), Column("OUTPUT", folds=8, leaves=8))
    lines = drawn(24, columns, [("load", "1", "", "0123456789")])
    assert lines[0].split() == ["STEP", "ATTEMPTS", "OUTPUT"]


def test_what_has_no_room_at_all_is_folded_and_whole() -> None:
    lines = drawn(20, ("STEP", "STATE"), [("a" * 30, "UPSTREAM_FAILED")])
    assert "UPSTREAM_FAILED" in "\n".join(lines)
    assert "".join(line.split()[0] for line in lines[1:]).count("a") >= 28


def test_in_a_pipe_rows_are_whole_lines(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(Console(file=io.StringIO(), width=40), RUNS, ROWS)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["RUN", "PIPELINE", "VERSION", "STATE", "CREATED", "TIME", "STEPS"]
    assert lines[2].startswith(RUN_ID)
    assert lines[2].endswith("4 completed, 1 failed, 3 skipped, 1 cancelled")

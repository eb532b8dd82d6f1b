"""The attempts of a step run, as rows of a table."""

from __future__ import annotations

from typing import TYPE_CHECKING

from penstock.cli.live import span_text
from penstock.cli.states import attempt_outcome, budget_word, failure_line
from penstock.cli.table_widths import Column
from penstock.cli.tables import MAX_FAILURE, duration_text, print_table, shortened
from penstock.quantities import format_size
from penstock.v1 import run_pb2

if TYPE_CHECKING:
    from rich.console import Console

    from penstock.v1 import run_service_pb2

Row = tuple[str, str, str, str, str, str, str, str]

COLUMNS = (
    "ATTEMPT",
    "OUTCOME",
    Column("AGENT", folds=12),
    "TIME",
    Column("CPU", leaves=1),
    Column("MEMORY", leaves=2),
    Column("CHARGED", leaves=4, optional=True),
    Column("FAILURE", folds=20, leaves=3),
)


def print_attempts(console: Console, response: run_service_pb2.GetStepRunResponse) -> bool:
    """As a table under an empty line; whether there is any."""
    rows = attempt_rows(response)
    if rows:
        console.print()
        print_table(console, COLUMNS, rows)
    return bool(rows)


def attempt_rows(response: run_service_pb2.GetStepRunResponse) -> list[Row]:
    """Oldest first, and at last the one that runs, which the coordinator tells of by the step run only."""
    rows = [_row(attempt) for attempt in response.attempts]
    step_run = response.step_run
    ended = max((attempt.number for attempt in response.attempts), default=0)
    if step_run.state == run_pb2.STEP_RUN_STATE_RUNNING and step_run.attempt_count > ended and not _is_map(step_run):
        # The step run's own start is that of its first attempt; of later ones it is not known.
        time = duration_text(step_run) if step_run.attempt_count == 1 else ""
        rows.append((str(step_run.attempt_count), "RUNNING", step_run.agent_id, time, "", "", "", ""))
    return rows


def _is_map(step_run: run_pb2.StepRun) -> bool:
    return step_run.HasField("item_counts")


def _row(attempt: run_pb2.Attempt) -> Row:
    cpu = attempt.cpu_duration.ToNanoseconds() / 10**9
    return (
        str(attempt.number),
        attempt_outcome(attempt.outcome),
        attempt.agent_id,
        duration_text(attempt),
        span_text(cpu) if attempt.HasField("cpu_duration") else "",
        format_size(attempt.peak_memory_bytes) if attempt.peak_memory_bytes else "",
        budget_word(attempt.charged_to),
        shortened(failure_line(attempt.failure), MAX_FAILURE),
    )

"""Showing a run while it goes: a live table in a terminal, one plain line per change in a pipe."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractContextManager, nullcontext
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from penstock.cli.progress import Change, RunProgress, StepProgress
from penstock.cli.states import COLOURS

if TYPE_CHECKING:
    from rich.console import ConsoleOptions, RenderResult

    from penstock.v1 import run_service_pb2

MAX_ROWS = 40
_BAR_WIDTH = 20
_NARROW = 100
"""In fewer columns than this notes stand below the table."""
_SHOWN_STATES = ("RUNNING", "READY", "WAITING", "FAILED", "SKIPPED", "UPSTREAM_FAILED", "CANCELLED", "ROLLED_BACK")


def tell_wait(console: Console, step: StepProgress, why: str) -> None:
    """Why a step stays READY: in a pipe a line; in a terminal it is drawn with the step."""
    if not console.is_terminal:
        print(f"{step.name} stays READY: {why}", file=console.file, flush=True)


async def follow(progress: RunProgress, events: AsyncIterator[run_service_pb2.Event], console: Console) -> RunProgress:
    """Shows every event until they end; `progress` is the state in the end."""
    view = RunView(progress)
    live: AbstractContextManager[object] = nullcontext()
    if console.is_terminal:
        live = Live(view, console=console, refresh_per_second=8)
    with live:
        async for event in events:
            changes = progress.apply(event)
            view.note_event()
            if not console.is_terminal:
                for change in changes:
                    print(plain_line(change), file=console.file, flush=True)
    return progress


def plain_line(change: Change) -> str:
    at = datetime.fromtimestamp(change.time, UTC).strftime("%H:%M:%S.%f")[:-3]
    return f"{at} {change.subject} {change.state}" + (f" ({change.detail})" if change.detail else "")


class RunView:
    """Draws a run's progress. Between events the clock of the last one is carried on."""

    def __init__(self, progress: RunProgress) -> None:
        self._progress = progress
        self._event_at = time.monotonic()

    def note_event(self) -> None:
        self._event_at = time.monotonic()

    def _now(self) -> float:
        idle = 0.0 if self._progress.at_rest else time.monotonic() - self._event_at
        return self._progress.now + idle

    def __rich_console__(self, _console: Console, options: ConsoleOptions) -> RenderResult:
        narrow = options.max_width < _NARROW
        yield self._head()
        yield self._table(narrow)
        if narrow:
            yield from self._notes()

    def _notes(self) -> Iterator[Text]:
        """Below the table, at full width, where a column beside it would be a few letters wide."""
        for step in _most_telling(list(self._progress.steps.values())):
            note = _note(step)
            if note:
                yield Text.assemble(f"{step.name}: ", note, style=note.style)

    def _head(self) -> Text:
        progress = self._progress
        head = Text.assemble((progress.pipeline, "bold"), f"  {progress.run_id}  ", state_text(progress.state))
        if progress.start_time is not None:
            head.append(f"  {span_text(self._now() - progress.start_time)}")
        if progress.reason:
            head.append(f"\n{progress.reason}", style="red" if progress.state == "FAILED" else "")
        return head

    def _table(self, narrow: bool) -> Table:
        table = Table(box=None, pad_edge=False, header_style="dim")
        for title in ("STEP", "STATE", "ITEMS", "TIME", "ATTEMPT"):
            table.add_column(title, no_wrap=True, overflow="ellipsis")
        if not narrow:
            table.add_column("NOTE", overflow="fold")
        steps = _most_telling(list(self._progress.steps.values()))
        for step in steps:
            table.add_row(
                Text(step.name),
                state_text(step.state),
                _items_text(step, _BAR_WIDTH // 2 if narrow else _BAR_WIDTH),
                self._duration(step),
                str(step.attempt or ""),
                *([] if narrow else [_note(step)]),
            )
        hidden = len(self._progress.steps) - len(steps)
        if hidden:
            table.add_row(Text(f"… and {hidden} more", style="dim"))
        return table

    def _duration(self, step: StepProgress) -> str:
        if step.start_time is None:
            return ""
        return span_text((step.end_time or self._now()) - step.start_time)


def _note(step: StepProgress) -> Text:
    if step.failure:
        return Text(step.failure, style="red")
    if step.cached:
        return Text(step.cached, style="dim")
    if step.waits_for:
        return Text(f"waits: {step.waits_for}", style="yellow")
    return Text(f"came back: {step.came_back}" if step.came_back else "", style="yellow")


def _most_telling(steps: list[StepProgress]) -> list[StepProgress]:
    """All steps if they fit; else those that fail or run first, in the order of the pipeline."""
    if len(steps) <= MAX_ROWS:
        return steps
    order = {"FAILED": 0, "RUNNING": 1, "WAITING": 2, "READY": 3}
    ranked = sorted(range(len(steps)), key=lambda at: (order.get(steps[at].state, 4), at))
    return [steps[at] for at in sorted(ranked[:MAX_ROWS])]


def _items_text(step: StepProgress, width: int) -> Text:
    if step.item_count is None:
        return Text("")
    finished = step.finished_items()
    filled = width if not step.item_count else round(width * finished / step.item_count)
    text = Text("━" * filled, style="green")
    text.append("━" * (width - filled), style="dim")
    text.append(f" {finished}/{step.item_count}", style="default")
    for state in _SHOWN_STATES:
        if step.counts[state] > 0:
            text.append(f" {step.counts[state]} {state.lower()}", style=COLOURS[state])
    return text


def state_text(state: str, more: str = "") -> Text:
    return Text(state + more, style=COLOURS.get(state, ""))


def span_text(seconds: float) -> str:
    if seconds < 60:
        return f"{max(seconds, 0):.1f} s"
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} m" if hours else f"{minutes} m {rest:02} s"

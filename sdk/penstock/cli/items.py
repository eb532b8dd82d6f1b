"""The items of a map as a table, and what is said of a step or an item that a run does not have."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from penstock.errors import NotFoundError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from rich.text import Text

    from penstock.cli.session import Session
    from penstock.client.client import Client
    from penstock.v1 import run_pb2

ITEM_STATES = (
    "PENDING",
    "READY",
    "RUNNING",
    "WAITING",
    "COMPLETED",
    "FAILED",
    "SKIPPED",
    "UPSTREAM_FAILED",
    "CANCELLED",
    "ROLLED_BACK",
)
DEFAULT_LIMIT = 100


async def show_items(
    session: Session,
    client: Client,
    run_id: str,
    name: str,
    *,
    states: Sequence[str],
    limit: int,
    at_event: int,
) -> None:
    """Those of the map `name`, or of one map in a nested one (`step[3]`), in order; at most `limit` of them."""
    from penstock.cli.looking import split_step

    step, place = split_step(name)
    found: list[run_pb2.StepRun] = []
    more = 0
    async for item in _items(client, run_id, step, states, at_event):
        if tuple(item.item[: len(place)]) == place:
            more += len(found) == limit
            found += [item] if len(found) < limit else []
    if not found:
        await _check_map(client, run_id, step, place, at_event)
    _print_items(session, found)
    if more and not session.as_json:
        click.echo(f"{more} more: --limit {limit + more} shows all.", err=True)


def _items(
    client: Client, run_id: str, step: str, states: Sequence[str], at_event: int
) -> AsyncIterator[run_pb2.StepRun]:
    from penstock.v1 import run_pb2

    wanted = [run_pb2.StepRunState.Value(f"STEP_RUN_STATE_{state.upper()}") for state in states]
    return client.list_step_runs(run_id, step=step, states=wanted, at_event=at_event)


async def _check_map(client: Client, run_id: str, step: str, place: tuple[int, ...], at_event: int) -> None:
    """That there is a map, though it has no such items."""
    steps = {each.step: each async for each in client.list_step_runs(run_id, at_event=at_event)}
    if step not in steps or place or not steps[step].HasField("item_counts"):
        raise _unknown(steps, run_id, step, place or (0,))


def _print_items(session: Session, items: list[run_pb2.StepRun]) -> None:
    from penstock.cli.table_widths import Column
    from penstock.cli.tables import print_table

    if session.as_json:
        for item in items:
            session.emit(item)
        return
    columns = (
        Column("ITEM", folds=30),
        "STATE",
        Column("ATTEMPTS", leaves=2),
        "TIME",
        Column("AGENT", folds=12, leaves=1),
        Column("OUTPUT", folds=20, leaves=3),
    )
    print_table(session.console(), columns, [_row(item) for item in items])


def _row(item: run_pb2.StepRun) -> tuple[str | Text, ...]:
    from penstock.cli.live import state_text
    from penstock.cli.said import said_of
    from penstock.cli.states import step_state
    from penstock.cli.tables import duration_text

    return (
        item.display_name,
        state_text(step_state(item.state)),
        str(item.attempt_count or ""),
        duration_text(item),
        item.agent_id,
        said_of(item),
    )


async def what_there_is(
    client: Client, run_id: str, step: str, place: tuple[int, ...], error: NotFoundError, at_event: int = 0
) -> NotFoundError:
    """Says in the place of "no such step or item" which steps, or how many items, there are."""
    if error.reason != "UNKNOWN_STEP_RUN":
        return error
    steps = {each.step: each async for each in client.list_step_runs(run_id, at_event=at_event)}
    return _unknown(steps, run_id, step, place) if step not in steps or place else error


def _unknown(steps: dict[str, run_pb2.StepRun], run_id: str, step: str, place: tuple[int, ...]) -> NotFoundError:
    from penstock.names import nearest

    if step not in steps:
        return _not_found(f"the run has no step {step!r}", nearest(step, steps))
    if not steps[step].HasField("item_counts"):
        return _not_found(f"{step!r} has no items: it is no map, or has not come to its list", "leave the number out")
    count = sum(value for _, value in steps[step].item_counts.ListFields())
    listed = f"`penstock get {run_id} {step} --items` lists them"
    name = step + "".join(f"[{number}]" for number in place)
    return _not_found(f"there is no item {name}: {step!r} has {count:,} items, the first is {step}[0]", listed)


def _not_found(message: str, remedy: str) -> NotFoundError:
    return NotFoundError(message, code="NOT_FOUND", reason="UNKNOWN_STEP_RUN", remedy=remedy)

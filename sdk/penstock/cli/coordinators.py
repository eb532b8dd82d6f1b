"""`coordinators`: those on the same database, and which of them owns the runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from penstock.cli.session import Session, command_options, run_async

if TYPE_CHECKING:
    from penstock.v1 import coordinator_service_pb2

_ROLES = {1: "owner", 2: "follower"}
_LEASES = {1: "current", 2: "late", 3: "expired"}


@click.command()
@command_options
def coordinators(session: Session) -> None:
    """List the coordinators on the same database, as the one that answers (*) sees them."""

    async def main() -> None:
        async with session.client() as client:
            _show(session, await client.list_coordinators())

    run_async(main)


def _show(session: Session, found: list[coordinator_service_pb2.Coordinator]) -> None:
    if session.as_json:
        for coordinator in found:
            session.emit(coordinator)
        return
    from penstock.cli.table_widths import Column, short_time
    from penstock.cli.tables import print_table, time_text

    rows = [
        (
            each.id + (" *" if each.answering else ""),
            _ROLES.get(each.role, "unknown"),
            str(each.epoch or ""),
            each.address,
            _lease(each),
            f"{each.live_runs:,} runs, {each.ready_steps:,} ready, {each.running_steps:,} running"
            if each.role == 1
            else "",
            time_text(each, "begin_time"),
        )
        for each in found
    ]
    columns = (
        Column("COORDINATOR", folds=20),
        "ROLE",
        "EPOCH",
        Column("ADDRESS", folds=20),
        "LEASE",
        Column("HAS", optional=True),
        Column("BEGAN", shorter=short_time, leaves=1),
    )
    print_table(session.console(), columns, rows)


def _lease(each: coordinator_service_pb2.Coordinator) -> str:
    """Of one that follows: whether it is heard of."""
    state = _LEASES.get(each.lease_state, "")
    since, lease = each.since_renewed.ToTimedelta().total_seconds(), each.lease.ToTimedelta().total_seconds()
    return f"{state}, {since:.1f} of {lease:g} s" if lease else state

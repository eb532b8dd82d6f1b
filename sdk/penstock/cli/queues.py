"""`queues`: what waits for agents, and what they run."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from penstock.cli.session import Session, command_options, run_async

if TYPE_CHECKING:
    from penstock.v1 import coordinator_service_pb2


@click.command()
@command_options
def queues(session: Session) -> None:
    """List what waits for agents and runs on them, by queue and by what else steps ask for. Any coordinator answers."""

    async def main() -> None:
        async with session.client() as client:
            _show(session, await client.list_queues())

    run_async(main)


def _show(session: Session, found: list[coordinator_service_pb2.QueueDemand]) -> None:
    if session.as_json:
        for demand in found:
            session.emit(demand)
        return
    from penstock.cli.table_widths import Column
    from penstock.cli.tables import print_table

    rows = [
        (
            each.queue,
            _needs(each),
            f"{each.ready_steps:,}",
            f"{each.running_steps:,}",
            f"{each.oldest_wait.ToTimedelta().total_seconds():.1f} s" if each.ready_steps else "",
            each.coordinator_id,
        )
        for each in found
    ]
    columns = (
        Column("QUEUE", folds=12),
        Column("NEEDS", optional=True, folds=12),
        "READY",
        "RUNNING",
        "LONGEST WAIT",
        Column("COORDINATOR", folds=20),
    )
    print_table(session.console(), columns, rows)


def _needs(demand: coordinator_service_pb2.QueueDemand) -> str:
    labels = [f"{name}={value}" for name, value in sorted(demand.labels.items())]
    resources = [f"{name}={amount:g}" for name, amount in sorted(demand.resources.items())]
    return " ".join([*labels, *resources, *([demand.environment] if demand.environment else [])])

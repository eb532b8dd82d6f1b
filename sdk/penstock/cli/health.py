"""`health`: how the coordinator fares."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from penstock.cli.session import Session, command_options, run_async

if TYPE_CHECKING:
    from penstock.v1 import coordinator_service_pb2

_STATES = {1: "closed", 2: "open", 3: "half open"}
_SHORT = {
    "backlog": "runs that wait to begin",
    "lag": "lag of its event loop",
    "commits": "commits",
    "memory": "memory",
}


@click.command()
@command_options
@click.pass_context
def health(context: click.Context, session: Session) -> None:
    """Show how the coordinator and its database fare. Exit code 1 if it is not ready."""
    found: list[coordinator_service_pb2.CoordinatorHealth] = []

    async def main() -> None:
        async with session.client() as client:
            found.append(await client.health())

    run_async(main)
    _show(session, found[0])
    if not found[0].ready:
        context.exit(1)


def _show(session: Session, told: coordinator_service_pb2.CoordinatorHealth) -> None:
    if session.as_json:
        session.emit(told)
        return
    from penstock.cli.tables import print_table

    load = told.load
    for run_id, reason in sorted(told.set_aside_runs.items()):
        session.say(f"  the run {run_id} could not be made again from its journal: {reason}")
    session.say(f"{told.coordinator_id} is {'ready' if told.ready else 'not ready'}")
    for cause, reason in sorted(told.reasons.items()):
        session.say(f"  {cause}: {reason}")
    session.say(
        f"{load.live_runs:,} live runs, of which {load.waiting_runs:,} wait to begin;"
        f" {load.drain_rate:,.1f} begin per second"
    )
    rows = [(label, f"{getattr(load, name):.0%}", f"{load.refusals.get(name, 0):,}") for name, label in _SHORT.items()]
    print_table(session.console(), ("WHAT CAN BE SHORT", "IN USE", "REFUSED"), rows)
    dependencies = [
        (each.name, _STATES.get(each.state, "unknown"), each.reason, _shares(each)) for each in told.dependencies
    ]
    print_table(session.console(), ("DEPENDENCY", "BREAKER", "REASON", "CONNECTIONS IN USE"), dependencies)


def _shares(dependency: coordinator_service_pb2.Dependency) -> str:
    return ", ".join(
        f"{share.name} {share.in_use} of {share.limit}" + (f" ({share.waiting} wait)" if share.waiting else "")
        for share in dependency.shares
    )

"""`coordinators`: those on the same database, which of them own the runs, and which shall."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from penstock.cli.session import Session, command_options, run_async

if TYPE_CHECKING:
    from collections.abc import Sequence

    from penstock.client.client import Client
    from penstock.v1 import coordinator_service_pb2

_OWNER, _FOLLOWER, _MEMBER, _CURRENT = 1, 2, 3, 1
_ROLES = {_OWNER: "owner", _FOLLOWER: "follower", _MEMBER: "member"}
_LEASES = {1: "current", 2: "late", 3: "expired"}


@click.group(invoke_without_command=True)
@command_options
@click.pass_context
def coordinators(context: click.Context, session: Session) -> None:
    """List coordinators, or give the runs to another one. Without a sub-command: list."""
    if context.invoked_subcommand is None:
        context.invoke(list_coordinators, address=session.address, as_json=session.as_json)
    elif context.params["address"] is not None or session.as_json:
        raise click.UsageError(
            f"Give options after the sub-command: penstock coordinators {context.invoked_subcommand} --json"
        )


@coordinators.command("list")
@command_options
def list_coordinators(session: Session) -> None:
    """List the coordinators on the same database, as the one that answers (*) sees them."""

    async def main() -> None:
        async with session.client() as client:
            show(session, await client.list_coordinators())

    run_async(main)


@coordinators.command("hand-over")
@click.argument("coordinator_id", metavar="[COORDINATOR]", default="")
@command_options
def hand_over(session: Session, coordinator_id: str) -> None:
    """Make another coordinator the owner of the runs: the one that is named, or one that follows or is a member, and
    is heard of. Steps go on. The former owner follows from then on; members join the new one."""

    async def main() -> None:
        async with session.client() as client:
            chosen = coordinator_id or await _one_that_can(client)
            await client.hand_over(chosen)
        if session.as_json:
            click.echo(json.dumps({"coordinator_id": chosen}))
        session.say(f'The runs were handed over to "{chosen}".')

    run_async(main)


async def _one_that_can(client: Client) -> str:
    found = choice(await client.list_coordinators())
    if found is None:
        raise click.ClickException(
            "no other coordinator follows and is heard of: start one (penstock server) with the same database and a"
            " data folder of its own"
        )
    return found.id


def choice(found: Sequence[coordinator_service_pb2.Coordinator]) -> coordinator_service_pb2.Coordinator | None:
    """Who can have the runs: rather one that follows, as a member has to give its own away first."""
    current = [each for each in found if each.lease_state == _CURRENT]
    following = [each for each in current if each.role == _FOLLOWER]
    return next(iter(following or [each for each in current if each.role == _MEMBER]), None)


def show(session: Session, found: Sequence[coordinator_service_pb2.Coordinator]) -> None:
    if session.as_json:
        for coordinator in found:
            session.emit(coordinator)
        return
    from penstock.cli.table_widths import Column, short_time
    from penstock.cli.tables import print_table, time_text

    # Beside members the owner is but the head of those that own runs.
    roles = _ROLES | ({_OWNER: "head"} if any(each.role == _MEMBER for each in found) else {})
    rows = [
        (
            each.id + (" *" if each.answering else ""),
            roles.get(each.role, "unknown"),
            str(each.epoch or ""),
            each.address,
            _lease(each),
            _has(each),
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


def _has(each: coordinator_service_pb2.Coordinator) -> str:
    if each.role in (_OWNER, _MEMBER):
        return f"{each.live_runs:,} runs, {each.ready_steps:,} ready, {each.running_steps:,} running"
    if not each.relayed_agents:
        return ""
    return f"relays {each.relayed_agents:,} agent{'' if each.relayed_agents == 1 else 's'}"


def _lease(each: coordinator_service_pb2.Coordinator) -> str:
    """Of one that follows: whether it is heard of."""
    state = _LEASES.get(each.lease_state, "")
    since, lease = each.since_renewed.ToTimedelta().total_seconds(), each.lease.ToTimedelta().total_seconds()
    return f"{state}, {since:.1f} of {lease:g} s" if lease else state

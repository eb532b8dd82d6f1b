"""`agents`: the agents that are, or lately were, connected."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from penstock.cli.session import Session, command_options, run_async

if TYPE_CHECKING:
    from collections.abc import Sequence

    from penstock.v1 import agent_admin_service_pb2


@click.group(invoke_without_command=True)
@command_options
@click.pass_context
def agents(context: click.Context, session: Session) -> None:
    """List, show, pause or drain agents. Without a sub-command: list."""
    if context.invoked_subcommand is None:
        context.invoke(list_agents, address=session.address, as_json=session.as_json)
    elif context.params["address"] is not None or session.as_json:
        raise click.UsageError(
            f"Give options after the sub-command: penstock agents {context.invoked_subcommand} --json"
        )


@agents.command("list")
@command_options
def list_agents(session: Session) -> None:
    """List the agents by id."""

    async def main() -> None:
        async with session.client() as client:
            found = [agent async for agent in client.list_agents()]
        show(session, found)

    run_async(main)


@agents.command("get")
@click.argument("agent_id", metavar="AGENT")
@command_options
def get_agent(session: Session, agent_id: str) -> None:
    """Show one agent."""

    async def main() -> None:
        async with session.client() as client:
            agent = await client.get_agent(agent_id)
        show(session, [agent])

    run_async(main)


@agents.command("drain")
@click.argument("agent_id", metavar="AGENT")
@click.option("--deadline", type=click.FloatRange(min=0), metavar="SECONDS", help="Then the rest is stopped. [300]")
@command_options
def drain_agent(session: Session, agent_id: str, deadline: float | None) -> None:
    """Ask an agent to take no new work, to end what it runs, and to leave."""

    async def main() -> None:
        async with session.client() as client:
            agent = await client.drain_agent(agent_id, deadline)
        show(session, [agent])

    run_async(main)


@agents.command("pause")
@click.argument("agent_ids", metavar="AGENT...", nargs=-1, required=True)
@command_options
def pause_agent(session: Session, agent_ids: tuple[str, ...]) -> None:
    """Give agents no new work until they are resumed, also after restarts. What they run goes on; what they hold and
    have not begun goes elsewhere."""

    async def main() -> None:
        async with session.client() as client:
            show(session, [await client.pause_agent(agent_id) for agent_id in agent_ids])

    run_async(main)


@agents.command("resume")
@click.argument("agent_ids", metavar="AGENT...", nargs=-1, required=True)
@command_options
def resume_agent(session: Session, agent_ids: tuple[str, ...]) -> None:
    """Let work come to paused agents again."""

    async def main() -> None:
        async with session.client() as client:
            show(session, [await client.resume_agent(agent_id) for agent_id in agent_ids])

    run_async(main)


def show(session: Session, found: Sequence[agent_admin_service_pb2.Agent]) -> None:
    """LINKS are coordinators besides the head: there if there are any."""
    if session.as_json:
        for agent in found:
            session.emit(agent)
        return
    from penstock.cli.live import state_text
    from penstock.cli.states import agent_state
    from penstock.cli.table_widths import Column, short_time
    from penstock.cli.tables import print_table, time_text
    from penstock.quantities import format_size

    rows = [
        (
            agent.id,
            state_text(agent_state(agent)),
            f"{agent.leases}/{agent.slots}",
            ", ".join(agent.queues),
            labels_text(agent),
            f"{agent.resources.cpu:g}",
            format_size(agent.resources.memory_bytes),
            agent.via,
            ", ".join(name.rpartition("@")[0] for name in agent.links),
            agent.hostname,
            agent.version,
            time_text(agent, "connect_time"),
        )
        for agent in found
    ]
    columns = (
        Column("AGENT", folds=20),
        "STATE",
        "LEASES",
        Column("QUEUES", folds=10),
        Column("LABELS", folds=12, leaves=5),
        Column("CPU", leaves=3),
        Column("MEMORY", leaves=4),
        Column("VIA", folds=12, optional=True),
        Column("LINKS", folds=12, leaves=5, optional=True),
        Column("HOST", folds=12, leaves=2),
        Column("VERSION", leaves=1),
        Column("CONNECTED", shorter=short_time, leaves=6),
    )
    print_table(session.console(), columns, rows)


def labels_text(agent: agent_admin_service_pb2.Agent) -> str:
    return ", ".join(f"{name}={value}" for name, value in sorted(agent.labels.items()))

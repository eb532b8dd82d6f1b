"""`pause` and `resume`: hold a run, and let it go on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from penstock.cli.run_ids import find_run
from penstock.cli.session import Session, command_options, emit_json, message_dict, run_async

if TYPE_CHECKING:
    from penstock.v1 import run_pb2


@click.command()
@click.argument("run_id", metavar="RUN")
@click.option("--reason", default="", help="Kept with the run.")
@command_options
def pause(session: Session, run_id: str, reason: str) -> None:
    """Start nothing more of a run until it is resumed. What runs goes on and counts."""

    async def main() -> None:
        async with session.client() as client:
            _show(session, await client.pause(await find_run(client, run_id), reason=reason))

    run_async(main)


@click.command()
@click.argument("run_id", metavar="RUN")
@command_options
def resume(session: Session, run_id: str) -> None:
    """Let a paused run go on."""

    async def main() -> None:
        async with session.client() as client:
            _show(session, await client.resume(await find_run(client, run_id)))

    run_async(main)


def _show(session: Session, run: run_pb2.Run) -> None:
    from penstock.cli.states import run_state

    if session.as_json:
        emit_json(message_dict(run))
    session.say(f"run {run.id} {run_state(run.state)}")

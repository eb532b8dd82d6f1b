"""`logs`: what the steps of a run print."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from penstock.cli.looking import split_step
from penstock.cli.run_ids import find_run
from penstock.cli.session import Session, command_options, run_async

if TYPE_CHECKING:
    from penstock.v1 import run_service_pb2


@click.command()
@click.argument("run_id", metavar="RUN")
@click.argument("step", metavar="[STEP | STEP[I]…]", required=False)
@click.option("--follow", "-f", is_flag=True, help="Go on until the step run or run is at rest.")
@click.option("--tail", type=click.IntRange(min=1), help="Only the last so many lines of those there.")
@click.option("--attempt", type=click.IntRange(min=1), help="Only this attempt.")
@command_options
def logs(session: Session, run_id: str, step: str | None, follow: bool, tail: int | None, attempt: int | None) -> None:
    """Show the output of a run, of a step, or of one item of a mapped step.

    Lines of a whole run are prefixed with their step. Standard error of a step goes to standard error.
    """
    name, item = split_step(step) if step else ("", ())

    async def main() -> None:
        async with session.client() as client:
            found = await find_run(client, run_id)
            lines = client.logs(found, name, item, attempt=attempt or 0, follow=follow, tail=tail or 0)
            async for line in lines:
                if session.as_json:
                    session.emit(line)
                else:
                    _print(line, prefixed=not name or (not item and bool(line.item)))

    run_async(main)


def _print(line: run_service_pb2.LogLine, prefixed: bool) -> None:
    from penstock.v1 import run_service_pb2

    name = line.step + "".join(f"[{place}]" for place in line.item)
    text = f"{name} | {line.text}" if prefixed else line.text
    click.echo(text, err=line.stream != run_service_pb2.LOG_STREAM_STDOUT)

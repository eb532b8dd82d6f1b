"""`logs`: what the steps of a run print."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

import click

from penstock.cli.looking import split_step
from penstock.cli.moments import read_moment
from penstock.cli.run_ids import find_run
from penstock.cli.session import Session, command_options, run_async
from penstock.quantities import LARGEST

if TYPE_CHECKING:
    from penstock.client.client import Client
    from penstock.v1 import run_service_pb2

MOST_RUNS_BELOW = 5
"""Of these the logs are pointed to."""


@click.command()
@click.argument("run_id", metavar="RUN")
@click.argument("step", metavar="[STEP | STEP[I]…]", required=False)
@click.option("--follow", "-f", is_flag=True, help="Go on until the step run or run is at rest.")
@click.option("--tail", type=click.IntRange(1, 10_000), help="Only the last so many lines of those there.")
@click.option("--since", callback=read_moment, metavar="MOMENT", help="Only lines since then: 10m (ago), 2026-11-21…")
@click.option("--attempt", type=click.IntRange(1, 2**31 - 2), help="Only this attempt.")
@click.option("--grep", "text", help="Only lines with this text, as it is.")
@click.option("--ignore-case", "-i", is_flag=True, help="Capital and small letters are the same to --grep.")
@click.option("--after", type=click.IntRange(1, LARGEST), help="Go on with a search from the position that it told.")
@command_options
def logs(
    session: Session,
    run_id: str,
    step: str | None,
    follow: bool,
    tail: int | None,
    since: datetime | None,
    attempt: int | None,
    text: str | None,
    ignore_case: bool,
    after: int | None,
) -> None:
    """Show the output of a run, of a step, or of one item of a mapped step.

    Lines of a whole run are prefixed with their step, and with the attempt from the second one on. Standard error of
    a step goes to standard error. A step that is a run of another pipeline has its logs there.
    """
    name, item = split_step(step) if step else ("", ())
    if tail and after:
        raise click.UsageError("--after goes on from a position, and --tail begins at the end: use one of them")

    def tell_stop(looked_at: int, position: int) -> None:
        click.echo(f"stopped after {looked_at:,} lines; to go on: the same with --after {position}", err=True)

    async def main() -> None:
        async with session.client() as client:
            found = await find_run(client, run_id)
            lines = client.logs(
                found,
                name,
                item,
                attempt=attempt or 0,
                follow=follow,
                tail=tail or 0,
                since=since,
                contains=text or "",
                ignore_case=ignore_case,
                after_position=after or 0,
                on_stop=tell_stop,
            )
            printer = _Printer(one_attempt=attempt is not None)
            async for line in lines:
                if session.as_json:
                    session.emit(line)
                else:
                    printer.print(line, prefixed=not name or (not item and bool(line.item)))
            if not session.as_json:
                await _point_below(client, found, name, item)

    run_async(main)


class _Printer:
    def __init__(self, *, one_attempt: bool) -> None:
        self._one_attempt = one_attempt
        self._attempt = 1

    def print(self, line: run_service_pb2.LogLine, prefixed: bool) -> None:
        from penstock.cli.progress import place_text
        from penstock.v1 import run_service_pb2

        if prefixed:
            again = f" (attempt {line.attempt})" if line.attempt > 1 and not self._one_attempt else ""
            text = f"{line.step}{place_text(line.item)}{again} | {line.text}"
        else:
            self._announce(line.attempt)
            text = line.text
        click.echo(text, err=line.stream != run_service_pb2.LOG_STREAM_STDOUT)

    def _announce(self, attempt: int) -> None:
        """On standard error: standard output is what the step wrote."""
        if attempt != self._attempt and not self._one_attempt:
            self._attempt = attempt
            click.echo(f"attempt {attempt}:", err=True)


async def _point_below(client: Client, run_id: str, step: str, place: tuple[int, ...]) -> None:
    """Names the runs that steps of this run are: what they print is theirs."""
    from penstock.cli.progress import place_text

    shown = 0
    async for run in client.list_runs(parent_run_id=run_id):
        above = run.parent
        if step and (above.step != step or tuple(above.item[: len(place)]) != place):
            continue
        if shown == MOST_RUNS_BELOW:
            click.echo(f"and more: penstock list --parent {run_id}", err=True)
            return
        shown += 1
        name = above.step + place_text(above.item)
        click.echo(f"{name} is a run of {run.pipeline}: penstock logs {run.id}", err=True)

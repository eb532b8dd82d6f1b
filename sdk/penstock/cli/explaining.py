"""`penstock explain`: why steps are not running, as sentences."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from penstock.cli.looking import split_step
from penstock.cli.run_ids import find_run
from penstock.cli.session import Session, command_options, run_async

if TYPE_CHECKING:
    from rich.console import Console

    from penstock.v1 import run_service_pb2


@click.command()
@click.argument("run")
@click.argument("step", required=False)
@command_options
def explain(session: Session, run: str, step: str | None) -> None:
    """Tell why a run, or one step run (step or step[3]), does not go on: everything that it waits for.

    \b
    penstock explain RUN
    penstock explain RUN STEP
    """

    async def main() -> None:
        name, item = split_step(step) if step else ("", ())
        async with session.client() as client:
            explained = await client.explain(await find_run(client, run), name, item)
        if session.as_json:
            session.emit(explained)
        else:
            _show(session.console(), explained, whole=step is None)

    run_async(main)


def _show(console: Console, explained: run_service_pb2.ExplainRunResponse, *, whole: bool) -> None:
    from penstock.cli.live import state_text
    from penstock.cli.states import run_state, step_state

    run = explained.run
    if whole:
        console.print(f"{run.pipeline} {run.id} is ", state_text(run_state(run.state)), ".", sep="", markup=False)
        for reason in explained.reasons:
            console.print(f"  {reason.message}", markup=False, soft_wrap=True)
    run_wide = {reason.message for reason in explained.reasons} if whole else set()
    for each in explained.steps:
        console.print(f"{_name(each)} is ", state_text(step_state(each.state)), ".", sep="", markup=False)
        for reason in each.reasons:
            if reason.message not in run_wide and reason.kind != "AtRest":
                console.print(f"  {reason.message}", markup=False, soft_wrap=True)
    if explained.omitted_steps:
        console.print(f"{explained.omitted_steps} more step runs are not at rest: name a step to see its reasons.")
    elif whole and not explained.steps and not explained.reasons:
        console.print("  All of its steps are at rest.")


def _name(each: run_service_pb2.StepExplanation) -> str:
    place = "".join(f"[{number}]" for number in each.item)
    more = f" and the {each.item_count - 1} items after it" if each.item_count > 1 else ""
    return f"{each.step}{place}{more}"

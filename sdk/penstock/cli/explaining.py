"""`penstock explain`: why steps are not running, as sentences."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from penstock.cli.foreign_text import visible
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
    from penstock.cli.states import run_state
    from penstock.v1 import run_pb2

    run = explained.run
    if whole:
        console.print(f"{run.pipeline} {run.id} is ", state_text(run_state(run.state)), ".", sep="", markup=False)
        for reason in explained.reasons:
            console.print(f"  {visible(reason.message)}", markup=False, soft_wrap=True)
    _show_steps(console, explained, whole=whole)
    if explained.omitted_steps:
        console.print(f"{explained.omitted_steps} more step runs are not at rest: name a step to see its reasons.")
    elif whole and not explained.steps and not explained.reasons:
        console.print("  All of its steps are at rest.")
    if whole and run.state == run_pb2.RUN_STATE_FAILED:
        hint = f"  `penstock get {run.id}` shows its steps, `penstock retry {run.id}` lets what failed run again."
        console.print(hint, markup=False, soft_wrap=True)


def _show_steps(console: Console, explained: run_service_pb2.ExplainRunResponse, *, whole: bool) -> None:
    from penstock.cli.live import state_text
    from penstock.cli.states import step_state
    from penstock.v1 import run_pb2

    run_wide = {reason.message for reason in explained.reasons} if whole else set()
    for each in explained.steps:
        verb = "are" if each.item_count > 1 else "is"
        console.print(f"{_name(each)} {verb} ", state_text(step_state(each.state)), ".", sep="", markup=False)
        for reason in each.reasons:
            # That it is at rest was just said; why it failed was not.
            if reason.message not in run_wide and reason.message != f"It is {step_state(each.state)}.":
                console.print(f"  {visible(reason.message)}", markup=False, soft_wrap=True)
        if each.state == run_pb2.STEP_RUN_STATE_FAILED:
            hint = f"  Its attempts and traceback: penstock get {explained.run.id} {_quoted(each)}"
            console.print(hint, markup=False, soft_wrap=True)


def _name(each: run_service_pb2.StepExplanation) -> str:
    after = each.item_count - 1
    if after < 1:
        return _place(each)
    return _place(each) + (" and the item after it" if after == 1 else f" and the {after} items after it")


def _place(each: run_service_pb2.StepExplanation) -> str:
    return each.step + "".join(f"[{number}]" for number in each.item)


def _quoted(each: run_service_pb2.StepExplanation) -> str:
    """For a shell, which takes brackets for a pattern."""
    return f"'{_place(each)}'" if each.item else each.step

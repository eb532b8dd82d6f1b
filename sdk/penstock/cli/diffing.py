"""`penstock diff`: what is different between two runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from penstock.cli.session import Session, command_options, run_async

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rich.console import Console

    from penstock.v1 import difference_pb2, run_service_pb2


@click.command()
@click.argument("before", metavar="RUN")
@click.argument("after", metavar="RUN")
@command_options
def diff(session: Session, before: str, after: str) -> None:
    """Show what is different between two runs: of the runs as wholes, then step by step.

    \b
    penstock diff RUN RUN
    """

    async def main() -> None:
        async with session.client() as client:
            found = await client.diff_runs(before, after)
        if session.as_json:
            session.emit(found)
        else:
            _show_runs(session.console(), found)

    run_async(main)


def _show_runs(console: Console, found: run_service_pb2.DiffRunsResponse) -> None:
    from penstock.v1 import difference_pb2

    _show_changes(console, found.changes, "")
    for each in found.steps:
        if each.kind == difference_pb2.DIFFERENCE_KIND_ADDED:
            console.print(f"+ {each.step}: only in the second run", markup=False)
        elif each.kind == difference_pb2.DIFFERENCE_KIND_REMOVED:
            console.print(f"- {each.step}: only in the first run", markup=False)
        else:
            console.print(each.step, markup=False)
            _show_changes(console, each.changes, "  ")
    if not found.changes and not found.steps:
        console.print("There is no difference.")


def _show_changes(console: Console, changes: Iterable[difference_pb2.FieldChange], indent: str) -> None:
    for change in changes:
        before = change.before_json if change.HasField("before_json") else "nothing"
        after = change.after_json if change.HasField("after_json") else "nothing"
        console.print(f"{indent}{change.path}: {before} -> {after}", markup=False, soft_wrap=True)

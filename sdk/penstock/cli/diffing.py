"""`penstock diff`: what is different between two runs, or between two versions of a pipeline."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from penstock.cli.run_ids import find_run
from penstock.cli.session import Session, command_options, run_async
from penstock.quantities import LARGEST

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rich.console import Console

    from penstock.v1 import difference_pb2, pipeline_service_pb2, run_service_pb2


@click.command()
@click.argument("before", metavar="RUN | PIPELINE[@VERSION]")
@click.argument("after", metavar="[RUN | PIPELINE@VERSION]", required=False)
@click.option("--versions", nargs=2, type=click.IntRange(1, LARGEST), help="Two versions of the pipeline.")
@command_options
def diff(session: Session, before: str, after: str | None, versions: tuple[int, int] | None) -> None:
    """Show what is different between two runs, or between two versions of a pipeline, step by step.

    \b
    penstock diff RUN RUN
    penstock diff PIPELINE                  the newest version from the one before
    penstock diff PIPELINE@5                version 5 from the one before
    penstock diff PIPELINE@3 PIPELINE@5
    penstock diff PIPELINE --versions 3 5
    """
    chosen = read_versions(before, after, versions)

    async def main() -> None:
        async with session.client() as client:
            if chosen is None:
                runs = await client.diff_runs(await find_run(client, before), await find_run(client, after or ""))
                if session.as_json:
                    session.emit(runs)
                else:
                    _show_runs(session.console(), runs)
                return
            found = await client.diff_versions(*chosen)
            if session.as_json:
                session.emit(found)
            else:
                _show_versions(session.console(), chosen[0], found)

    run_async(main)


def read_versions(before: str, after: str | None, versions: tuple[int, int] | None) -> tuple[str, int, int] | None:
    """The pipeline and its versions (0: see `Client.diff_versions`); None: two runs are meant."""
    if versions is not None:
        if after is not None or "@" in before:
            raise click.UsageError("Give one pipeline's name with --versions.")
        return before, *versions
    if after is None:
        name, number = _version(before)
        return name, 0, number
    if "@" not in before and "@" not in after:
        return None
    (name, number), (other, other_number) = _version(before), _version(after)
    if not number or not other_number:
        raise click.UsageError("A run and a version have nothing to compare: give PIPELINE@VERSION twice.")
    if name != other:
        raise click.UsageError(f"These are versions of two pipelines, {name} and {other}.")
    return name, number, other_number


def _version(text: str) -> tuple[str, int]:
    """NAME or NAME@NUMBER; 0 without a number."""
    name, at, number = text.partition("@")
    if at and not (number.isdecimal() and int(number)):
        raise click.UsageError(f"{text!r} names no version: write PIPELINE@3.")
    return name, int(number) if at else 0


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


def _show_versions(console: Console, pipeline: str, found: pipeline_service_pb2.DiffVersionsResponse) -> None:
    from penstock.v1 import difference_pb2

    console.print(f"{pipeline}: version {found.number} -> version {found.other_number}", markup=False)
    if not found.steps and [change.path for change in found.changes] == ["bundle_digest"]:
        text = "No step is different, and no function's code changed: only other files of the bundle did."
        console.print(text, soft_wrap=True)
    _show_changes(console, found.changes, "")
    for each in found.steps:
        match each.kind:
            case difference_pb2.DIFFERENCE_KIND_ADDED:
                console.print(f"+ {each.step}: added", markup=False)
            case difference_pb2.DIFFERENCE_KIND_REMOVED:
                console.print(f"- {each.step}: removed", markup=False)
            case difference_pb2.DIFFERENCE_KIND_RENAMED:
                console.print(f"= {each.step}: was {each.former_name}, and is the same besides", markup=False)
            case _:
                console.print(f"~ {each.step}" + (": its code changed" if each.code_changed else ""), markup=False)
                _show_changes(console, each.changes, "    ")
    if not found.changes and not found.steps:
        console.print("There is no difference.")

"""`apply`, `validate`, `delete` and `cancel`: commands that change or check one thing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from penstock.cli.run_ids import find_run
from penstock.cli.session import EXIT_USAGE, Session, command_options, emit_json, file_options, message_dict, run_async

if TYPE_CHECKING:
    from penstock.v1 import pipeline_pb2


@click.command()
@file_options
@command_options
def apply(session: Session, target: str, chosen: str | None, settings: tuple[str, ...]) -> None:
    """Create the pipelines of a .py file or the pipeline of a .yaml file, or new versions of them.

    The same content again is the same version. Those that a pipeline calls are created before it.
    """
    from penstock.cli.loading import load_all, refused_of
    from penstock.cli.params import read_settings

    prepared = load_all(target, chosen, read_settings(settings))

    async def main() -> None:
        async with session.client() as client:
            with refused_of(target):
                versions = await client.create_prepared(prepared)
            for version in versions:
                _show_version(session, version)

    run_async(main)


def _show_version(session: Session, version: pipeline_pb2.PipelineVersion) -> None:
    if session.as_json:
        session.emit(version)
    session.say(f"{version.pipeline} version {version.number} ({version.digest[:12]}), {version.step_count} steps")


@click.command()
@file_options
@command_options
def validate(session: Session, target: str, chosen: str | None, settings: tuple[str, ...]) -> None:
    """Check the pipeline of a .py or .yaml file as `apply` does, and store nothing.

    Exit code 2 if there are problems, one line each: the file, the field, what is wrong.
    """
    from penstock.cli.loading import load_pipeline
    from penstock.cli.params import read_settings

    loaded = load_pipeline(target, chosen, read_settings(settings))

    async def main() -> int:
        async with session.client() as client:
            problems = [
                (f"{each.spec.name}: {field}", text)
                for each in loaded.called
                for field, text in await client.validate(each.spec)
            ]
            problems += await client.validate(loaded.spec)
        if session.as_json:
            emit_json({"problems": [{"field": field, "description": text} for field, text in problems]})
        for field, text in problems:
            session.say(f"{click.format_filename(target)}: {f'{field}: ' if field else ''}{text}")
        if not problems:
            session.say(f"{loaded.spec.name} is valid")
        return EXIT_USAGE if problems else 0

    run_async(main)


@click.command()
@click.argument("name")
@command_options
def delete(session: Session, name: str) -> None:
    """Take a pipeline out of lists. Its runs stay; it must have no live ones."""

    async def main() -> None:
        async with session.client() as client:
            await client.delete_pipeline(name)
        if session.as_json:
            emit_json({})
        session.say(f"{name} is deleted")

    run_async(main)


@click.command()
@click.argument("run_id", metavar="RUN")
@click.option("--now", is_flag=True, help="Kill what runs at once, and run no cleanup steps.")
@click.option("--reason", default="", help="Kept with the run.")
@command_options
def cancel(session: Session, run_id: str, now: bool, reason: str) -> None:
    """Cancel a run. Answered when the decision is kept, not when the last step has stopped."""

    async def main() -> None:
        from penstock.cli.states import RUN_AT_REST, run_state

        async with session.client() as client:
            found = await find_run(client, run_id)
            before = run_state((await client.get_run(found)).state)
            run = await client.cancel(found, now=now, reason=reason)
        if session.as_json:
            emit_json(message_dict(run))
        elif before in RUN_AT_REST:
            session.say(f"run {run.id} is already {before}: nothing to cancel")
        else:
            session.say(f"run {run.id} {run_state(run.state)}")

    run_async(main)

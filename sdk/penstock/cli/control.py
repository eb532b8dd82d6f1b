"""`pause`, `resume`, `retry`, `rerun` and `rollback`: hold a run, let it go on, let parts of it run again, undo it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from penstock.cli.run_ids import find_run
from penstock.cli.session import Session, command_options, confirm, emit_json, message_dict, run_async
from penstock.quantities import LARGEST

if TYPE_CHECKING:
    from penstock.client.client import Client
    from penstock.v1 import run_pb2, run_service_pb2


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


@click.command()
@click.argument("run_id", metavar="RUN")
@click.option("--newest-version", is_flag=True, help="Go on with the newest version of the pipeline.")
@click.option("--version", type=click.IntRange(1, LARGEST), help="Go on with this version. Default: the run's own.")
@click.option("--reason", default="", help="Kept with the run.")
@command_options
def retry(session: Session, run_id: str, newest_version: bool, version: int | None, reason: str) -> None:
    """Let what failed or was cancelled run again, with all that it kept from running. What is COMPLETED stays; with
    another version of the pipeline, if its code, its inputs and all before it did not change."""
    _check_version(newest_version, version)

    async def main() -> None:
        async with session.client() as client:
            run = await find_run(client, run_id)
            done = await client.retry(run, version_number=version or 0, newest_version=newest_version, reason=reason)
            what = _goes_on(done)
            if newest_version or version is not None:
                what += f", with version {done.run.version_number}"
            _show_again(session, done, what)

    run_async(main)


@click.command()
@click.argument("run_id", metavar="RUN")
@click.argument("step", metavar="STEP")
@click.option("--reason", default="", help="Kept with the run.")
@command_options
def rerun(session: Session, run_id: str, step: str, reason: str) -> None:
    """Let one step, or one item (STEP[3]), run again with everything that comes after it."""
    from penstock.cli.looking import split_step

    async def main() -> None:
        async with session.client() as client:
            name, place = split_step(step)
            done = await client.rerun(await find_run(client, run_id), name, place, reason=reason)
            _show_again(session, done, _again(done.reset_steps))

    run_async(main)


@click.command()
@click.argument("run_id", metavar="RUN")
@click.option("--newest-version", is_flag=True, help="With the compensate steps of the newest version.")
@click.option("--version", type=click.IntRange(1, LARGEST), help="With those of this version. Default: the run's own.")
@click.option("--reason", default="", help="Kept with the run.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@command_options
def rollback(session: Session, run_id: str, newest_version: bool, version: int | None, reason: str, yes: bool) -> None:
    """Undo what a run did: the compensate steps of its COMPLETED steps run, the latest first. Of a run whose rollback
    failed or was cancelled, what is left of it."""
    _check_version(newest_version, version)

    async def main() -> None:
        async with session.client() as client:
            run = await find_run(client, run_id)
            if not yes:
                await _confirm_rollback(client, run)
            done = await client.rollback(run, version_number=version or 0, newest_version=newest_version, reason=reason)
            if session.as_json:
                emit_json(message_dict(done))
            count = done.steps_to_undo
            what = _to_undo(count) if count else "nothing is to be undone"
            session.say(f"run {done.run.id}, generation {done.run.generation}: {what}")
            if count:
                session.say(f"Watch it: penstock watch {done.run.id}")

    run_async(main)


async def _confirm_rollback(client: Client, run_id: str) -> None:
    from penstock.cli.states import run_state

    run = await client.get_run(run_id)
    question = f"Undo what the run {run.id} of {run.pipeline}, which is {run_state(run.state)}, did?"
    confirm(question)


def _check_version(newest_version: bool, version: int | None) -> None:
    if newest_version and version is not None:
        raise click.UsageError("--newest-version and --version N exclude each other: give one of them")


def _show_again(
    session: Session, done: run_service_pb2.RetryRunResponse | run_service_pb2.RerunStepResponse, what: str
) -> None:
    if session.as_json:
        emit_json(message_dict(done))
    session.say(f"run {done.run.id}, generation {done.run.generation}: {what}")
    session.say(f"Watch it: penstock watch {done.run.id}")


def _goes_on(done: run_service_pb2.RetryRunResponse) -> str:
    """A retry of a run whose rollback did not come to its end goes on with that, and not with the work."""
    from penstock.cli.states import run_state

    if run_state(done.run.state) in ("ROLLING_BACK", "ROLLED_BACK"):
        return f"the rollback goes on: {_to_undo(done.reset_steps)}"
    return f"{_again(done.reset_steps)}, {_kept(done)}"


def _to_undo(steps: int) -> str:
    return "1 step will be undone" if steps == 1 else f"{steps} steps will be undone"


def _again(steps: int) -> str:
    return "1 step runs again" if steps == 1 else f"{steps} steps run again"


def _kept(done: run_service_pb2.RetryRunResponse) -> str:
    """Of a map that runs again the items that are COMPLETED stay: they are counted too."""
    kept = max(done.kept_step_runs, done.kept_steps)
    if kept == done.kept_steps:
        return "1 step stays COMPLETED" if kept == 1 else f"{kept} steps stay COMPLETED"
    return f"{kept} step runs stay COMPLETED" if kept != 1 else "1 step run stays COMPLETED"


def _show(session: Session, run: run_pb2.Run) -> None:
    from penstock.cli.states import run_state

    if session.as_json:
        emit_json(message_dict(run))
    session.say(f"run {run.id} {run_state(run.state)}")

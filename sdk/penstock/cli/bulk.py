"""`bulk`: cancel or retry many runs at once, as jobs that survive restarts."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import click

from penstock.cli.looking import STATES
from penstock.cli.moments import read_moment
from penstock.cli.remedies import known_pipeline
from penstock.cli.session import EXIT_FAILED, EXIT_OK, Session, command_options, confirm, run_async

if TYPE_CHECKING:
    from penstock.client.client import Client
    from penstock.v1 import bulk_service_pb2


SHOWN_REFUSALS = 5


@click.group()
def bulk() -> None:
    """Cancel, retry or roll back many runs: as a job that goes on after a restart of the coordinator."""


def selecting(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options that choose runs, as one mapping."""
    options = (
        click.option("--pipeline", default="", metavar="NAME", help="Only runs of this pipeline."),
        click.option(
            "--state",
            "states",
            multiple=True,
            type=click.Choice(STATES, case_sensitive=False),
            help="Only these states.",
        ),
        click.option("--label", "labels", multiple=True, metavar="NAME=VALUE", help="Only runs with this label."),
        click.option(
            "--after",
            "created_after",
            metavar="MOMENT",
            callback=read_moment,
            help="Created at this time (UTC) or later.",
        ),
        click.option(
            "--before", "created_before", metavar="MOMENT", callback=read_moment, help="Created before this time (UTC)."
        ),
        click.option("--all", "everything", is_flag=True, help="All runs: in the place of options that choose some."),
        click.option("--reason", default="", help="For people."),
        click.option("--dry-run", is_flag=True, help="Only count the runs."),
        click.option("--yes", "-y", is_flag=True, help="Do not ask."),
        click.option("--wait", is_flag=True, help="Return when the job has gone through all runs."),
    )

    @functools.wraps(command)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        from penstock.cli.running import read_labels
        from penstock.v1 import run_pb2

        chosen = {
            "pipeline": kwargs.pop("pipeline"),
            "states": [run_pb2.RunState.Value(f"RUN_STATE_{state.upper()}") for state in kwargs.pop("states")],
            "labels": read_labels(kwargs.pop("labels")),
            "created_after": kwargs.pop("created_after"),
            "created_before": kwargs.pop("created_before"),
        }
        if kwargs.pop("everything") == any(chosen.values()):
            raise click.UsageError(
                "Choose runs (--pipeline, --state, --label, --after, --before), or take --all of them."
            )
        chosen["reason"] = kwargs.pop("reason")
        return command(*args, chosen=chosen, **kwargs)

    for option in reversed(options):
        wrapped = option(wrapped)
    return wrapped


@bulk.command("cancel")
@click.option("--now", is_flag=True, help="Kill at once, run no cleanup steps.")
@selecting
@command_options
def cancel_many(session: Session, chosen: dict[str, Any], now: bool, dry_run: bool, yes: bool, wait: bool) -> None:
    """Cancel the live runs that the options choose."""
    _make(session, "cancel", {**chosen, "now": now}, dry_run=dry_run, yes=yes, wait=wait)


@bulk.command("retry")
@click.option("--newest-version", is_flag=True, help="Each with the newest version of its pipeline.")
@selecting
@command_options
def retry_many(
    session: Session, chosen: dict[str, Any], newest_version: bool, dry_run: bool, yes: bool, wait: bool
) -> None:
    """Retry the runs that ended FAILED or CANCELLED and that the options choose."""
    chosen = {**chosen, "newest_version": newest_version}
    _make(session, "retry", chosen, dry_run=dry_run, yes=yes, wait=wait)


@bulk.command("rollback")
@click.option("--newest-version", is_flag=True, help="Each with the compensate steps of its pipeline's newest version.")
@selecting
@command_options
def roll_back_many(
    session: Session, chosen: dict[str, Any], newest_version: bool, dry_run: bool, yes: bool, wait: bool
) -> None:
    """Undo what the runs did that ended FAILED or CANCELLED and that the options choose; with --state completed also
    others."""
    chosen = {**chosen, "newest_version": newest_version}
    _make(session, "rollback", chosen, dry_run=dry_run, yes=yes, wait=wait)


def _make(session: Session, action: str, chosen: dict[str, Any], *, dry_run: bool, yes: bool, wait: bool) -> None:
    async def main() -> int:
        async with session.client() as client:
            counted = await _create(client, action, {**chosen, "dry_run": True})
            if not counted.seen_count and chosen["pipeline"]:
                await known_pipeline(client, chosen["pipeline"])
            if dry_run or not counted.seen_count:
                _say_count(session, action, counted)
                return EXIT_OK
            if not yes:
                confirm(f"{action} {_runs(counted.seen_count)}?")
            job = await _create(client, action, chosen)
            if wait:
                job = await job_at_its_end(session, client, job.id)
        return show_made(session, job, waited=wait)

    run_async(main)


def _say_count(session: Session, action: str, counted: bulk_service_pb2.BulkJob) -> None:
    if session.as_json:
        session.emit(counted)
    if counted.seen_count:
        session.say(f"{_runs(counted.seen_count)} would be asked to {action}")
    else:
        session.say(f"There is no run to {action}.")


def _runs(count: int) -> str:
    return "1 run" if count == 1 else f"{count} runs"


async def _create(client: Client, action: str, chosen: dict[str, Any]) -> bulk_service_pb2.BulkJob:
    job: bulk_service_pb2.BulkJob = await getattr(client.bulk, action)(**chosen)
    return job


@bulk.command("list")
@click.option("--limit", type=click.IntRange(min=1), default=50, show_default=True)
@command_options
def list_jobs(session: Session, limit: int) -> None:
    """List the jobs, newest first."""

    async def main() -> None:
        jobs = []
        async with session.client() as client:
            async for job in client.bulk.list():
                jobs.append(job)
                if len(jobs) == limit:
                    break
        show_jobs(session, jobs)

    run_async(main)


@bulk.command("get")
@click.argument("job_id", metavar="JOB")
@command_options
def get_job(session: Session, job_id: str) -> None:
    """Show a job with its first refusals."""

    async def main() -> None:
        async with session.client() as client:
            job = await client.bulk.get(job_id)
        show_jobs(session, [job])
        _say_refusals(session, job, len(job.refusals))

    run_async(main)


@bulk.command("stop")
@click.argument("job_id", metavar="JOB")
@command_options
def stop_job(session: Session, job_id: str) -> None:
    """Stop a job where it is. What it has done stays done."""

    async def main() -> None:
        async with session.client() as client:
            show_jobs(session, [await client.bulk.stop(job_id)])

    run_async(main)


async def job_at_its_end(session: Session, client: Client, job_id: str) -> bulk_service_pb2.BulkJob:
    """Waits for it, and tells people what for."""
    from rich.console import Console

    from penstock.cli.job_wait import end_of

    console = None if session.as_json else Console(stderr=True, highlight=False)
    return await end_of(job_id, client.bulk.wait(job_id), lambda: client.bulk.get(job_id), console)


def show_made(session: Session, job: bulk_service_pb2.BulkJob, *, waited: bool) -> int:
    """A job that was just made, with what to do next; the exit code: 1 if it is known that runs refused."""
    show_jobs(session, [job])
    if not waited:
        session.say(f"How far it is, and what refused: penstock bulk get {job.id}")
        return EXIT_OK
    _say_refusals(session, job, SHOWN_REFUSALS)
    if job.failed_count > SHOWN_REFUSALS:
        session.say(f"{_runs(job.failed_count)} refused; more of them: penstock bulk get {job.id}")
    return EXIT_FAILED if job.failed_count else EXIT_OK


def _say_refusals(session: Session, job: bulk_service_pb2.BulkJob, most: int) -> None:
    for refusal in job.refusals[:most]:
        session.say(f"{refusal.run_id}: {refusal.message}")


def show_jobs(session: Session, jobs: Iterable[bulk_service_pb2.BulkJob]) -> None:
    from penstock.cli.table_widths import Column, short_time
    from penstock.cli.tables import print_table, time_text
    from penstock.v1 import bulk_service_pb2

    rows = []
    for job in jobs:
        if session.as_json:
            session.emit(job)
        action = bulk_service_pb2.BulkAction.Name(job.action).removeprefix("BULK_ACTION_").lower()
        state = bulk_service_pb2.BulkJobState.Name(job.state).removeprefix("BULK_JOB_STATE_")
        counts = (job.seen_count, job.done_count, job.unchanged_count, job.failed_count)
        rows.append((job.id, action, state, time_text(job, "create_time"), *map(str, counts)))
    if not session.as_json:
        created = Column("CREATED", shorter=short_time, leaves=1)
        unchanged = Column("UNCHANGED", leaves=2)
        columns = ("JOB", "ACTION", "STATE", created, "SEEN", "DONE", unchanged, "REFUSED")
        print_table(session.console(), columns, rows)

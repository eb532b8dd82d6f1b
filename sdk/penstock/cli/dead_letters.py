"""`dead-letters`: look at what failed for good, let it run again, or take it off the list."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from penstock.cli.bulk import job_at_its_end, show_made
from penstock.cli.letter_names import check_known, hint
from penstock.cli.moments import read_moment
from penstock.cli.run_ids import find_run
from penstock.cli.running import watch_again
from penstock.cli.session import EXIT_OK, Session, command_options, confirm, emit_json, message_dict, run_async

if TYPE_CHECKING:
    from penstock.client.client import Client
    from penstock.v1 import bulk_service_pb2, dead_letter_pb2

BUDGETS = ("retries", "infrastructure", "poison")
STATES = ("open", "requeued", "purged")


@click.group("dead-letters")
def dead_letters() -> None:
    """Step runs that FAILED and were not allowed to: see why, let them run again, or take them off the list."""


def selecting(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options that choose letters, as one mapping."""
    options = (
        click.option("--pipeline", default="", metavar="NAME", help="Only those of this pipeline."),
        click.option("--run", "run_id", default="", metavar="RUN", help="Only those of this run."),
        click.option("--step", default="", metavar="STEP", help="Only those of the step of this name, with its items."),
        click.option("--failure", default="", metavar="REASON", help="Only this reason: Poison, UserError, ..."),
        click.option(
            "--error-class", default="", metavar="CLASS", help="Only this exception: KeyError, or with modules."
        ),
        click.option(
            "--budget",
            "budgets",
            multiple=True,
            type=click.Choice(BUDGETS, case_sensitive=False),
            help="Only where this was used up.",
        ),
        click.option("--label", "labels", multiple=True, metavar="NAME=VALUE", help="Only of runs with this label."),
        click.option(
            "--after", "failed_after", metavar="MOMENT", callback=read_moment, help="Failed at this time or later."
        ),
        click.option(
            "--before", "failed_before", metavar="MOMENT", callback=read_moment, help="Failed before this time."
        ),
    )

    @functools.wraps(command)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        from penstock.cli.running import read_labels
        from penstock.v1 import run_pb2

        chosen = {
            "pipeline": kwargs.pop("pipeline"),
            "run_id": kwargs.pop("run_id"),
            "step": kwargs.pop("step"),
            "reason": kwargs.pop("failure"),
            "error_class": kwargs.pop("error_class"),
            "budgets": [run_pb2.Budget.Value(f"BUDGET_{name.upper()}") for name in kwargs.pop("budgets")],
            "labels": read_labels(kwargs.pop("labels")),
            "failed_after": kwargs.pop("failed_after"),
            "failed_before": kwargs.pop("failed_before"),
        }
        return command(*args, chosen=chosen, **kwargs)

    for option in reversed(options):
        wrapped = option(wrapped)
    return wrapped


def choosing(command: Callable[..., Any]) -> Callable[..., Any]:
    """One letter, or options that choose some, or all: as `letter_id` and `chosen`."""
    options = (
        click.argument("letter_id", metavar="[LETTER]", required=False),
        click.option("--all", "everything", is_flag=True, help="All open letters: in the place of options."),
        click.option("--reason", "why", default="", help="For people."),
        click.option("--dry-run", is_flag=True, help="Only count the letters."),
        click.option("--yes", "-y", is_flag=True, help="Do not ask."),
        click.option("--wait", is_flag=True, help="Of a requeued LETTER: watch the run. Else: till the job is done."),
    )

    @functools.wraps(command)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        named, some, every = bool(kwargs["letter_id"]), any(kwargs["chosen"].values()), kwargs.pop("everything")
        if named + some + every != 1:
            raise click.UsageError(
                "Name one LETTER, or choose some (--pipeline, --run, --step, --failure, --error-class, --budget,"
                " --label, --after, --before), or take --all of them."
            )
        return command(*args, **kwargs)

    for option in reversed(options):
        wrapped = option(wrapped)
    return selecting(wrapped)


@dead_letters.command("list")
@selecting
@click.option(
    "--state", "states", multiple=True, type=click.Choice(STATES, case_sensitive=False), help="Default: open."
)
@click.option("--limit", type=click.IntRange(min=1), default=50, show_default=True)
@command_options
def list_letters(session: Session, chosen: dict[str, Any], states: tuple[str, ...], limit: int) -> None:
    """List the letters, the newest failure first."""
    from penstock.v1 import dead_letter_pb2

    wanted = [dead_letter_pb2.DeadLetterState.Value(f"DEAD_LETTER_STATE_{state.upper()}") for state in states]

    async def main() -> None:
        letters: list[dead_letter_pb2.DeadLetter] = []
        async with session.client() as client:
            await _resolve(client, chosen)
            async for letter in client.dead_letters.list(**chosen, states=wanted):
                letters.append(letter)
                if len(letters) == limit:
                    break
            if not letters:
                await check_known(client, chosen)
                session.say(await hint(client, chosen, wanted) or "There is no such letter.")
                return
        _show(session, letters)

    run_async(main)


@dead_letters.command("show")
@click.argument("letter_id", metavar="LETTER")
@click.option("--lines", type=click.IntRange(1, 1_000), default=20, show_default=True, help="So many of its log.")
@command_options
def show_letter(session: Session, letter_id: str, lines: int) -> None:
    """Show a letter: its inputs, every attempt with its failure, the end of its log, and what to do."""

    async def main() -> None:
        async with session.client() as client:
            found = await client.dead_letters.get(await _letter(client, letter_id), log_lines=lines)
        if session.as_json:
            session.emit(found)
            return
        from penstock.cli.dead_letter import print_letter

        print_letter(session.console(), found)

    run_async(main)


@dead_letters.command("requeue")
@choosing
@command_options
def requeue(
    session: Session,
    letter_id: str | None,
    chosen: dict[str, Any],
    why: str,
    dry_run: bool,
    yes: bool,
    wait: bool,
) -> None:
    """Let what failed run again with everything that comes after it, in a new generation of its run: one LETTER, or
    those that the options choose, as a job."""
    if letter_id is None:
        _many(session, "requeue", chosen, why, dry_run=dry_run, yes=yes, wait=wait)
        return

    async def main() -> int:
        async with session.client() as client:
            letter = await _letter(client, letter_id)
            if dry_run:
                _show(session, [(await client.dead_letters.get(letter)).letter])
                return EXIT_OK
            done = await client.dead_letters.requeue(letter, reason=why)
            if session.as_json:
                emit_json(message_dict(done))
            again = "1 step runs again" if done.reset_steps == 1 else f"{done.reset_steps} steps run again"
            session.say(f"run {done.run.id}, generation {done.run.generation}: {again}")
            if wait:
                return await watch_again(session, client, done.run)
            session.say(f"Watch it: penstock watch {done.run.id}")
            return EXIT_OK

    run_async(main)


@dead_letters.command("purge")
@choosing
@command_options
def purge(
    session: Session,
    letter_id: str | None,
    chosen: dict[str, Any],
    why: str,
    dry_run: bool,
    yes: bool,
    wait: bool,
) -> None:
    """Take letters off the list: one LETTER, or those that the options choose, as a job. Runs stay as they are."""
    if letter_id is None:
        _many(session, "purge", chosen, why, dry_run=dry_run, yes=yes, wait=wait)
        return

    async def main() -> None:
        async with session.client() as client:
            letter = await _letter(client, letter_id)
            if dry_run:
                _show(session, [(await client.dead_letters.get(letter)).letter])
                return
            _show(session, [await client.dead_letters.purge(letter)])

    run_async(main)


def _many(
    session: Session, action: str, chosen: dict[str, Any], why: str, *, dry_run: bool, yes: bool, wait: bool
) -> None:
    async def main() -> int:
        async with session.client() as client:
            await _resolve(client, chosen)
            counted = await _create(client, action, {**chosen, "dry_run": True})
            if not counted.letter_count:
                await check_known(client, chosen)
            if dry_run or not counted.letter_count:
                _say_count(session, action, counted)
                if not counted.letter_count and (why_none := await hint(client, chosen, ())):
                    session.say(why_none)
                return EXIT_OK
            if not yes:
                confirm(f"{action} {_counted(counted)}?")
            job = await _create(client, action, {**chosen, "why": why})
            if wait:
                job = await job_at_its_end(session, client, job.id)
        return show_made(session, job, waited=wait)

    run_async(main)


async def _create(client: Client, action: str, chosen: dict[str, Any]) -> bulk_service_pb2.BulkJob:
    job: bulk_service_pb2.BulkJob = await getattr(client.dead_letters, f"{action}_many")(**chosen)
    return job


def _say_count(session: Session, action: str, counted: bulk_service_pb2.BulkJob) -> None:
    if session.as_json:
        session.emit(counted)
    if counted.letter_count:
        session.say(f"It would {action} {_counted(counted)}.")
    else:
        session.say(f"There is no open letter to {action}.")


def _counted(job: bulk_service_pb2.BulkJob) -> str:
    letters = "1 letter" if job.letter_count == 1 else f"{job.letter_count:,} letters"
    return f"{letters} of {'1 run' if job.seen_count == 1 else f'{job.seen_count:,} runs'}"


async def _resolve(client: Client, chosen: dict[str, Any]) -> None:
    """A run may be named by the end of its id."""
    if chosen["run_id"]:
        chosen["run_id"] = await find_run(client, chosen["run_id"])


async def _letter(client: Client, text: str) -> str:
    """The id of a letter, whose run may be named by the end of its id."""
    run_id, colon, number = text.rpartition(":")
    return f"{await find_run(client, run_id)}:{number}" if colon and run_id and number.isdigit() else text


def _show(session: Session, letters: list[dead_letter_pb2.DeadLetter]) -> None:
    if session.as_json:
        for letter in letters:
            session.emit(letter)
        return
    from penstock.cli.states import budget_word, failure_text, letter_state
    from penstock.cli.table_widths import Column, short_time
    from penstock.cli.tables import MAX_FAILURE, print_table, shortened, time_text

    if not letters:
        session.say("There is no such letter.")
        return
    rows = [
        (
            letter.id,
            time_text(letter, "fail_time"),
            letter.pipeline,
            letter.display_name,
            budget_word(letter.budget),
            str(letter.attempt_count),
            letter_state(letter.state),
            shortened(failure_text(letter.failure), MAX_FAILURE),
        )
        for letter in letters
    ]

    columns = (
        "LETTER",
        Column("FAILED", shorter=short_time, leaves=2),
        Column("PIPELINE", folds=12),
        Column("STEP", folds=12),
        Column("BUDGET", leaves=3),
        Column("ATTEMPTS", leaves=1),
        "STATE",
        Column("FAILURE", folds=20),
    )
    print_table(session.console(), columns, rows)

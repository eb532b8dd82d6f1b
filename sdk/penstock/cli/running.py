"""`run`, `start` and `watch`: runs that a person starts and looks at."""

from __future__ import annotations

import contextlib
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import click

from penstock.cli.remedies import better_pipeline
from penstock.cli.run_ids import find_run
from penstock.cli.session import (
    EXIT_CANCELLED,
    EXIT_FAILED,
    EXIT_INTERRUPTED,
    EXIT_OK,
    Session,
    command_options,
    file_options,
    run_async,
)
from penstock.errors import NotFoundError, ParameterError
from penstock.quantities import LARGEST, LEAST_WEIGHT, MAX_PRIORITY, MOST_WEIGHT

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable
    from typing import Any

    from penstock.cli.progress import RunProgress
    from penstock.client.client import Client
    from penstock.json_values import Json
    from penstock.v1 import pipeline_pb2, run_pb2


def start_options(function: Callable[..., Any]) -> Callable[..., Any]:
    for option in (
        click.option("--detach", "-d", is_flag=True, help="Print the run's id and do not watch it."),
        click.option(
            "--weight",
            type=click.FloatRange(LEAST_WEIGHT, MOST_WEIGHT),
            help="The run's share among those of equal priority. Default: the pipeline's.",
        ),
        click.option(
            "--priority",
            type=click.IntRange(-MAX_PRIORITY, MAX_PRIORITY),
            help="Who waits for agents with a higher one is served first. Default: the pipeline's.",
        ),
        click.option(
            "--run-key-reuse",
            type=click.Choice(["allow", "after_failure", "reject"]),
            help="Whether a key whose newest run is at rest may have another. Default: allow.",
        ),
        click.option("--no-cache", is_flag=True, help="No step is answered from the cache, and none fills it."),
        click.option("--refresh-cache", is_flag=True, help="Compute all anew, and fill the cache with it."),
        click.option("--use-existing", is_flag=True, help="With --run-key: if a live run has the key, watch that one."),
        click.option("--run-key", help="At most one live run of the pipeline has this key."),
        click.option("--request-id", help="The same id starts the same run: for callers that try again."),
        click.option("--label", "-l", "labels", multiple=True, metavar="NAME=VALUE", help="A label of the run."),
        click.option(
            "--params-file",
            type=click.Path(path_type=Path, exists=True, dir_okay=False),
            help="A YAML or JSON file of parameters.",
        ),
        click.option("--param", "-p", "params", multiple=True, metavar="NAME=VALUE", help="A parameter."),
    ):
        function = option(function)
    return function


@click.command()
@file_options
@start_options
@command_options
def run(
    session: Session,
    target: str,
    chosen: str | None,
    settings: tuple[str, ...],
    params: tuple[str, ...],
    params_file: Path | None,
    labels: tuple[str, ...],
    request_id: str | None,
    priority: int | None,
    weight: float | None,
    run_key: str | None,
    use_existing: bool,
    run_key_reuse: str | None,
    no_cache: bool,
    refresh_cache: bool,
    detach: bool,
) -> None:
    """Run the pipeline in a .py or .yaml file, and watch it.

    The exit code is 0 when the run is COMPLETED, 1 when it FAILED, 2 when it could not be started, and 3 when
    it was CANCELLED. Ctrl-C stops the watching with code 130; the run goes on.
    """
    from penstock.cli.loading import load_pipeline, refused_of
    from penstock.cli.params import read_parameters, read_settings

    asked = Asked(labels, request_id, priority, weight, run_key, use_existing, run_key_reuse, no_cache, refresh_cache)
    asked.check()
    loaded = load_pipeline(target, chosen, read_settings(settings))
    values = read_parameters(loaded.spec, params, params_file)

    async def main() -> int:
        async with session.client() as client:
            with refused_of(target):
                version = (await client.create_prepared(loaded.prepared()))[-1]
            return await _start(session, client, loaded.spec, values, version.number, asked, detach)

    run_async(main)


@click.command()
@click.argument("name")
@click.option("--version", "version", type=click.IntRange(1, LARGEST), help="A version's number. Default: the newest.")
@start_options
@command_options
def start(
    session: Session,
    name: str,
    version: int | None,
    params: tuple[str, ...],
    params_file: Path | None,
    labels: tuple[str, ...],
    request_id: str | None,
    priority: int | None,
    weight: float | None,
    run_key: str | None,
    use_existing: bool,
    run_key_reuse: str | None,
    no_cache: bool,
    refresh_cache: bool,
    detach: bool,
) -> None:
    """Start a pipeline that was applied before, and watch the run. Exit codes are those of `run`."""
    from penstock.cli.params import read_parameters

    asked = Asked(labels, request_id, priority, weight, run_key, use_existing, run_key_reuse, no_cache, refresh_cache)
    asked.check()

    async def main() -> int:
        async with session.client() as client:
            try:
                found = (await client.get_pipeline(name, version or 0)).version
            except NotFoundError as error:
                raise await better_pipeline(client, name, error) from None
            values = read_parameters(found.spec, params, params_file)
            return await _start(session, client, found.spec, values, found.number, asked, detach)

    run_async(main)


class Asked(NamedTuple):
    """How a run is asked for, beyond its pipeline and parameters."""

    labels: tuple[str, ...]
    request_id: str | None
    priority: int | None
    weight: float | None
    run_key: str | None
    use_existing: bool
    run_key_reuse: str | None
    no_cache: bool
    refresh_cache: bool

    @property
    def cache(self) -> str:
        return "off" if self.no_cache else "refresh" if self.refresh_cache else ""

    def check(self) -> None:
        if not self.run_key and (self.use_existing or self.run_key_reuse):
            raise click.UsageError("--use-existing and --run-key-reuse are about --run-key: give one")
        if self.no_cache and self.refresh_cache:
            raise click.UsageError("--no-cache fills no cache, --refresh-cache does: give one of them")


async def _start(
    session: Session,
    client: Client,
    spec: pipeline_pb2.PipelineSpec,
    values: dict[str, Json],
    version: int,
    asked: Asked,
    detach: bool,
) -> int:
    handle = await client.start(
        spec.name,
        values,
        labels=read_labels(asked.labels),
        request_id=asked.request_id or str(uuid.uuid4()),
        version=version,
        priority=asked.priority,
        weight=asked.weight,
        run_key=asked.run_key or "",
        run_key_conflict="use_existing" if asked.use_existing else "",
        run_key_reuse=asked.run_key_reuse or "",
        cache=asked.cache,
    )
    if detach:
        if session.as_json:
            session.emit(await handle.get())
        else:
            session.say(handle.id)
        return EXIT_OK
    if handle.existing:
        session.say(f"run {handle.id} of {spec.name} has the run key; no other was started")
    else:
        session.say(f"run {handle.id} of {spec.name}, version {version}")
    # Those that undo others are shown once they have something to do.
    undoing = {step.compensate for step in spec.steps}
    steps = [step.name for step in spec.steps if step.name not in undoing]
    return await watch_run(session, client, handle.id, spec.name, steps)


@click.command()
@click.argument("run_id", metavar="RUN")
@click.option("--from-event", type=click.IntRange(1, LARGEST), default=1, help="Begin with this event.")
@command_options
def watch(session: Session, run_id: str, from_event: int) -> None:
    """Watch a run until it is at rest. Exit codes are those of `run`."""

    async def main() -> int:
        async with session.client() as client:
            found = await client.get_run(await find_run(client, run_id))
            return await watch_again(session, client, found, from_event)

    run_async(main)


async def watch_again(session: Session, client: Client, run: run_pb2.Run, from_event: int = 1) -> int:
    """A run that is there already; the exit code."""
    steps = [each.step async for each in client.list_step_runs(run.id) if not each.compensates]
    return await watch_run(session, client, run.id, run.pipeline, steps, from_event)


async def watch_run(
    session: Session,
    client: Client,
    run_id: str,
    pipeline: str,
    steps: Iterable[str],
    from_event: int = 1,
) -> int:
    """Shows the run until it is at rest; the exit code."""
    import asyncio

    from penstock.cli.progress import RunProgress

    progress = RunProgress(run_id, pipeline, steps)
    try:
        async with _telling_waits(session, client, progress):
            await _show(session, client, progress, from_event)
    except asyncio.CancelledError:
        click.echo(
            f"\nThe run goes on. Watch it: penstock watch {run_id}   Cancel it: penstock cancel {run_id}", err=True
        )
        return EXIT_INTERRUPTED
    run = await client.get_run(run_id)
    _show_end(session, run)
    code = exit_code(run)
    if code == EXIT_FAILED and not session.as_json:
        from penstock.cli.failed_steps import why_not_completed

        click.echo(await why_not_completed(session, client, progress, run), err=True)
    return code


@contextlib.asynccontextmanager
async def _telling_waits(session: Session, client: Client, progress: RunProgress) -> AsyncIterator[None]:
    """Beside the events, which say nothing of why a step stays READY."""
    import asyncio

    from penstock.cli.live import tell_wait
    from penstock.cli.unserved import tell_waits

    if session.as_json:
        yield
        return
    console = session.console()
    telling = asyncio.create_task(
        tell_waits(progress, lambda: client.explain(progress.run_id), lambda step, why: tell_wait(console, step, why))
    )
    try:
        yield
    finally:
        telling.cancel()
        await asyncio.gather(telling, return_exceptions=True)


async def _show(session: Session, client: Client, progress: RunProgress, from_event: int) -> None:
    from penstock.cli.live import follow

    events = client.watch(progress.run_id, from_event)
    if not session.as_json:
        await follow(progress, events, session.console())
        return
    async for event in events:
        session.emit(event)


def _show_end(session: Session, run: run_pb2.Run) -> None:
    from penstock.cli.foreign_text import first_line, visible_json
    from penstock.cli.states import run_state
    from penstock.cli.tables import shortened

    if session.as_json:
        session.emit(run)
        return
    session.say(f"run {run.id} {run_state(run.state)}" + (f": {first_line(run.reason)}" if run.reason else ""))
    if run.output_json:
        session.say(f"output {shortened(visible_json(run.output_json), 1_000)}")


def exit_code(run: run_pb2.Run) -> int:
    from penstock.cli.states import run_state

    return {"COMPLETED": EXIT_OK, "CANCELLED": EXIT_CANCELLED}.get(run_state(run.state), EXIT_FAILED)


def read_labels(pairs: Iterable[str]) -> dict[str, str]:
    labels = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise ParameterError(f"{pair!r} is no label", field="--label", remedy="write --label name=value")
        labels[name] = value
    return labels

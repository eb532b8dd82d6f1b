"""`list` and `get`: looking at runs, steps and pipelines."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import click

from penstock.cli.foreign_text import visible, visible_json
from penstock.cli.items import DEFAULT_LIMIT, ITEM_STATES, show_items
from penstock.cli.remedies import known_pipeline
from penstock.cli.run_ids import find_run
from penstock.cli.session import Session, command_options, emit_json, message_dict, run_async
from penstock.cli.versions import list_versions
from penstock.errors import NotFoundError, ParameterError
from penstock.quantities import LARGEST

if TYPE_CHECKING:
    from collections.abc import Iterable

    from penstock.client.client import Client
    from penstock.v1 import pipeline_service_pb2, run_pb2, run_service_pb2

STATES = (
    "PENDING",
    "RUNNING",
    "PAUSED",
    "CANCELLING",
    "ROLLING_BACK",
    "COMPLETED",
    "FAILED",
    "CANCELLED",
    "ROLLED_BACK",
)
_STEP = re.compile(r"(?P<step>[^\[\]]+)(?P<place>(?:\[\d{1,18}\])*)")


def split_step(text: str) -> tuple[str, tuple[int, ...]]:
    """ "step", "step[3]" or "step[0][3]": the name and the place in the map, () for none."""
    match = _STEP.fullmatch(text)
    if match is None:
        raise ParameterError(
            f"{text!r} names no step",
            field="STEP",
            remedy="write step, step[3] for an item, or step[0][3] in a nested map",
        )
    return match["step"], tuple(map(int, re.findall(r"\d+", match["place"])))


@click.command("list")
@click.argument("kind", type=click.Choice(["runs", "pipelines", "versions"]), default="runs")
@click.option("--pipeline", default="", metavar="NAME", help="Only runs, or versions, of this pipeline.")
@click.option(
    "--state", "states", multiple=True, type=click.Choice(STATES, case_sensitive=False), help="Only these states."
)
@click.option("--label", "-l", "labels", multiple=True, metavar="NAME=VALUE", help="Only runs with this label.")
@click.option("--run-key", default="", metavar="KEY", help="Only runs with this run key.")
@click.option("--parent", default="", metavar="RUN", help="Only runs that are steps of this run.")
@click.option("--top-level", is_flag=True, help="Only runs that are no step of another run.")
@click.option("--limit", type=click.IntRange(min=1), default=50, show_default=True, help="At most so many.")
@command_options
def list_command(
    session: Session,
    kind: str,
    pipeline: str,
    states: tuple[str, ...],
    labels: tuple[str, ...],
    run_key: str,
    parent: str,
    top_level: bool,
    limit: int,
) -> None:
    """List runs (newest first), pipelines (by name) or the versions of a pipeline (newest first)."""

    async def main() -> None:
        async with session.client() as client:
            if kind == "pipelines":
                await _list_pipelines(session, client, limit)
            elif kind == "versions":
                await list_versions(session, client, pipeline, limit)
            else:
                above = await find_run(client, parent) if parent else ""
                where = {"pipeline": pipeline, "run_key": run_key, "parent_run_id": above, "top_level": top_level}
                await _list_runs(session, client, states, labels, limit, where)

    run_async(main)


async def _list_runs(
    session: Session,
    client: Client,
    states: Iterable[str],
    labels: Iterable[str],
    limit: int,
    where: dict[str, Any],
) -> None:
    from penstock.cli.live import state_text
    from penstock.cli.running import read_labels
    from penstock.cli.states import run_state
    from penstock.cli.table_widths import Column, id_end, short_time
    from penstock.cli.tables import counts_text, duration_text, print_table, time_text
    from penstock.v1 import run_pb2

    wanted = [run_pb2.RunState.Value(f"RUN_STATE_{state.upper()}") for state in states]
    found = client.list_runs(states=wanted, labels=read_labels(labels), limit=limit, **where)
    runs = [run async for run in found]
    if not runs and where["pipeline"]:
        # One that is not there is an error, and no empty list.
        await known_pipeline(client, where["pipeline"])
    if session.as_json:
        for run in runs:
            session.emit(run)
        return
    rows = [
        (
            run.id,
            run.pipeline,
            str(run.version_number),
            state_text(run_state(run.state), " (budget)" if run.held_by_budget else ""),
            time_text(run, "create_time"),
            duration_text(run),
            counts_text(run.step_counts),
        )
        for run in runs
    ]
    columns = (
        Column("RUN", shorter=id_end),
        Column("PIPELINE", folds=20),
        Column("VERSION", leaves=1),
        "STATE",
        Column("CREATED", shorter=short_time, leaves=2),
        "TIME",
        Column("STEPS", folds=16, leaves=3),
    )
    print_table(session.console(), columns, rows)


async def _list_pipelines(session: Session, client: Client, limit: int) -> None:
    from penstock.cli.table_widths import Column, short_time
    from penstock.cli.tables import print_table, time_text

    rows = []
    async for pipeline in client.list_pipelines():
        if limit == 0:
            break
        limit -= 1
        version = pipeline.latest_version
        if session.as_json:
            session.emit(pipeline)
        rows.append((pipeline.name, str(version.number), str(version.step_count), time_text(pipeline, "update_time")))
    if not session.as_json:
        columns = (Column("PIPELINE", folds=20), "VERSION", "STEPS", Column("UPDATED", shorter=short_time))
        print_table(session.console(), columns, rows)


@click.command()
@click.argument("what", metavar="RUN | pipeline")
@click.argument("name", metavar="[STEP | NAME]", required=False)
@click.option("--version", type=click.IntRange(1, LARGEST), help="Of a pipeline. Default: the newest.")
@click.option("--at", "at_event", type=click.IntRange(1, LARGEST), help="As the run was after this event (see watch).")
@click.option("--items", is_flag=True, help="The items of the map STEP, or of STEP[3] in a nested one.")
@click.option(
    "--state",
    "states",
    multiple=True,
    type=click.Choice(ITEM_STATES, case_sensitive=False),
    help="With --items: only those in this state.",
)
@click.option("--limit", type=click.IntRange(min=1), default=DEFAULT_LIMIT, help="With --items: at most so many. [100]")
@command_options
def get(
    session: Session,
    what: str,
    name: str | None,
    version: int | None,
    at_event: int | None,
    items: bool,
    states: tuple[str, ...],
    limit: int,
) -> None:
    """Show a run with its steps, one step run (step or step[3]) with its attempts and output, or a pipeline.

    \b
    penstock get RUN
    penstock get RUN STEP
    penstock get RUN STEP --items --state failed
    penstock get RUN --at 17
    penstock get pipeline NAME
    """
    at = at_event or 0
    if what == "pipeline" and name is None:
        raise click.UsageError("Give the pipeline's name: penstock get pipeline NAME")
    if items and (what == "pipeline" or name is None):
        raise click.UsageError("Say of which map: penstock get RUN STEP --items")
    if states and not items:
        raise click.UsageError("--state chooses among items: penstock get RUN STEP --items --state failed")

    async def main() -> None:
        async with session.client() as client:
            if what == "pipeline":
                _show_pipeline(session, await client.get_pipeline(name or "", version or 0))
                return
            run_id = await find_run(client, what)
            if name is None:
                steps = [step_run async for step_run in client.list_step_runs(run_id, at_event=at)]
                run = await client.get_run(run_id, at_event=at)
                moment = await _moment(client, run_id, at)
                _show_run(session, run, steps, {} if at else await _waits(client, steps), moment)
            elif items:
                await show_items(session, client, run_id, name, states=states, limit=limit, at_event=at)
            else:
                response = await _step_run(client, run_id, name, at)
                _show_step(session, response, await _moment(client, run_id, at))

    run_async(main)


async def _step_run(client: Client, run_id: str, name: str, at: int) -> run_service_pb2.GetStepRunResponse:
    from penstock.cli.items import what_there_is

    step, item = split_step(name)
    try:
        return await client.get_step_run(run_id, step, item, at_event=at)
    except NotFoundError as error:
        raise await what_there_is(client, run_id, step, item, error, at) from None


async def _waits(client: Client, steps: list[run_pb2.StepRun]) -> dict[str, str]:
    """Why steps are READY, if some are."""
    from penstock.cli.unserved import in_short, reasons
    from penstock.v1 import run_pb2

    if not any(step.state == run_pb2.STEP_RUN_STATE_READY or step.item_counts.ready for step in steps):
        return {}
    explained = await client.explain(steps[0].run_id)
    return {step: in_short(why) for step, why in reasons(explained)}


async def _moment(client: Client, run_id: str, at: int) -> float | None:
    """When the event was, in seconds since the epoch; None without one."""
    if not at:
        return None
    async for event in client.watch(run_id, at):
        return event.time.ToNanoseconds() / 10**9
    return None


def _show_pipeline(session: Session, response: pipeline_service_pb2.GetPipelineResponse) -> None:
    if session.as_json:
        session.emit(response)
        return
    from penstock.yaml_format import dump

    version = response.version
    click.echo(f"# {version.pipeline} version {version.number}, digest {version.digest}")
    click.echo(dump(version.spec), nl=False)


def _show_run(
    session: Session, run: run_pb2.Run, steps: list[run_pb2.StepRun], waits: dict[str, str], moment: float | None
) -> None:
    if session.as_json:
        emit_json({"run": message_dict(run), "stepRuns": [message_dict(step_run) for step_run in steps]})
        return
    from penstock.cli.budgets import budget_line
    from penstock.cli.costs import cost_line
    from penstock.cli.live import state_text
    from penstock.cli.said import said_of
    from penstock.cli.states import run_state, step_state
    from penstock.cli.table_widths import Column, id_end
    from penstock.cli.tables import counts_text, duration_text, print_table, shortened, time_text
    from penstock.settings import load_settings
    from penstock.tracing import trace_link

    console = session.console()
    facts = [
        ("run", run.id),
        ("pipeline", f"{run.pipeline}, version {run.version_number}"),
        ("state", state_text(run_state(run.state))),
        ("reason", visible(run.reason)),
        ("parameters", shortened(_parameters_text(run), 200)),
        ("labels", ", ".join(f"{name}={value}" for name, value in sorted(run.labels.items()))),
        ("priority", str(run.priority or "")),
        ("weight", "" if run.weight in (0, 1) else f"{run.weight:g}"),
        ("run key", run.run_key),
        ("waits for", _waits_for(run)),
        ("budget", budget_line(run.budget) if run.HasField("budget") else ""),
        ("parent", f"{run.parent.run_id} {_parent_step(run.parent)}" if run.HasField("parent") else ""),
        ("created", time_text(run, "create_time")),
        ("time", duration_text(run, moment)),
        ("cost", cost_line(run.costs) if run.HasField("costs") else ""),
        ("owner", run.owner),
        ("trace", trace_link(load_settings(session.address).trace_url, run.trace_id) or run.trace_id),
        ("output", shortened(visible_json(run.output_json), 200)),
    ]
    for fact, value in facts:
        if value:
            console.print(f"{fact:<11}", value, sep="", markup=False)
    rows = [
        (
            step_run.display_name or step_run.step,
            state_text(step_state(step_run.state)),
            str(step_run.attempt_count or ""),
            duration_text(step_run, moment),
            counts_text(step_run.item_counts),
            step_run.child_run_id,
            said_of(step_run, waits.get(step_run.step, "")),
        )
        for step_run in steps
    ]
    console.print()
    columns = (
        Column("STEP", folds=30),
        "STATE",
        Column("ATTEMPTS", leaves=1),
        "TIME",
        Column("ITEMS", folds=14, leaves=3),
        Column("RUN", shorter=id_end, leaves=4, optional=True),
        Column("OUTPUT", folds=20, leaves=2),
    )
    print_table(console, columns, rows)


def _waits_for(run: run_pb2.Run) -> str:
    if run.held_by_budget:
        return run.held_by_budget
    return f'a place under the key "{run.held_by_key}"' if run.held_by_key else ""


def _parent_step(parent: run_pb2.RunParent) -> str:
    return parent.step + "".join(f"[{at}]" for at in parent.item)


def _parameters_text(run: run_pb2.Run) -> str:
    import json

    from penstock.wire_values import from_value

    values = {name: from_value(value) for name, value in sorted(run.parameters.items())}
    return visible_json(json.dumps(values, ensure_ascii=False)) if values else ""


def _metadata_text(step_run: run_pb2.StepRun) -> str:
    """In one line: a second one could be taken for a line of ours."""
    return ", ".join(f"{name}={visible(value)}" for name, value in sorted(step_run.metadata.items())).replace(
        "\n", "\\n"
    )


def _show_step(session: Session, response: run_service_pb2.GetStepRunResponse, moment: float | None) -> None:
    if session.as_json:
        session.emit(response)
        return
    from penstock.cli.attempts import print_attempts
    from penstock.cli.live import state_text
    from penstock.cli.said import failed_attempts
    from penstock.cli.states import failure_text, step_state
    from penstock.cli.tables import cached_text, counts_text, duration_text

    console, step_run = session.console(), response.step_run
    facts: list[tuple[str, Any]] = [
        ("step", step_run.display_name or step_run.step),
        ("state", state_text(step_state(step_run.state))),
        ("undoes", step_run.compensates),
        ("items", counts_text(step_run.item_counts)),
        ("time", duration_text(step_run, moment)),
        ("agent", step_run.agent_id),
        ("run", step_run.child_run_id),
        ("cached", cached_text(step_run)),
        ("failure", failure_text(step_run.failure)),
        ("metrics", ", ".join(f"{name}={value:g}" for name, value in sorted(step_run.metrics.items()))),
        ("metadata", _metadata_text(step_run)),
        ("output", visible_json(step_run.output_json)),
    ]
    for fact, value in facts:
        if value:
            console.print(f"{fact:<11}", value, sep="", markup=False)
    if step_run.failure.traceback:
        console.print(visible(step_run.failure.traceback.rstrip()), markup=False)
    print_attempts(console, response)
    for heading, failure in failed_attempts(response):
        console.print(f"\n{heading}:\n{failure}", markup=False)
    if step_run.item_counts.failed and not session.as_json:
        click.echo(
            f"Which items failed: penstock get {step_run.run_id} {step_run.step} --items --state failed", err=True
        )

"""One random pipeline, run by the real system, with what people do to it meanwhile."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tests.e2e.random_dags.predictions import Part, Place

from penstock import errors
from penstock.v1 import run_pb2

if TYPE_CHECKING:
    from tests.e2e.random_dags.dags import Dag

    from penstock.client.client import Client

LONGEST_SECONDS = 100.0


@dataclass
class Found:
    """A run at rest, as the system tells of it."""

    state: str
    reason: str
    output: str
    steps: dict[str, run_pb2.StepRun]
    items: dict[str, dict[Place, run_pb2.StepRun]]
    counts: run_pb2.StepCounts
    generation: int
    children: dict[str, Found] = field(default_factory=dict)


def state_of(step: run_pb2.StepRun) -> str:
    return run_pb2.StepRunState.Name(step.state).removeprefix("STEP_RUN_STATE_")


async def play(client: Client, dag: Dag, midway: int) -> str:
    """Start it and do to it what its fate is after so many events. Answers the id of the run, at rest."""
    run = await client.start(dag.name)
    if dag.fate == "pause":
        await _pause(client, run.id, midway)
    elif dag.fate.startswith("cancel"):
        await _event(client, run.id, midway)
        await client.cancel(run.id, now=dag.fate == "cancel_now")
    await client.wait(run.id, LONGEST_SECONDS)
    return run.id


async def _event(client: Client, run_id: str, number: int) -> None:
    """Return when the run has that event, or is at rest."""
    async for event in client.watch(run_id):
        if event.number >= number:
            return


async def _pause(client: Client, run_id: str, midway: int) -> None:
    await _event(client, run_id, midway)
    try:
        await client.pause(run_id, reason="to see that it makes no difference")
        await client.resume(run_id)
    except errors.FailedPreconditionError:
        return  # It was at rest, or came to it while it was PAUSED.


async def retried(client: Client, run_id: str) -> bool:
    """Whether the system takes the retry; then the run is at rest again."""
    try:
        await client.retry(run_id)
    except errors.FailedPreconditionError:
        return False
    await client.wait(run_id, LONGEST_SECONDS)
    return True


async def look(client: Client, run_id: str) -> Found:
    run = await client.get_run(run_id)
    steps = {each.step: each async for each in client.list_step_runs(run_id)}
    items: dict[str, dict[Place, run_pb2.StepRun]] = {}
    for name, whole in steps.items():
        if whole.HasField("item_counts"):
            items[name] = {tuple(each.item): each async for each in client.list_step_runs(run_id, step=name)}
    state = run_pb2.RunState.Name(run.state).removeprefix("RUN_STATE_")
    return Found(state, run.reason, run.output_json, steps, items, run.step_counts, run.generation)


def describe(part: Part) -> str:
    text = json.dumps(part.value, sort_keys=True)
    return f"{part.state} {part.reason} attempts={part.attempts} output={text if len(text) < 200 else text[:200]}"

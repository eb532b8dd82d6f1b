"""Runs, step runs and attempts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from penstock.v1 import run_pb2
from penstock_coordinator.api.encoding.budgets import budget_use
from penstock_coordinator.api.encoding.costs import NO_PRICES, Prices, cost
from penstock_coordinator.api.encoding.values import fill, instant, known_instant, span
from penstock_coordinator.api.fields import run_id_text
from penstock_coordinator.core.plan.values import parse
from penstock_coordinator.core.run.places import spelled_place
from penstock_coordinator.core.run.state import StepCounts
from penstock_coordinator.core.run.states import RunState
from penstock_coordinator.core.run.summary import unpack
from penstock_coordinator.core.traces.ids import trace_of
from penstock_coordinator.ports import costs_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from penstock_coordinator.core.plan.model import Plan
    from penstock_coordinator.core.run.events import CacheSource, Failure
    from penstock_coordinator.ports import RunId, RunRow
    from penstock_coordinator.runtime.views import AttemptView, FailureView, RunView, StepRunView

LISTED_OUTPUT_BYTES = 4 << 10
LISTED_TRACEBACK_CHARACTERS = 4 << 10


def run(view: RunView) -> run_pb2.Run:
    message = _row(view.row)
    for name, value in parse(view.row.parameters).items():
        fill(message.parameters[name], value)
    message.step_counts.CopyFrom(counts(view.counts))
    message.last_event = view.row.last_seq
    message.generation = view.generation
    message.held_by_key = view.held_by_key
    message.held_by_budget = view.held_by_budget
    message.owner = view.owner
    if view.budget is not None:
        message.budget.CopyFrom(budget_use(view.budget))
    if view.paused is not None:
        message.pause.time.CopyFrom(instant(view.paused.at))
        message.pause.requested_by, message.pause.reason = view.paused.requested_by, view.paused.reason
    return message


def listed_run(row: RunRow) -> run_pb2.Run:
    """Without parameters; with the counts of a run at rest. Those of a live run are not in its row."""
    message = _row(row)
    if RunState(row.state).at_rest and row.summary is not None:
        message.step_counts.CopyFrom(counts(unpack(row.summary).counts()))
    return message


def _row(row: RunRow) -> run_pb2.Run:
    parent = row.origin.parent
    return run_pb2.Run(
        id=run_id_text(row.run_id),
        pipeline=row.pipeline,
        version_number=row.version_number,
        version_digest=row.version_digest,
        state=run_pb2.RunState.ValueType(row.state),
        reason=row.reason,
        labels=dict(row.labels),
        create_time=instant(row.create_time),
        start_time=known_instant(row.start_time),
        end_time=known_instant(row.end_time),
        generation=row.generation,
        priority=row.origin.priority,
        weight=row.origin.weight,
        run_key=row.origin.run_key,
        parent=None if parent is None else run_pb2.RunParent(run_id=run_id_text(parent.run_id)),
        depth=row.origin.depth,
        cache_mode=run_pb2.CacheMode.ValueType(row.origin.cache),
        output_json="" if row.output is None else row.output.decode("utf-8", "replace"),
        trace_id=trace_of(row.run_id, row.trace_context).trace_id.hex(),
    )


def lineage(message: run_pb2.Run, step: str, place: Iterable[int]) -> None:
    """Which step of its parent the run is."""
    message.parent.step = step
    message.parent.item.extend(place)


def counts(found: StepCounts) -> run_pb2.StepCounts:
    return run_pb2.StepCounts(**found._asdict())


def counted(message: run_pb2.StepCounts) -> StepCounts:
    return StepCounts(**{name: getattr(message, name) for name in StepCounts._fields})


def step_run(run_id: RunId, plan: Plan, view: StepRunView, *, listed: bool = False) -> run_pb2.StepRun:
    """`listed`: without a large output or traceback."""
    name, undone = plan.steps[view.step].name, plan.steps[view.step].undoes
    return run_pb2.StepRun(
        run_id=run_id_text(run_id),
        step=name,
        item=view.place,
        display_name=name + spelled_place(view.place),
        state=run_pb2.StepRunState.ValueType(view.state),
        attempt_count=view.attempts,
        output_json=_output(view.output, listed),
        failure=_stored_failure(view.failure, listed),
        ready_time=known_instant(view.ready_time),
        start_time=known_instant(view.start_time),
        end_time=known_instant(view.end_time),
        agent_id=view.agent,
        item_counts=None if view.item_counts is None else counts(view.item_counts),
        wait_reason=view.wait_reason,
        wait_until=known_instant(view.wait_until),
        generation=view.generation,
        child_run_id="" if view.child is None else run_id_text(view.child),
        compensates="" if undone is None else plan.steps[undone].name,
        cached=view.source is not None,
        cache_source=None if view.source is None else cache_source(view.source),
    )


def describe_newest(message: run_pb2.StepRun, attempts: list[AttemptView]) -> None:
    """What the newest attempt reported of itself is said of the step run too."""
    if attempts:
        message.metrics.update(dict(attempts[-1].report.metrics))
        message.metadata.update(dict(attempts[-1].report.metadata))


def attempt(view: AttemptView, prices: Prices = NO_PRICES) -> run_pb2.Attempt:
    report = view.report
    return run_pb2.Attempt(
        number=view.number,
        agent_id=view.agent,
        outcome=run_pb2.AttemptOutcome.ValueType(view.outcome),
        failure=_stored_failure(view.failure, listed=False),
        start_time=instant(view.start_time),
        end_time=instant(view.end_time),
        run_duration=span(report.run_duration),
        cpu_duration=span(report.cpu_duration),
        peak_memory_bytes=report.peak_memory_bytes,
        exit_code=report.exit_code,
        metrics=dict(report.metrics),
        metadata=dict(report.metadata),
        charged_to=run_pb2.Budget.ValueType(view.charged_to),
        cost=cost(costs_of(view.cost, view.outcome).total, prices),
    )


def cache_source(source: CacheSource) -> run_pb2.CacheSource:
    return run_pb2.CacheSource(
        run_id=run_id_text(source.run_id),
        display_name=source.display_name,
        attempt=source.attempt,
        time=instant(source.at),
        key=source.key.hex(),
    )


def failure(found: Failure) -> run_pb2.Failure:
    """In short, as events have it."""
    return run_pb2.Failure(reason=found.reason, message=found.message, error_class=found.error_class)


def _output(output: bytes | None, listed: bool) -> str:
    if output is None or (listed and len(output) > LISTED_OUTPUT_BYTES):
        return ""
    return output.decode("utf-8", "replace")


def _stored_failure(found: FailureView | None, listed: bool) -> run_pb2.Failure | None:
    if found is None:
        return None
    return run_pb2.Failure(
        reason=found.reason,
        message=found.message,
        error_class=found.error_class,
        error_bases=found.error_bases,
        traceback="" if listed and len(found.traceback) > LISTED_TRACEBACK_CHARACTERS else found.traceback,
    )

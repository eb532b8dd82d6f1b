"""Runs that are steps of other runs: started for them, steered with them, and their ends reported to them.

The id of such a run is known before it is there, so starting it twice starts it once. Nothing here is remembered over a
restart: which run a step waits for is in the journal, and whoever is recovered first asks what has become of the other.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import uuid
from typing import TYPE_CHECKING

from google.protobuf.json_format import ParseDict
from google.protobuf.struct_pb2 import Value
from msgspec.structs import replace

from penstock.v1.pipeline_pb2 import PipelineSpec
from penstock_coordinator.core.plan.keys import InvalidKey, check_keys, has_expressions
from penstock_coordinator.core.plan.limits import DEFAULT_LIMITS
from penstock_coordinator.core.plan.model import PipelineAction
from penstock_coordinator.core.plan.parameters import InvalidParameters, bind
from penstock_coordinator.core.plan.references import BadReference, may_refer
from penstock_coordinator.core.plan.values import InvalidJson, UnresolvableInput
from penstock_coordinator.core.run.commands import CancelChild, PauseChild, ResumeChild, StartChild
from penstock_coordinator.core.run.duties import cancel_child, cancel_given_up, pause_child
from penstock_coordinator.core.run.events import Failure
from penstock_coordinator.core.run.messages import (
    CancelRun,
    ChildRefused,
    ChildReported,
    ControlMessage,
    PauseRun,
    ResumeRun,
)
from penstock_coordinator.core.run.output import run_output
from penstock_coordinator.core.run.states import RunState
from penstock_coordinator.ports import Origin, Parent, Unavailable
from penstock_coordinator.runtime.artifact_rows import uses_of
from penstock_coordinator.runtime.views import NotAccepted, Overloaded, RunRequest, SetAside, Stopping, UnknownRun

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from penstock_coordinator.core.run.commands import ChildCommand
    from penstock_coordinator.core.run.state import Run
    from penstock_coordinator.core.traces.ids import TraceContext
    from penstock_coordinator.ports import RunId, VersionRow
    from penstock_coordinator.runtime.actor import Actor
    from penstock_coordinator.runtime.supervisor import Supervisor

RETRY_SECONDS = 0.2
"""Between attempts to start a run while the database is away."""
MOST_REFUSALS = 3
"""Times that the database does not take a run, before its step fails."""
SUB_PIPELINE = "SubPipeline"
REASON_LIMIT = 500
"""Characters of the reason of a run that its parent tells."""


class _Refused(Exception):
    """The run cannot be started, for good."""


class Children:
    """Of all runs of a coordinator."""

    def __init__(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor
        self._starting: set[RunId] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    def execute(self, parent_id: RunId, command: ChildCommand) -> None:
        """Each is idempotent."""
        now = self._supervisor.clock.now()
        match command:
            case StartChild():
                if command.run_id not in self._starting:
                    self._starting.add(command.run_id)
                    self._spawn(self._start(parent_id, command))
            case CancelChild():
                self._steer(parent_id, command.run_id, CancelRun(now, command.immediate, command.reason))
            case PauseChild():
                message = PauseRun(now, reason=command.reason, above_since=command.since)
                self._steer(parent_id, command.run_id, message)
            case ResumeChild():
                self._steer(parent_id, command.run_id, ResumeRun(now, from_above=True))

    def cancel_given_up(self, parent: Run) -> None:
        """Those that a run at rest has given up, and that may not have heard of it."""
        for run_id in parent.given_up:
            child = self._supervisor.actor(run_id)
            if child is not None and not _opened_again(child.run):
                self.execute(parent.run_id, cancel_given_up(parent, run_id))

    def ended(self, child: Actor) -> None:
        """The end of a run is committed: tell the run that it is a step of, if that is live. If it is not here now, it
        asks when it is."""
        parent = child.origin.parent
        run = child.run
        if parent is None or not run.at_rest:
            return
        output = run_output(run) if run.state is RunState.COMPLETED else None
        self._report(parent, child.run_id, child.plan.pipeline, run.state, run.reason, output)

    def _spawn(self, work: Coroutine[object, object, None]) -> None:
        task = asyncio.create_task(_unless_set_aside(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def close(self) -> None:
        """What is not started yet is started by the next coordinator."""
        for task in self._tasks:
            task.cancel()

    # --- what is asked of a run with the one that it is a step of

    def _steer(self, parent_id: RunId, run_id: RunId, message: ControlMessage) -> None:
        """A run that is not there yet gets it when it is started."""
        if run_id not in self._starting:
            self._spawn(self._ask(parent_id, run_id, message))

    async def _ask(self, parent_id: RunId, run_id: RunId, message: ControlMessage) -> None:
        """Until it is committed, or not wanted any more: a run whose append failed is made again from its journal, and
        knows nothing of it."""
        while not self._supervisor.stopping and self._wanted(parent_id, run_id, message):
            try:
                await self._supervisor.ask(run_id, message, None)
            except (Unavailable, Overloaded, NotAccepted, Stopping):
                await asyncio.sleep(RETRY_SECONDS)
            except UnknownRun:
                return
            else:
                return

    def _wanted(self, parent_id: RunId, run_id: RunId, message: ControlMessage) -> bool:
        parent = self._supervisor.actor(parent_id)
        if parent is None:
            return True
        if run_id in parent.run.given_up:
            child = self._supervisor.actor(run_id)
            return child is None or not _opened_again(child.run)
        paused = parent.run.paused
        match message:
            case PauseRun():
                return paused is not None and paused.at == message.above_since
            case ResumeRun():
                return paused is None
            case _:
                return True

    async def _catch_up(self, parent_id: RunId, command: StartChild) -> None:
        """What was asked of the parent while the run was not there yet, or while nobody was there to pass it on."""
        child = await self._supervisor.live_actor(command.run_id)
        parent = await self._supervisor.live_actor(parent_id)
        if child is None:
            return
        now = self._supervisor.clock.now()
        if parent is None or parent.run.waits_for(command.step, command.item, command.run_id) is None:
            self._steer(parent_id, command.run_id, CancelRun(now, False, "the step that it is has gone on without it"))
        elif parent.run.doomed(command.step):
            self.execute(parent_id, cancel_child(parent.run, command.run_id))
        elif parent.run.paused is not None:
            self.execute(parent_id, pause_child(parent.run.paused, command.run_id))
        elif child.run.paused is not None and child.run.paused.from_above:
            self.execute(parent_id, ResumeChild(command.run_id))

    # --- the start

    async def _start(self, parent_id: RunId, command: StartChild) -> None:
        try:
            there = await self._started(parent_id, command)
        finally:
            self._starting.discard(command.run_id)
        if there and not self._supervisor.stopping:
            await self._catch_up(parent_id, command)

    async def _started(self, parent_id: RunId, command: StartChild) -> bool:
        """Whether the run is live; its parent is told if it need not be, or cannot be."""
        refusals = 0
        while not self._supervisor.stopping:
            try:
                return await self._ensure(parent_id, command)
            except Unavailable:
                await asyncio.sleep(RETRY_SECONDS)
            except (NotAccepted, Stopping) as error:
                refusals += 1
                if refusals >= MOST_REFUSALS and not self._supervisor.stopping:
                    self._refuse(parent_id, command, f"the database does not store the run: {error}")
                    return False
            except (_Refused, UnresolvableInput) as error:
                self._refuse(parent_id, command, str(error))
                return False
        return False

    async def _ensure(self, parent_id: RunId, command: StartChild) -> bool:
        supervisor = self._supervisor
        if await supervisor.live_actor(command.run_id) is not None:
            return True
        asked = Parent(parent_id, command.step, command.item)
        row = await supervisor.stores.runs.get(command.run_id)
        if row is not None:
            state = RunState(row.state)
            if state.at_rest:
                self._report(asked, row.run_id, row.pipeline, state, row.reason, row.output)
            return not state.at_rest
        # It may be another actor than the one that decided it, made again from the journal.
        parent = await supervisor.live_actor(parent_id)
        if parent is None or parent.run.waits_for(command.step, command.item, command.run_id) is None:
            return False
        if parent.run.doomed(command.step):
            pipeline = _action(parent, command).pipeline
            self._report(asked, command.run_id, pipeline, RunState.CANCELLED, "not started", None)
            return False
        await supervisor.start_child(command.run_id, await self._request(parent, command))
        return True

    async def _request(self, parent: Actor, command: StartChild) -> RunRequest:
        supervisor = self._supervisor
        action, depth = _action(parent, command), parent.origin.depth + 1
        limit = supervisor.timing.run_limits.sub_pipeline_depth
        if depth > limit:
            raise _Refused(
                f"a run of {action.pipeline!r} would have {depth:,} runs above it, and the limit is {limit:,}: end"
                " the recursion earlier, with a `when`, or have the operator raise PENSTOCK_MAX_SUB_PIPELINE_DEPTH"
            )
        version = await self._version(action)
        spec = PipelineSpec.FromString(version.spec)
        inputs = await supervisor.inputs_for(parent, command.step, command.item)
        inputs = await supervisor.spilled.resolved(inputs, DEFAULT_LIMITS.parameters_bytes)
        try:
            uses = uses_of(inputs)
            given = {name: ParseDict(json.loads(value), Value()) for name, value in inputs.items()}
            parameters = bind(spec.parameters, given)
        except BadReference as error:
            raise _Refused(f"the inputs: {error}") from None
        except InvalidParameters as error:
            raise _Refused(f"the inputs do not fit the pipeline {action.pipeline!r}: {error}") from None
        plan = await supervisor.plans.get(version.digest)
        try:
            if has_expressions(plan):
                check_keys(plan, json.loads(parameters))
        except InvalidKey as error:
            raise _Refused(f"{error.field} of {action.pipeline!r} makes no key of the inputs: {error}") from None
        above = parent.origin
        return RunRequest(
            plan=plan,
            version=version,
            parameters=parameters,
            labels=tuple(sorted(spec.labels.items())),
            trace_context=self._trace_context(parent, command),
            request=None,
            origin=Origin(
                priority=above.priority,
                weight=above.weight,
                parent=Parent(parent.run_id, command.step, command.item),
                depth=depth,
                cache=above.cache,
            ),
            uses=uses,
        )

    def _trace_context(self, parent: Actor, command: StartChild) -> TraceContext:
        traces = self._supervisor.traces
        return parent.trace_context if traces is None else traces.for_child(parent, command.step, command.item)

    async def _version(self, action: PipelineAction) -> VersionRow:
        found = await self._supervisor.stores.pipelines.get_version(action.pipeline, action.version_number)
        if found is not None:
            return found
        if action.version_number:
            raise _Refused(f"the pipeline {action.pipeline!r} has no version {action.version_number}")
        raise _Refused(f"there is no pipeline {action.pipeline!r}: apply it")

    # --- what the parent is told

    def _report(
        self, parent: Parent, run_id: RunId, pipeline: str, state: RunState, reason: str, output: bytes | None
    ) -> None:
        failure = None
        if state is not RunState.COMPLETED:
            why = f": {reason[:REASON_LIMIT]}" if reason else ""
            failure = Failure(SUB_PIPELINE, f"the run {uuid.UUID(bytes=run_id)} of {pipeline!r} is {state.name}{why}")
        now = self._supervisor.clock.now()
        message = ChildReported(
            now, parent.step, parent.item, run_id, state, output or b"", failure, self._supervisor.ids.jitter()
        )
        if output is not None and may_refer(output):
            self._spawn(self._report_read(parent.run_id, message))
        else:
            self._supervisor.tell(parent.run_id, message)

    async def _report_read(self, parent_id: RunId, message: ChildReported) -> None:
        """What the parent's rules will read of the output is read first."""
        while not self._supervisor.stopping:
            actor = self._supervisor.actor(parent_id)
            if actor is None:
                return  # it asks when it is here
            try:
                kept = await self._supervisor.spilled.kept_of(actor.plan.steps[message.step], message.output)
            except Unavailable:
                await asyncio.sleep(RETRY_SECONDS)
            except (InvalidJson, UnresolvableInput) as error:
                why = Failure(SUB_PIPELINE, f"what the run gave: {error}")
                self._supervisor.tell(parent_id, replace(message, state=RunState.FAILED, failure=why, output=b""))
                return
            else:
                self._supervisor.tell(parent_id, replace(message, kept=kept))
                return

    def _refuse(self, parent_id: RunId, command: StartChild, why: str) -> None:
        now = self._supervisor.clock.now()
        message = ChildRefused(now, command.step, command.item, command.run_id, Failure(SUB_PIPELINE, why))
        self._supervisor.tell(parent_id, message)


async def _unless_set_aside(work: Coroutine[object, object, None]) -> None:
    """Nothing is begun with a run that could not be made again: the next start looks after it."""
    with contextlib.suppress(SetAside):
        await work


def _opened_again(run: Run) -> bool:
    """By a person, after the end that the run above had asked for, if it had."""
    return run.generation > 1


def _action(parent: Actor, command: StartChild) -> PipelineAction:
    action = parent.plan.steps[command.step].action
    assert isinstance(action, PipelineAction)
    return action

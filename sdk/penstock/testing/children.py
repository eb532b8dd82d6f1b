"""Runs that are steps of other runs, as the coordinator keeps them: started, steered, reported to the run above.

Nothing is remembered over a restart: which run a step waits for is in the journal, and who is recovered first asks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from penstock.testing.lane import Told
from penstock.testing.timeline import MILLISECOND
from penstock_coordinator.core.plan.model import PipelineAction
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
from penstock_coordinator.core.run.states import RunState
from penstock_coordinator.ports import Committed, Origin, Parent

if TYPE_CHECKING:
    from penstock.testing.coordinator import Coordinator
    from penstock_coordinator.core.run.commands import ChildCommand
    from penstock_coordinator.core.run.state import Run
    from penstock_coordinator.ports import AppendOutcome, RunId
    from penstock_coordinator.runtime.actor import Actor

RETRY = 200 * MILLISECOND


class SimulatedChildren:
    def __init__(self, coordinator: Coordinator) -> None:
        self._coordinator = coordinator
        self._starting: set[RunId] = set()

    def execute(self, parent_id: RunId, command: ChildCommand) -> None:
        now = self._coordinator.clock.now()
        match command:
            case StartChild():
                if command.run_id not in self._starting:
                    self._starting.add(command.run_id)
                    self._coordinator.read_store(lambda: self._start(parent_id, command))
            case CancelChild():
                self._steer(parent_id, command.run_id, CancelRun(now, command.immediate, command.reason))
            case PauseChild():
                message = PauseRun(now, reason=command.reason, above_since=command.since)
                self._steer(parent_id, command.run_id, message)
            case ResumeChild():
                self._steer(parent_id, command.run_id, ResumeRun(now, from_above=True))

    def cancel_given_up(self, parent: Run) -> None:
        for run_id in parent.given_up:
            child = self._coordinator.actor(run_id)
            if child is not None and child.run.generation == 1:
                self.execute(parent.run_id, cancel_given_up(parent, run_id))

    def ended(self, child: Actor) -> None:
        """The end of a run is committed: tell the run that it is a step of, if that is live."""
        parent = child.origin.parent
        if parent is not None and child.run.at_rest:
            self._report(parent, child.run_id)

    # --- what is asked of a run with the one above it

    def _steer(self, parent_id: RunId, run_id: RunId, message: ControlMessage) -> None:
        """A run that is not there yet gets it when it is started."""
        if run_id not in self._starting:
            self._ask(parent_id, run_id, message)

    def _ask(self, parent_id: RunId, run_id: RunId, message: ControlMessage) -> None:
        """Until it is committed, or not wanted any more."""
        if not self._wanted(parent_id, run_id, message) or run_id not in self._coordinator.store.runs:
            return

        def told(outcome: AppendOutcome | Exception | None) -> None:
            if not isinstance(outcome, Committed) and self._coordinator.alive:
                self._coordinator.after(RETRY, self._ask, parent_id, run_id, message)

        self._coordinator.control(run_id, message, Told(told))

    def _wanted(self, parent_id: RunId, run_id: RunId, message: ControlMessage) -> bool:
        parent = self._coordinator.actor(parent_id)
        if parent is None:
            return True
        if run_id in parent.run.given_up:
            child = self._coordinator.actor(run_id)
            return child is None or child.run.generation == 1
        paused = parent.run.paused
        match message:
            case PauseRun():
                return paused is not None and paused.at == message.above_since
            case ResumeRun():
                return paused is None
            case _:
                return True

    # --- the start

    def _start(self, parent_id: RunId, command: StartChild) -> None:
        coordinator = self._coordinator
        asked = Parent(parent_id, command.step, command.item)
        row = coordinator.store.runs.get(command.run_id)
        if coordinator.actor(command.run_id) is not None:
            self._there(parent_id, command)
            return
        if row is not None:
            if RunState(row.state).at_rest:
                self._starting.discard(command.run_id)
                self._report(asked, command.run_id)
            else:  # it is being made again
                coordinator.after(RETRY, self._start, parent_id, command)
            return
        parent = coordinator.actor(parent_id)
        if parent is None or parent.run.waits_for(command.step, command.item, command.run_id) is None:
            self._starting.discard(command.run_id)
            return
        if parent.run.doomed(command.step):
            self._starting.discard(command.run_id)
            message = ChildReported(
                coordinator.clock.now(),
                command.step,
                command.item,
                command.run_id,
                RunState.CANCELLED,
                failure=Failure("SubPipeline", "not started"),
            )
            coordinator.tell(parent_id, message)
            return
        self._begin(asked, parent, command)

    def _begin(self, asked: Parent, parent: Actor, command: StartChild) -> None:
        coordinator = self._coordinator
        action = parent.plan.steps[command.step].action
        assert isinstance(action, PipelineAction)
        try:
            plan = coordinator.plan_of(action.pipeline, None)
        except KeyError:
            self._starting.discard(command.run_id)
            failure = Failure("SubPipeline", f"there is no pipeline {action.pipeline!r}")
            now = coordinator.clock.now()
            coordinator.tell(asked.run_id, ChildRefused(now, command.step, command.item, command.run_id, failure))
            return

        def told(outcome: AppendOutcome | Exception | None) -> None:
            if isinstance(outcome, Committed):
                self._there(asked.run_id, command)
            elif coordinator.alive:
                coordinator.after(RETRY, self._start, asked.run_id, command)

        origin = Origin(parent=asked, depth=parent.origin.depth + 1)
        coordinator.start_run(command.run_id, plan, parent.run.parameters, None, Told(told), origin)

    def _there(self, parent_id: RunId, command: StartChild) -> None:
        """It is live. What was asked of the run above meanwhile concerns it too."""
        coordinator = self._coordinator
        self._starting.discard(command.run_id)
        child, parent = coordinator.actor(command.run_id), coordinator.actor(parent_id)
        if child is None:
            return
        now = coordinator.clock.now()
        if parent is None or parent.run.waits_for(command.step, command.item, command.run_id) is None:
            self._steer(parent_id, command.run_id, CancelRun(now, False, "the step that it is has gone on without it"))
        elif parent.run.doomed(command.step):
            self.execute(parent_id, cancel_child(parent.run, command.run_id))
        elif parent.run.paused is not None:
            self.execute(parent_id, pause_child(parent.run.paused, command.run_id))
        elif child.run.paused is not None and child.run.paused.from_above:
            self.execute(parent_id, ResumeChild(command.run_id))

    # --- what the run above is told

    def _report(self, parent: Parent, run_id: RunId) -> None:
        coordinator = self._coordinator
        row = coordinator.store.runs[run_id]
        state = RunState(row.state)
        failure = None if state is RunState.COMPLETED else Failure("SubPipeline", f"it is {state.name}")
        output = (row.output or b"") if state is RunState.COMPLETED else b""
        jitter = coordinator.timeline.random.random()
        now = coordinator.clock.now()
        coordinator.tell(
            parent.run_id, ChildReported(now, parent.step, parent.item, run_id, state, output, failure, jitter)
        )

"""Those who start runs and steer them. They ask again until they are answered, with the same request id."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from penstock.testing.faults import Fault, FaultKind
from penstock.testing.invariants import Violation
from penstock.testing.lane import Told
from penstock.testing.placing import Start
from penstock.testing.timeline import MILLISECOND, SECOND
from penstock_coordinator.core.run.events import WHOLE
from penstock_coordinator.core.run.messages import (
    CancelRun,
    PauseRun,
    RaiseBudget,
    RerunStep,
    ResumeRun,
    RetryRun,
    RollbackRun,
)
from penstock_coordinator.core.run.states import RunState, StepState
from penstock_coordinator.ports import Committed, Repeated, RequestKey

if TYPE_CHECKING:
    from penstock.testing.simulation import Simulation
    from penstock_coordinator.ports import AppendOutcome, RunId

ASK_AGAIN = 1 * SECOND
CANCELLED_ROLLBACK = 0.3, 0.4
"""By its chance, which rollbacks are cancelled; those before them are done again, and those after them are retries."""
MOMENT = 50 * MILLISECOND
RAISES = (SECOND // 2, 4 * SECOND, 9 * SECOND)
"""After the start of a run with a budget it is raised, more each time."""
ENOUGH = 1_000_000
"""Times what the budget of a run was: no simulated run uses so much, also when the clock jumps."""
PATIENCE = 5 * SECOND
"""An answer that has not come by then is not waited for any longer: the same is asked again."""


class People:
    def __init__(self, simulation: Simulation) -> None:
        self._simulation = simulation
        self._asked = 0
        self.run_ids: dict[int, RunId] = {}
        """What was answered to the start of each run, by its place in the scenario."""
        self._paused: dict[str, int] = {}
        """How often somebody asked for a pause of each agent, or for the end of one."""
        self._to_go_on: set[str] = set()
        """Agents that were to be paused, and that nobody knows to go on."""

    @property
    def all_answered(self) -> bool:
        return len(self.run_ids) == len(self._simulation.scenario.runs)

    # --- starts

    def start(self, place: int) -> None:
        """Until an answer comes. A run id is drawn for every attempt; the request's id stays."""
        simulation = self._simulation
        if place in self.run_ids:
            return
        coordinator = simulation.coordinator
        if coordinator is None or not coordinator.serving:
            simulation.timeline.after(ASK_AGAIN // 5, self.start, place)
            return
        simulation.timeline.after(PATIENCE, self.start, place)
        if coordinator.frozen:
            return
        run = simulation.scenario.runs[place]
        key = RequestKey("", "StartRun", f"start {place}", b"%d" % place)
        simulation.start_run(
            Start(
                coordinator,
                run.plan,
                run.parameters,
                key,
                lambda: self._draw(place),
                lambda run_id, told: self._started(place, run_id, told),
            )
        )

    def _draw(self, place: int) -> RunId:
        self._asked += 1
        return (1000 * (place + 1) + self._asked).to_bytes(16, "big")

    def _started(self, place: int, run_id: RunId, told: AppendOutcome | Exception | None) -> None:
        if isinstance(told, Committed):
            self._answered(place, run_id)
        elif isinstance(told, Repeated):
            self._answered(place, told.answer)
        elif place not in self.run_ids:
            self._simulation.timeline.after(ASK_AGAIN, self.start, place)

    def _answered(self, place: int, run_id: RunId) -> None:
        """2, 7: what was answered is in the journal, and is answered the same again."""
        if run_id not in self._simulation.store.runs:
            raise Violation("answered_after_commit", f"the start of run {place} is answered, and it is not stored")
        before = self.run_ids.setdefault(place, run_id)
        if self._simulation.scenario.runs[place].plan.budget is not None:
            for tries, wait in enumerate(RAISES, 1):
                self._simulation.timeline.after(wait, self.raise_budget, run_id, tries)
        if before != run_id:
            raise Violation("same_request_same_run", f"request {place} is answered with two runs")

    # --- what else people do

    def act(self, fault: Fault) -> None:
        run_id = self._whom(fault)
        coordinator = None if run_id is None else self._simulation.coordinator_of(run_id)
        if run_id is None or coordinator is None or not coordinator.serving or coordinator.frozen:
            return
        now = coordinator.clock.now()
        match fault.kind:
            case FaultKind.CANCEL:
                coordinator.control(run_id, CancelRun(now, fault.chance < 0.3, "enough", "ann"), Told(_ignore))
                if fault.chance > 0.8:
                    self._simulation.timeline.after(ASK_AGAIN, self._regret, run_id, fault)
            case FaultKind.PAUSE:
                for _ in range(1 + (fault.chance < 0.2)):
                    coordinator.control(run_id, PauseRun(now, "ann", "dinner"), Told(_ignore))
                if fault.chance > 0.8:
                    self._simulation.timeline.after(fault.span // 2, self._meddle, run_id, fault)
                self._simulation.timeline.after(fault.span, self.resume, run_id)
            case FaultKind.RETRY:
                self._retry(run_id, fault)

    def _meddle(self, run_id: RunId, fault: Fault) -> None:
        """With a run that is paused."""
        coordinator = self._simulation.coordinator_of(run_id)
        if coordinator is None or not coordinator.serving or coordinator.frozen:
            return
        if fault.chance > 0.9:
            coordinator.control(run_id, CancelRun(coordinator.clock.now(), True, "enough", "ann"), Told(_ignore))
        else:
            self._rerun(run_id, fault)

    def _go_on_after_rollback(self, run_id: RunId, fault: Fault) -> None:
        """What was undone is done again, when it is. Or somebody cancels the rollback, and somebody goes on with it."""
        timeline = self._simulation.timeline
        first, _ = CANCELLED_ROLLBACK
        if fault.chance >= first:
            timeline.after(int((fault.chance - first) * 10 * SECOND), self._cancel_at_once, run_id)
        timeline.after(ASK_AGAIN, self._act_again, replace(fault, chance=0.4 + fault.chance / 5))

    def _cancel_at_once(self, run_id: RunId) -> None:
        coordinator = self._simulation.coordinator_of(run_id)
        if coordinator is not None and coordinator.serving and not coordinator.frozen:
            coordinator.control(run_id, CancelRun(coordinator.clock.now(), True, "enough", "ann"), Told(_ignore))

    def _regret(self, run_id: RunId, fault: Fault) -> None:
        """Of a run that was cancelled the last of what it had done is done again, and is all that is: somebody pauses
        the run meanwhile."""
        simulation = self._simulation
        coordinator, row = simulation.coordinator_of(run_id), simulation.store.runs.get(run_id)
        if row is None or coordinator is None or not coordinator.serving or coordinator.frozen:
            return
        if not RunState(row.state).at_rest:
            if simulation.timeline.now < 2 * simulation.scenario.chaos:
                simulation.timeline.after(ASK_AGAIN, self._regret, run_id, fault)
            return
        run = coordinator.rebuild(run_id)
        steps = [each.number for each in run.plan.steps if not each.downstream and not each.retired]
        done = [number for number in steps if run.state_of(number) is StepState.COMPLETED]
        if done:
            step = done[int(fault.chance * 10_000) % len(done)]
            coordinator.reopen(run_id, RerunStep(coordinator.clock.now(), step, WHOLE, "bob"), Told(_ignore))
            simulation.timeline.after(MOMENT, self._pause, run_id)

    def _pause(self, run_id: RunId) -> None:
        coordinator = self._simulation.coordinator_of(run_id)
        if coordinator is not None and coordinator.serving and not coordinator.frozen:
            coordinator.control(run_id, PauseRun(coordinator.clock.now(), "ann", "dinner"), Told(_ignore))
            self._simulation.timeline.after(PATIENCE, self.resume, run_id)

    def _act_again(self, fault: Fault) -> None:
        """Whoever wants to retry a run waits for its end, but not for ever."""
        self.act(fault)

    def _whom(self, fault: Fault) -> RunId | None:
        """The run that is meant, or sometimes one that is a step of another one."""
        runs = list(self._simulation.store.runs)
        number = int(fault.chance * 10_000)
        if runs and number % 5 == 0:
            return runs[number % len(runs)]
        return self.run_ids.get(fault.target)

    def resume(self, run_id: RunId) -> None:
        coordinator = self._simulation.coordinator_of(run_id)
        if coordinator is None or not coordinator.serving or coordinator.frozen:
            return
        coordinator.control(run_id, ResumeRun(coordinator.clock.now(), "bob"), Told(_ignore))

    def _retry(self, run_id: RunId, fault: Fault) -> None:
        coordinator = self._simulation.coordinator_of(run_id)
        if coordinator is None:
            return
        now = coordinator.clock.now()
        row = self._simulation.store.runs.get(run_id)
        if row is None:
            return
        if fault.chance < 0.7 and not RunState(row.state).at_rest:
            if self._simulation.timeline.now < 2 * self._simulation.scenario.chaos:
                self._simulation.timeline.after(ASK_AGAIN, self._act_again, fault)
            return
        undone = coordinator.plan_of(self._simulation.store.runs[run_id].digest, None).undoing
        if fault.chance < 0.5:
            message = (
                RollbackRun(now, "eve", "a mistake")
                if undone and fault.chance < CANCELLED_ROLLBACK[1]
                else RetryRun(now, "ann")
            )
            coordinator.reopen(run_id, message, Told(_ignore))
            if isinstance(message, RollbackRun):
                self._go_on_after_rollback(run_id, fault)
            return
        self._rerun(run_id, fault)

    def pause_agent(self, agent: str, *, paused: bool) -> None:
        """Asks once."""
        coordinator = self._simulation.coordinator
        if coordinator is None or not coordinator.serving or coordinator.frozen:
            return
        invariants = self._simulation.invariants
        self._paused[agent] = asked = self._paused.get(agent, 0) + 1
        if paused:
            self._to_go_on.add(agent)
        else:
            invariants.agent_goes_on(agent)

        def told(known: bool | None) -> None:
            if known is None or self._paused[agent] != asked:
                return
            if not paused:
                self._to_go_on.discard(agent)
            elif known:
                invariants.agent_is_paused(agent)

        coordinator.fleet.pause_agent(agent, told, paused=paused)

    def _rerun(self, run_id: RunId, fault: Fault) -> None:
        coordinator = self._simulation.coordinator_of(run_id)
        if coordinator is None:
            return
        now = coordinator.clock.now()
        run = coordinator.rebuild(run_id)
        number = int(fault.chance * 1_000)
        step = number % len(run.plan.steps)
        items = run.items_of(step)
        item = number % len(items) if items and number % 2 else WHOLE
        coordinator.reopen(run_id, RerunStep(now, step, item, "bob"), Told(_ignore))
        if number % 3 == 0:
            # And another one, before anything of it has begun.
            other = RerunStep(now, (step + 1) % len(run.plan.steps), WHOLE, "bob")
            coordinator.after(1, coordinator.reopen, run_id, other, Told(_ignore))

    def raise_budget(self, run_id: RunId, times: int) -> None:
        """To so many times what it was."""
        coordinator = self._simulation.coordinator_of(run_id)
        if coordinator is None or not coordinator.serving or coordinator.frozen:
            return
        row = self._simulation.store.runs[run_id]
        budget = coordinator.plan_of(row.digest, None).budget
        if budget is not None and not RunState(row.state).at_rest:
            slot_time, cpu_time, price = (times * limit for limit in budget.limits)
            message = RaiseBudget(coordinator.clock.now(), slot_time, cpu_time, price, "dan")
            coordinator.control(run_id, message, Told(_ignore))

    # --- the end

    def heal(self) -> None:
        """What was asked for without an answer is asked for again; what is paused goes on."""
        simulation = self._simulation
        for place in range(len(simulation.scenario.runs)):
            if place not in self.run_ids:
                simulation.timeline.after(ASK_AGAIN, self.start, place)
        simulation.timeline.after(ASK_AGAIN, self._resume_all)

    def _resume_all(self) -> None:
        """Until nothing is paused by a person."""
        simulation = self._simulation
        for run_id, row in list(simulation.store.runs.items()):
            if row.state == RunState.PAUSED:
                self.resume(run_id)
            self.raise_budget(run_id, ENOUGH)
        for agent in sorted(self._to_go_on):
            self.pause_agent(agent, paused=False)
        simulation.timeline.after(ASK_AGAIN + 200 * MILLISECOND, self._resume_all)


def _ignore(_: AppendOutcome | Exception | None) -> None:
    """Whoever asked looks at the run, not at the answer."""

"""Drives one run as a coordinator would, and checks it after every turn."""

from __future__ import annotations

from collections.abc import Iterator

from msgspec.structs import replace
from tests.unit.run.auditor import Auditor
from tests.unit.run.transitions import Observations, Watcher

from penstock_coordinator.core.plan.budget import NO_PRICES, Prices
from penstock_coordinator.core.plan.limits import DEFAULT_RUN_LIMITS, RunLimits
from penstock_coordinator.core.plan.model import Plan
from penstock_coordinator.core.plan.values import InvalidJson, keep
from penstock_coordinator.core.run.commands import AcknowledgeResult, Command, ContinueRun, GrantLeases
from penstock_coordinator.core.run.deadlines import next_deadline
from penstock_coordinator.core.run.decide import decide
from penstock_coordinator.core.run.events import (
    WHOLE,
    Event,
    Failure,
    RunReopened,
    RunRollingBack,
    StepCached,
    StepCompleted,
    decode,
    encode,
)
from penstock_coordinator.core.run.evolve import evolve
from penstock_coordinator.core.run.invariants import check_invariants, fingerprint
from penstock_coordinator.core.run.ledger import TURN_LIMIT, Ledger
from penstock_coordinator.core.run.messages import (
    AttemptEnded,
    CancelRun,
    ChildReported,
    Continue,
    Message,
    RequeueSteps,
    RerunStep,
    RetryRun,
    RollbackRun,
    StartRun,
    ValueFound,
)
from penstock_coordinator.core.run.renewing import parts_wanted
from penstock_coordinator.core.run.resets import NotPossible
from penstock_coordinator.core.run.resume import resume
from penstock_coordinator.core.run.rules.reopening import reset_for
from penstock_coordinator.core.run.state import Run
from penstock_coordinator.core.run.states import RunState, StepState
from penstock_coordinator.core.run.summary import Summary, unpack


class Driver:
    """A run, its journal, and a second run that is only ever folded from the journal."""

    def __init__(
        self,
        plan: Plan,
        limit: int = TURN_LIMIT,
        limits: RunLimits = DEFAULT_RUN_LIMITS,
        prices: Prices = NO_PRICES,
    ) -> None:
        self._prices = prices
        self.run = Run(plan, b"parent")
        self.folded = Run(plan, b"parent")
        self.auditor = Auditor(plan, limits.losses)
        self.journal: list[bytes] = []
        self.events: list[Event] = []
        self.observations = Observations()
        self.now = 0
        self.commands: list[Command] = []
        """Of all turns; whoever carries them out takes them."""
        self.outputs: dict[tuple[int, int], bytes] = {}
        """What step runs gave, by step and item."""
        self.versions: list[Plan] = [plan]
        """In the order in which the run was of them."""
        self.continues = 0
        """ContinueRun commands that were not followed yet."""
        self._limit = limit
        self._limits = limits
        self._before: Summary = unpack(self.run.pack())

    def start(self, parameters: bytes = b"{}") -> Ledger:
        return self.send(StartRun(self.now, parameters))

    def send(self, message: Message) -> Ledger:
        """One turn and its commit."""
        seq, verdict = self.run.seq, self.run.verdict
        watcher = Watcher(self.run, self.observations)
        ledger = Ledger(self.run, watcher.note, self._limit, self._limits, self._prices)
        decide(self.run, message, ledger)
        watcher.finish(message, ledger)
        if isinstance(message, AttemptEnded | ChildReported | ValueFound):
            self._note_output(message, ledger)
        assert [number for number, _ in ledger.events] == list(range(seq + 1, self.run.seq + 1))
        assert (ledger.first_seq, ledger.last_seq) == (seq + 1, self.run.seq)
        may_change = isinstance(message, CancelRun | RetryRun | RerunStep | RequeueSteps | RollbackRun)
        assert may_change or verdict in (None, self.run.verdict) or _begins_to_undo(ledger)
        self._commit(ledger)
        self._check(ledger)
        return ledger

    def renew(
        self,
        plan: Plan,
        requested_by: str = "",
        reason: str = "",
        held: tuple[str, int] | None = None,
        *,
        undo: bool = False,
    ) -> Ledger:
        """A retry with another version, which is compiled onto that of the run; or a rollback."""
        for run in (self.run, self.folded):
            run.plans = {plan.digest: plan}
        kind = RollbackRun if undo else RetryRun
        message = kind(self.now, requested_by, reason, held, version=plan.digest)
        try:
            message = replace(message, kept=tuple(self._kept(plan, message)))
        except InvalidJson as error:
            ledger = Ledger(self.run)
            ledger.refusal = str(error)
            return ledger
        self.auditor.next_plan = plan
        ledger = self.send(message)
        if not ledger.refusal:
            self.versions.append(plan)
        return ledger

    def end_child(self, step: int, item: int, run_id: bytes, *, failed: bool) -> Ledger:
        """The run that a step run waits for comes to its end."""
        if failed:
            failure = Failure("SubPipeline")
            return self.send(ChildReported(self.now, step, item, run_id, RunState.FAILED, failure=failure))
        return self.send(ChildReported(self.now, step, item, run_id, RunState.COMPLETED, b"1"))

    def _kept(self, plan: Plan, message: RetryRun | RollbackRun) -> Iterator[tuple[int, int, tuple[bytes, ...]]]:
        if not self.run.at_rest:
            return
        try:
            reset = reset_for(self.run, message)
        except NotPossible:
            return
        for step, items in parts_wanted(self.run, plan, reset):
            for item in items:
                yield step, item, keep(plan.steps[step], self.outputs[step, item])

    def _note_output(self, message: AttemptEnded | ChildReported | ValueFound, ledger: Ledger) -> None:
        if any(isinstance(event, StepCompleted | StepCached) for _, event in ledger.events):
            self.outputs[message.step, message.item] = message.output or b"null"

    def again(self) -> Run:
        """The run as a restarted coordinator folds it."""
        first, *later = self.versions
        run = Run(first, self.run.run_id)
        for seq, event in enumerate((event for payload in self.journal for event in decode(payload)), 1):
            if isinstance(event, RunReopened) and event.version_digest != run.plan.digest:
                run.plans = {event.version_digest: later.pop(0)}
            evolve(run, seq, event)
        return run

    def drain(self) -> None:
        """Follow the ContinueRun commands."""
        while self.continues:
            self.continues -= 1
            self.send(Continue(self.now))

    def restart(self) -> None:
        """The coordinator is lost before it carried out what was decided last, and recovers the run."""
        self.run = self.again()
        self.commands = resume(self.run)
        self.continues = sum(isinstance(command, ContinueRun) for command in self.commands)
        assert fingerprint(self.run) == fingerprint(self.folded)
        assert next_deadline(self.run) == next_deadline(self.folded)
        assert self.continues or not self.run.unfinished
        self.folded = self.again()

    def tokens(self) -> list[tuple[int, int, int]]:
        """(step, item, token) of every lease."""
        return [(active.step, active.item, active.token) for active in self.run.leased()]

    def _commit(self, ledger: Ledger) -> None:
        events = [event for _, event in ledger.events]
        self.events += events
        if events:
            self.journal.append(encode(events))
            for (seq, event), again in zip(ledger.events, decode(self.journal[-1]), strict=True):
                assert event == again
                self.auditor.read(seq, event)
                evolve(self.folded, seq, again)
        self.commands += ledger.commands
        self.continues += sum(isinstance(command, ContinueRun) for command in ledger.commands)

    def _check(self, ledger: Ledger) -> None:
        check_invariants(self.run)
        assert fingerprint(self.run) == fingerprint(self.folded)
        assert next_deadline(self.run) == next_deadline(self.folded)
        if not any(isinstance(event, RunReopened) for _, event in ledger.events):
            self._check_rest(begins=_begins_to_undo(ledger))
        self._before = unpack(self.run.pack())
        for command in ledger.commands:
            self._check_command(command)
        assert not self.run.unfinished or self.continues
        if self.run.failing_fast:
            assert self.continues

    def _check_rest(self, *, begins: bool) -> None:
        """Nothing leaves rest, but by a new generation; and what undoes others when that begins."""
        after = unpack(self.run.pack())
        for number in self.run.plan.numbers.values():
            if begins and self.run.plan.steps[number].undoes is not None:
                continue
            _stays(self._before.state_of(number), after.state_of(number))
            for item, state in enumerate(self._before.items_of(number) or b""):
                _stays(StepState(state), after.state_of(number, item))

    def _check_command(self, command: Command) -> None:
        if isinstance(command, GrantLeases):
            for step, item, _ in command.leases:
                assert self.run.speaks(step, item, command.token)
        elif isinstance(command, AcknowledgeResult):
            assert not self.run.speaks(command.step, command.item, command.token)


def _begins_to_undo(ledger: Ledger) -> bool:
    return any(isinstance(event, RunRollingBack) for _, event in ledger.events)


def _stays(before: StepState, after: StepState) -> None:
    undone = before is StepState.COMPLETED and after is StepState.ROLLED_BACK
    assert before is after or not before.at_rest or undone


def failed_step_runs(run: Run) -> list[tuple[int, int]]:
    """(step, item) of what is FAILED by itself: of a map its items, unless the whole of it is."""
    wholes = [
        (step, WHOLE) for step, state in enumerate(run.states) if state == StepState.FAILED and step not in run.maps
    ]
    items = ((step, mapped.states) for step, mapped in run.maps.items())
    return wholes + [(step, item) for step, states in items for item, s in enumerate(states) if s == StepState.FAILED]

"""Drives one run as a coordinator would, and checks it after every turn."""

from __future__ import annotations

from tests.unit.run.auditor import Auditor
from tests.unit.run.transitions import Observations, Watcher

from penstock_coordinator.core.plan.limits import DEFAULT_RUN_LIMITS, RunLimits
from penstock_coordinator.core.plan.model import Plan
from penstock_coordinator.core.run.commands import AcknowledgeResult, Command, ContinueRun, GrantLeases
from penstock_coordinator.core.run.deadlines import next_deadline
from penstock_coordinator.core.run.decide import decide
from penstock_coordinator.core.run.events import Event, RunReopened, decode, encode
from penstock_coordinator.core.run.evolve import evolve
from penstock_coordinator.core.run.invariants import check_invariants, fingerprint
from penstock_coordinator.core.run.ledger import TURN_LIMIT, Ledger
from penstock_coordinator.core.run.messages import CancelRun, Continue, Message, RerunStep, RetryRun, StartRun
from penstock_coordinator.core.run.resume import resume
from penstock_coordinator.core.run.state import Run
from penstock_coordinator.core.run.states import StepState
from penstock_coordinator.core.run.summary import Summary, unpack


class Driver:
    """A run, its journal, and a second run that is only ever folded from the journal."""

    def __init__(self, plan: Plan, limit: int = TURN_LIMIT, limits: RunLimits = DEFAULT_RUN_LIMITS) -> None:
        self.run = Run(plan, b"parent")
        self.folded = Run(plan, b"parent")
        self.auditor = Auditor(plan)
        self.journal: list[bytes] = []
        self.events: list[Event] = []
        self.observations = Observations()
        self.now = 0
        self.commands: list[Command] = []
        """Of all turns; whoever carries them out takes them."""
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
        ledger = Ledger(self.run, watcher.note, self._limit, self._limits)
        decide(self.run, message, ledger)
        watcher.finish(message, ledger)
        assert [number for number, _ in ledger.events] == list(range(seq + 1, self.run.seq + 1))
        assert (ledger.first_seq, ledger.last_seq) == (seq + 1, self.run.seq)
        assert isinstance(message, CancelRun | RetryRun | RerunStep) or verdict in (None, self.run.verdict)
        self._commit(ledger)
        self._check(ledger)
        return ledger

    def drain(self) -> None:
        """Follow the ContinueRun commands."""
        while self.continues:
            self.continues -= 1
            self.send(Continue(self.now))

    def restart(self) -> None:
        """The coordinator is lost before it carried out what was decided last, and recovers the run."""
        self.run = self._fold()
        self.commands = resume(self.run)
        self.continues = sum(isinstance(command, ContinueRun) for command in self.commands)
        assert fingerprint(self.run) == fingerprint(self.folded)
        assert next_deadline(self.run) == next_deadline(self.folded)
        assert self.continues or not self.run.unfinished
        self.folded = self._fold()

    def _fold(self) -> Run:
        run = Run(self.run.plan, self.run.run_id)
        for seq, event in enumerate((event for payload in self.journal for event in decode(payload)), 1):
            evolve(run, seq, event)
        return run

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
            self._check_rest()
        self._before = unpack(self.run.pack())
        for command in ledger.commands:
            self._check_command(command)
        assert not self.run.unfinished or self.continues
        if self.run.failing_fast:
            assert self.continues

    def _check_rest(self) -> None:
        """Nothing leaves rest, but by a new generation."""
        after = unpack(self.run.pack())
        for number in range(len(self.run.plan.steps)):
            _stays(self._before.state_of(number), after.state_of(number))
            for item, state in enumerate(self._before.items_of(number) or b""):
                _stays(StepState(state), after.state_of(number, item))

    def _check_command(self, command: Command) -> None:
        if isinstance(command, GrantLeases):
            for step, item, _ in command.leases:
                assert self.run.speaks(step, item, command.token)
        elif isinstance(command, AcknowledgeResult):
            assert not self.run.speaks(command.step, command.item, command.token)


def _stays(before: StepState, after: StepState) -> None:
    assert before is after or not before.at_rest

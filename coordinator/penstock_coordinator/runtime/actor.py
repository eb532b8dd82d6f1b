"""The actor of one live run: decide, write, act.

A turn takes what is in the mailbox, decides, places what became ready on room that it reserves in the same moment, and
makes one record of it all: "A ended, B is ready and leased to session X" is one append. The commands follow when the
record is committed, in the order of the records; several may be on their way. If an append fails, the actor is
discarded and made again from the journal: there is no undo.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from penstock_coordinator.core.counts.live import figures_of
from penstock_coordinator.core.dispatch.tiers import Applicant
from penstock_coordinator.core.run.decide import decide
from penstock_coordinator.core.run.events import (
    WHOLE,
    Event,
    RunCancelling,
    RunReopened,
    StepsLeased,
    encode,
)
from penstock_coordinator.core.run.ledger import Ledger
from penstock_coordinator.core.run.messages import AttemptEnded, ChildReported, Message, SlotsOffered, ValueFound
from penstock_coordinator.core.run.resets import NotPossible
from penstock_coordinator.core.traces.ids import trace_of
from penstock_coordinator.ports import (
    PLAIN_ORIGIN,
    AppendOutcome,
    Committed,
    KeyClaim,
    KeyTaken,
    NewRun,
    NotNewest,
    Record,
    Removed,
    Repeated,
    RequestRow,
    RunId,
    Unstorable,
    cost_in,
)
from penstock_coordinator.runtime.projection import Projection
from penstock_coordinator.runtime.rows import row_changes

if TYPE_CHECKING:
    from penstock_coordinator.core.dispatch.dispatcher import Permit
    from penstock_coordinator.core.dispatch.fairness import RunShare
    from penstock_coordinator.core.plan.model import Plan
    from penstock_coordinator.core.run.commands import Command
    from penstock_coordinator.core.run.state import Run
    from penstock_coordinator.core.traces.ids import TraceContext
    from penstock_coordinator.runtime.answers import Answer
    from penstock_coordinator.runtime.grants import PreparedGrants
    from penstock_coordinator.runtime.lane import Lane
    from penstock_coordinator.runtime.limits import Gate
    from penstock_coordinator.runtime.supervisor import Supervisor
    from penstock_coordinator.runtime.watching import Watcher

MESSAGES_PER_TURN = 64
MAILBOX_LIMIT = 20_000
"""Past it results are left to their agents, which send them again. More than one for each lease comes only from agents
that repeat themselves."""
CONTROL_LIMIT = 1_000
"""Past it whoever wants something of the run is told to come back."""


class Mail(NamedTuple):
    """A message with what must become of it."""

    message: Message
    permit: Permit | None = None
    """The room that a SlotsOffered is about."""
    answer: Answer | None = None
    """Told when the turn is committed, or was not."""
    request: RequestRow | None = None
    claim: KeyClaim | None = None


@dataclass(slots=True, eq=False)
class Turn:
    """What one turn decided, from the decision to its commit."""

    actor: Actor
    record: Record
    size: int
    events: list[tuple[int, Event]]
    commands: list[Command]
    used: list[tuple[Permit, int]]
    """Room that the leases of this turn took."""
    results: list[AttemptEnded]
    answers: list[Answer]
    reopened: bool
    """A new generation began in it."""
    grants: PreparedGrants | None = None
    """Made while it was being committed."""


class Drafts:
    """What a turn gathers."""

    __slots__ = ("answers", "claim", "ledger", "now", "projection", "request", "results", "used")

    def __init__(self, ledger: Ledger, projection: Projection) -> None:
        self.ledger = ledger
        self.projection = projection
        self.used: list[tuple[Permit, int]] = []
        self.results: list[AttemptEnded] = []
        self.answers: list[Answer] = []
        self.request: RequestRow | None = None
        self.claim: KeyClaim | None = None
        self.now = 0


_NOTHING_IN_FLIGHT: list[Turn] = []
_NOBODY: list[Watcher] = []
"""Of actors that have none, which is what those that wait have. Shared, never written."""


class Actor:
    """What most actors never have is an attribute of the class, until one has it."""

    __slots__ = (
        "__dict__",
        "_supervisor",
        "_waiting",
        "committed_seq",
        "deadline",
        "environment_json",
        "in_flight",
        "lane",
        "limits",
        "mail",
        "new_run",
        "origin",
        "parameters",
        "parameters_json",
        "plan",
        "run",
        "run_id",
        "scheduled",
        "share",
        "trace_context",
        "unbegun",
    )

    version_number: int | None = None
    """Of a run that is opened again with another version: its number."""
    control: deque[Mail] | None = None
    """As `mail`, read before it."""
    watchers: list[Watcher] = _NOBODY
    discarded = False
    limited = False
    """The run needs places under limits on runs."""
    sampled = False
    """Its trace is: who exports spans is told of what is committed."""
    unsampled_context: TraceContext | None = None
    """What all attempts of a run get whose trace is not sampled, once one was leased."""
    gate: Gate | None = None
    """To places under limits on steps; None if no step shares a key."""

    def __init__(
        self,
        supervisor: Supervisor,
        lane: Lane,
        run_id: RunId,
        plan: Plan,
        run: Run,
        parameters_json: bytes,
        trace_context: TraceContext,
        share: RunShare,
        new_run: NewRun | None = None,
    ) -> None:
        self._supervisor = supervisor
        self.lane = lane
        self.run_id = run_id
        self.plan = plan
        self.run = run
        self.parameters_json = parameters_json
        self.parameters: dict[str, object] | None = None
        """Decoded when a grant first needs them."""
        self.environment_json = b""
        self.trace_context = trace_context
        self.share = share
        self.limits = supervisor.timing.run_limits
        self.origin = PLAIN_ORIGIN
        self.new_run = new_run
        """The row that the first record will bring with it."""
        self.mail: deque[Mail] | None = None
        """Made when something comes: a run that waits has none, and an empty one has 760 bytes."""
        self.in_flight = _NOTHING_IN_FLIGHT
        self.committed_seq = run.seq
        self.deadline: int | None = None
        self.scheduled = False
        self._waiting = 0
        """The positions of the lines that the run waits on, as bits: mostly none or one, and a number has no parts."""
        self.unbegun = False
        """The run counts as one that waits to begin."""
        if plan.limited:
            self.gate = supervisor.limits.gate(self)

    @property
    def patience(self) -> float:
        """Seconds that a caller waits for a commit."""
        return self._supervisor.patience

    @property
    def trace_id(self) -> str:
        """32 hex digits."""
        return trace_of(self.run_id, self.trace_context).trace_id.hex()

    # --- mail

    @property
    def has_mail(self) -> bool:
        return bool(self.mail or self.control)

    @property
    def full(self) -> bool:
        return self.mail is not None and len(self.mail) >= MAILBOX_LIMIT

    @property
    def besieged(self) -> bool:
        """More people want something of the run, or wait for its commit, than it can tell."""
        waiting = sum(len(turn.answers) for turn in self.in_flight)
        return waiting + (0 if self.control is None else len(self.control)) >= CONTROL_LIMIT

    def post(self, mail: Mail) -> None:
        if self.mail is None:
            self.mail = deque()
        self.mail.append(mail)
        self._supervisor.live.posted(len(self.mail))
        self.lane.schedule(self)

    def post_control(self, mail: Mail) -> None:
        """Read before everything else: cancel must not wait behind ten thousand results."""
        if self.control is None:
            self.control = deque()
        self.control.append(mail)
        self._supervisor.live.posted(len(self.control))
        self.lane.schedule(self)

    def add_watcher(self, watcher: Watcher) -> None:
        if self.watchers is _NOBODY:
            self.watchers = []
        self.watchers.append(watcher)

    # --- a turn

    def turn(self) -> Turn | None:
        """Decide what is in the mailbox. Returns what is to be committed, if anything was decided."""
        if self.discarded:
            self._bounce()
            return None
        before = figures_of(self.run)
        try:
            return self._turn()
        finally:
            self._supervisor.live.changed(before, self.run)

    def _turn(self) -> Turn | None:
        projection = Projection(self.run)
        prices = self._supervisor.timing.prices
        drafts = Drafts(Ledger(self.run, projection.note, limits=self.limits, prices=prices), projection)
        try:
            self._decide_all(drafts)
            self._place(drafts)
            if projection.reopened:
                self._forget_outputs(drafts.ledger.events)
            self._keep_outputs(projection)
            self._supervisor.watch_deadline(self)
            return self._finish(drafts)
        except Exception:
            self._take_back(drafts)
            raise

    def _decide_all(self, drafts: Drafts) -> None:
        live = self._supervisor.live
        for _ in range(MESSAGES_PER_TURN):
            if self.control:
                live.mail -= 1
                self._decide(self.control.popleft(), drafts)
            elif self.mail:
                live.mail -= 1
                self._decide(self.mail.popleft(), drafts)
            else:
                self.mail = None
                if self.control is not None:
                    self.control = None
                return

    def _take_back(self, drafts: Drafts) -> None:
        """The turn failed: nobody is told that it happened, and its room is free."""
        for permit, used in drafts.used:
            self._supervisor.give_back(permit, used)
        for answer in drafts.answers:
            if not answer.done():
                answer.cancel()

    def _decide(self, mail: Mail, drafts: Drafts) -> None:
        message = mail.message
        if self.gate is not None and type(message) is SlotsOffered:
            message = msgspec.structs.replace(message, count=self.gate.room(message.line, message.count))
        drafts.now = message.now
        if mail.answer is not None:
            drafts.answers.append(mail.answer)
        self._apply(message, mail.permit, drafts)
        if drafts.ledger.refusal:
            _refuse(mail, drafts)
            return
        if type(message) is AttemptEnded:
            drafts.results.append(message)
        if mail.request is not None:
            drafts.request = mail.request
        if mail.claim is not None:
            drafts.claim = mail.claim

    def _apply(self, message: Message, permit: Permit | None, drafts: Drafts) -> None:
        """Decide one message; what it leaves of an offered room is free again."""
        projection = drafts.projection
        projection.message = message if type(message) is AttemptEnded else None
        projection.child_end = message if type(message) is ChildReported else None
        projection.found = message if type(message) is ValueFound else None
        before = len(drafts.ledger.events)
        try:
            decide(self.run, message, drafts.ledger)
        except Exception:
            if permit is not None:
                self._supervisor.give_back(permit, permit.count)
            raise
        if permit is not None:
            self._settle_permit(permit, drafts.ledger.events[before:], drafts)
            if self.gate is not None and type(message) is SlotsOffered:
                self._take_places(self.gate, message.line, drafts.ledger.events[before:])

    @staticmethod
    def _take_places(gate: Gate, position: int, events: list[tuple[int, Event]]) -> None:
        for _, event in events:
            if type(event) is StepsLeased:
                gate.take(position, event.leases)

    def _place(self, drafts: Drafts) -> None:
        """Lease what is ready on room that is free now; what finds none waits in its line."""
        run = self.run
        lines = set(run.demanded_lines())
        gate = self.gate
        if not lines and not self._waiting and gate is None:
            return
        for line in lines:
            want = run.demand(line) if gate is None else gate.room(line, run.demand(line))
            for permit in self._supervisor.dispatcher.reserve(run.line_at(line), want):
                drafts.now = drafts.now or self._supervisor.clock.now()
                offer = SlotsOffered(drafts.now, line, permit.session, permit.agent, permit.count)
                self._apply(offer, permit, drafts)
        concerned = lines.union(positions(self._waiting)) if self._waiting else lines
        for line in concerned if gate is None else concerned | gate.waiting:
            self._wait(line, run.demand(line) if gate is None else self._wait_for_places(gate, line, drafts))

    def _wait(self, line: int, demand: int) -> None:
        """So many ready step runs wait in the line from now on."""
        bit = 1 << line
        if demand:
            self._waiting |= bit
        elif self._waiting & bit:
            self._waiting ^= bit
        else:
            return
        supervisor = self._supervisor
        supervisor.dispatcher.set_demand(self._applicant(line), demand, supervisor.clock.monotonic())

    def _applicant(self, line: int) -> Applicant:
        plan, share = self.plan, self.share
        return Applicant(
            self.run_id,
            line,
            self.run.line_at(line),
            share.priority + plan.priorities[self.run.plan_line(line)],
            share.weight,
            share.group,
            share.group_weight,
        )

    def _wait_for_places(self, gate: Gate, line: int, drafts: Drafts) -> int:
        """How many step runs of the line wait for agents; the others wait for places, or are displaced."""
        drafts.now = drafts.now or self._supervisor.clock.now()
        demand, displacement = gate.wait(line, self.run.demand(line), drafts.now)
        if displacement is not None:
            self._apply(displacement, None, drafts)
            demand, _ = gate.wait(line, self.run.demand(line), drafts.now)
            # What became ready by it is placed in another turn.
            self.lane.schedule(self)
        return demand

    def _settle_permit(self, permit: Permit, events: list[tuple[int, Event]], drafts: Drafts) -> None:
        used = sum(len(event.leases) for _, event in events if type(event) is StepsLeased)
        if used:
            drafts.used.append((permit, used))
        if used < permit.count:
            self._supervisor.give_back(permit, permit.count - used)

    def _keep_outputs(self, projection: Projection) -> None:
        for step, item, output in projection.outputs:
            self._supervisor.outputs.put((self.run_id, step, item), output)

    def _forget_outputs(self, events: list[tuple[int, Event]]) -> None:
        """The lists that were put together of the outputs of items are no more."""
        for _, event in events:
            if type(event) is RunReopened:
                numbers = [number for first, stop in event.steps for number in range(first, stop)]
                for number in (*numbers, *(number for number, _ in event.items)):
                    self._supervisor.outputs.forget((self.run_id, number, WHOLE))

    def _finish(self, drafts: Drafts) -> Turn | None:
        ledger = drafts.ledger
        if not ledger.events:
            self._answer_without_record(ledger.commands, drafts.answers)
            if self.gate is not None and not self.in_flight:
                self.gate.press()
            return None
        record = self._record(drafts)
        turn = Turn(
            self,
            record,
            _size(record),
            ledger.events,
            ledger.commands,
            drafts.used,
            drafts.results,
            drafts.answers,
            drafts.projection.reopened,
        )
        if not self.in_flight:
            self.in_flight = []
        self.in_flight.append(turn)
        return turn

    def _answer_without_record(self, commands: list[Command], answers: list[Answer]) -> None:
        """An answer may rest on what an earlier turn decided: it waits for that turn's commit."""
        if self.in_flight:
            self.in_flight[-1].commands.extend(commands)
            self.in_flight[-1].answers.extend(answers)
            return
        self._supervisor.execute(self, commands)
        for answer in answers:
            if not answer.done():
                answer.set_result(Committed())

    def _record(self, drafts: Drafts) -> Record:
        events = drafts.ledger.events
        new_run, self.new_run = self.new_run, None
        new_row, change = row_changes(self.run, new_run, events, drafts.ledger.output, self.version_number)
        return Record(
            run_id=self.run_id,
            first_seq=drafts.ledger.first_seq,
            last_seq=drafts.ledger.last_seq,
            payload=encode([event for _, event in events]),
            at=drafts.now,
            new_run=new_row,
            change=change,
            step_runs=tuple(drafts.projection.step_runs),
            attempts=tuple(drafts.projection.attempts),
            request=drafts.request,
            claim=drafts.claim,
            letters=tuple(drafts.projection.letters),
            closings=tuple(drafts.projection.closings),
            entries=tuple(drafts.projection.entries),
            answered=tuple(drafts.projection.answered),
            artifacts=tuple(drafts.projection.artifacts),
            charge=drafts.projection.charge,
        )

    def prepare(self, turn: Turn) -> None:
        """To be called while the turn is being committed."""
        if not self.discarded:
            turn.grants = self._supervisor.prepare(self, turn.commands)

    # --- after the commit

    def settle(self, turn: Turn, outcome: AppendOutcome) -> bool:
        """The fate of the oldest turn in flight is known. True: it is committed, and is to be counted."""
        if self.discarded:
            return False
        if not isinstance(outcome, Committed):
            self._fail(turn, outcome)
            return False
        oldest = self.in_flight.pop(0)
        assert oldest is turn
        if not self.in_flight:
            self.in_flight = _NOTHING_IN_FLIGHT
        first = not self.committed_seq
        self.committed_seq = turn.record.last_seq
        if turn.reopened:
            first = True
        if self.unbegun and self.run.started_at is not None and not self.run.at_rest:
            self._supervisor.begun(self)
        if self.limited or self.gate is not None:
            self._settle_places(turn, first)
        if turn.record.charge is not None:
            self._supervisor.note_charge(turn.record.charge)
        for watcher in self.watchers:
            watcher.push(turn.events)
        if turn.grants is None:
            self._supervisor.execute(self, turn.commands)
        else:
            self._supervisor.execute_prepared(self, turn.commands, turn.grants)
        for answer in turn.answers:
            if not answer.done():
                answer.set_result(outcome)
        if self.sampled:
            self._supervisor.note_traced(self.run_id)
        return True

    def count(self, turn: Turn) -> None:
        """To be called after `settle`, before another turn of the run."""
        counts, record = self._supervisor.counts.runs, turn.record
        counts.committed(self.run, turn.events, self._supervisor.clock.now() if turn.used else 0)
        for attempt in record.attempts:
            cost = cost_in(attempt.detail)
            if cost is not None:
                counts.spent(cost.slot_time, cost.cpu_time, cost.peak_memory_bytes)
        for letter in record.letters:
            counts.letters[letter.budget] += 1

    def _settle_places(self, turn: Turn, first: bool) -> None:
        if self.limited:
            if first:
                self._supervisor.limits.started(self)
            if any(type(event) is RunCancelling for _, event in turn.events):
                self._supervisor.limits.going(self.run_id)
        if self.gate is not None:
            self.gate.committed(turn.events)
            if first:
                self.lane.schedule(self)

    def _fail(self, turn: Turn, outcome: AppendOutcome) -> None:
        """Nothing of this turn and of those behind it is stored."""
        for answer in turn.answers:
            if not answer.done():
                answer.set_result(outcome)
        self.discard()
        self._supervisor.replace_actor(
            self,
            turn,
            isinstance(outcome, Repeated | KeyTaken | NotNewest | Removed),
            isinstance(outcome, Unstorable),
        )

    def crash(self, error: Exception) -> None:
        """A turn raised: the state is of no use any more, and what is committed of the run still is."""
        self.discard()
        self._supervisor.replace_crashed(self, error)

    def discard(self) -> None:
        """The state is not the journal's any more, or nobody needs it: give back all room, and tell who waits that
        nothing is known of what they asked for."""
        self.discarded = True
        for turn in self.in_flight:
            for permit, used in turn.used:
                self._supervisor.give_back(permit, used)
            for answer in turn.answers:
                answer.cancel()
        self.in_flight = _NOTHING_IN_FLIGHT
        self._supervisor.limits.discarded(self.run_id)
        for line in positions(self._waiting):
            self._wait(line, 0)
        self._bounce()

    def _bounce(self) -> None:
        left = (*(self.control or ()), *(self.mail or ()))
        self._supervisor.live.mail -= len(left)
        for mail in left:
            if mail.permit is not None:
                self._supervisor.give_back(mail.permit, mail.permit.count)
            if mail.answer is not None and not mail.answer.done():
                mail.answer.cancel()
        self.control = self.mail = None


def positions(bits: int) -> list[int]:
    """Those of the bits that are set, in order."""
    found = []
    while bits:
        lowest = bits & -bits
        found.append(lowest.bit_length() - 1)
        bits ^= lowest
    return found


def _size(record: Record) -> int:
    size = len(record.payload)
    for row in record.step_runs:
        size += len(row.output or b"") + 64
    for row in record.answered:
        size += len(row.output or b"") + 128
    for entry in record.entries:
        size += len(entry.output) + 256
    for letter in record.letters:
        size += len(letter.message) + 128
    return size


def _refuse(mail: Mail, drafts: Drafts) -> None:
    """Nothing came of the message: who asked is told why."""
    refusal, drafts.ledger.refusal = drafts.ledger.refusal, ""
    if mail.answer is not None:
        drafts.answers.remove(mail.answer)
        if not mail.answer.done():
            mail.answer.set_exception(NotPossible(refusal))

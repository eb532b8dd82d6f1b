"""A coordinator of the simulation: a process with the real actors, rules, limits and dispatcher, and a thin shell.

The shell is synchronous: what the coordinator's own shell leaves to its event loop is planned on the timeline.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias, cast

import msgspec

from penstock.testing import words
from penstock.testing.adoption import Adoption, is_live
from penstock.testing.caching import SimulatedCache
from penstock.testing.children import SimulatedChildren
from penstock.testing.deadlines import Deadlines
from penstock.testing.duties import DUTIES
from penstock.testing.fleet import SimulatedFleet
from penstock.testing.journal import LaneWriter, Reach, Store, StoredRun, folded
from penstock.testing.lane import Outputs, SimulatedLane, Told
from penstock.testing.sessions import Stream
from penstock.testing.timeline import MILLISECOND, SECOND, PartyClock, Process
from penstock_coordinator.core.counts import Counts
from penstock_coordinator.core.counts.live import LiveCounts
from penstock_coordinator.core.dispatch.dispatcher import Dispatcher
from penstock_coordinator.core.dispatch.fairness import USUAL
from penstock_coordinator.core.fleet.boots import Boots
from penstock_coordinator.core.fleet.standing import fence_interval
from penstock_coordinator.core.plan.budget import NO_PRICES, Prices
from penstock_coordinator.core.plan.limits import DEFAULT_RUN_LIMITS, RunLimits
from penstock_coordinator.core.run.commands import (
    AwaitLease,
    Command,
)
from penstock_coordinator.core.run.events import CacheMode
from penstock_coordinator.core.run.messages import (
    AdmitRun,
    AttemptEnded,
    CacheAnswer,
    ChildRefused,
    ChildReported,
    ControlMessage,
    ReopenMessage,
    RollbackRun,
    SlotsOffered,
    StartRun,
)
from penstock_coordinator.core.run.resume import resume
from penstock_coordinator.core.run.state import Run
from penstock_coordinator.core.run.states import RunState
from penstock_coordinator.ports import (
    AppendOutcome,
    ChargeRow,
    Committed,
    NewRun,
    Origin,
    RequestRow,
    RunId,
)
from penstock_coordinator.runtime.actor import Actor, Mail, Turn
from penstock_coordinator.runtime.limits import Limits, budget_key, waits_for_budget

if TYPE_CHECKING:
    from penstock.testing.executions import Behave
    from penstock.testing.invariants import Invariants
    from penstock.testing.network import End, Link
    from penstock.testing.seats import Seat
    from penstock.testing.timeline import Timeline
    from penstock_coordinator.core.dispatch.dispatcher import Permit
    from penstock_coordinator.core.plan.model import Plan
    from penstock_coordinator.runtime.lane import Lane
    from penstock_coordinator.runtime.supervisor import Supervisor

PERIOD = SECOND // 4
FROZEN = 2 * SECOND
"""So late, a process has stood still."""
RETRY_READ = 200 * MILLISECOND


@dataclass(frozen=True, slots=True)
class Timing:
    """As the coordinator's own; spans in microseconds."""

    heartbeat_interval: int = 5 * SECOND
    lease_ttl: int = 30 * SECOND
    expiry_margin: int = 5 * SECOND
    result_resend_interval: int = 5 * SECOND
    accept_timeout: int = 10 * SECOND
    run_limits: RunLimits = DEFAULT_RUN_LIMITS
    prices: Prices = NO_PRICES


BUDGET_WAIT = 3 * SECOND
"""How long runs wait for the budget of their pipeline, if it has one."""


Read: TypeAlias = "dict[RunId, tuple[Run, int]]"
"""Runs as far as their journals were read, and the last record of that."""


class Coordinator(Process):
    """One incarnation."""

    def __init__(
        self,
        timeline: Timeline,
        name: str,
        store: Store,
        clock: PartyClock,
        timing: Timing,
        plan_of: Callable[[str, Plan | None], Plan],
        behave: Behave,
        invariants: Invariants,
        inside: Process | None = None,
        reach: Reach | None = None,
    ) -> None:
        """`inside`: the process that it is a turn of; without, it is one. `reach`: its way to the database."""
        super().__init__(timeline, name, inside)
        self.store = store
        self.reach = Reach(store) if reach is None else reach
        self.owner = "c"
        """Whose its runs are."""
        self.seat: Seat | None = None
        self.stopping = False
        """Nothing more is accepted."""
        self.clock = clock
        self.timing = timing
        self.invariants = invariants
        self.plan_of = plan_of
        self.behave = behave
        self.epoch = 0
        self.mailed = 0
        """How often there was work for a run."""
        self.serving = False
        self.counts = Counts()
        self.live = LiveCounts()
        self.dispatcher = Dispatcher()
        self.outputs = Outputs()
        self.fleet = SimulatedFleet(self)
        self.limits = Limits(cast("Supervisor", self))
        self.children = SimulatedChildren(self)
        self.caching = SimulatedCache(self)
        self.boots = Boots()
        self.streams: list[Stream] = []
        self.actors: dict[RunId, Actor] = {}
        self.rebuilding: set[RunId] = set()
        self._pump_scheduled = False
        self.head_epoch = 0
        """Of the head that it is a member of; 0: it is one itself, or alone."""
        self.adoption = Adoption(self)
        self.deadlines = Deadlines(self)
        self._due_at = 0
        self.patience = 10.0
        self.read: Read = {}
        self.lane: SimulatedLane | None = None

    def count(self, what: str, times: int = 1) -> None:
        """Of ownership, something that happened."""
        if self.seat is not None:
            self.seat.cluster.count(what, times)

    # --- its life

    def begin(self) -> None:
        self.note("boots")
        self.read_store(self._take_over)

    def _take_over(self) -> None:
        self.epoch = self.store.next_epoch(self.owner)
        self.invariants.takes_over(self)
        self._open_lane()
        self.read_store(self._recover)

    @property
    def alone(self) -> bool:
        """It may go on without a lease: nobody else was there."""
        return self.seat is None or self.fleet.standing.ends_at is None

    @property
    def is_head(self) -> bool:
        return not self.head_epoch

    def begin_as(self, seat: Seat, epoch: int, head_epoch: int, read: Read) -> None:
        """It owns, with that epoch, as a head or as a member of one. `read`: what was read of its runs before."""
        self.seat = seat
        self.owner = seat.name
        self.epoch = epoch
        self.head_epoch = head_epoch
        self.read = read
        self.invariants.takes_over(self)
        self._open_lane()
        if self.is_head:
            self._claim_runs(seat)
        else:
            # What it left when it was a member before, and nobody has claimed.
            self.read_store(self._recover)

    def _open_lane(self) -> None:
        self.lane = SimulatedLane(self, LaneWriter(self, self.store, self.reach, self.owner, self.epoch))

    def _claim_runs(self, seat: Seat) -> None:
        """What former owners left, in batches."""

        def claimed(run_ids: list[RunId]) -> None:
            if run_ids:
                self._claim_runs(seat)
            else:
                self.read_store(self._recover)

        def again() -> None:
            self.after(RETRY_READ, self._claim_runs, seat)

        if self.alive:
            seat.ask(lambda: seat.cluster.registry.claim_runs(self.owner, self.epoch), claimed, again)

    def _recover(self) -> None:
        self.look_at_boots()
        live = self.store.live_runs(self.owner)
        recovered = [self.raise_actor(run_id, row, self.folded(run_id)) for run_id, row in live]
        self.read = {}
        for actor in recovered:
            self.invariants.recovers(self, actor.run)
        self.limits.restore(recovered)
        for actor in recovered:
            self.resume(actor, resume(actor.run))
        self.cancel_given_up(recovered)
        self.note("serves", self.epoch, len(recovered))
        self.serving = True
        if self.seat is not None:
            self.seat.serves()
        if not self.alive:
            return
        self._due_at = self.clock.monotonic() + PERIOD
        self.after(PERIOD, self._periodic)
        self._look_at_fence()

    def cancel_given_up(self, recovered: list[Actor]) -> None:
        """A run at rest owes nothing but this: that the runs which it did not wait for are told."""
        for actor in recovered:
            parent = actor.origin.parent
            if parent is None or actor.run.generation > 1 or parent.run_id in self.actors:
                continue
            self.children.cancel_given_up(self.rebuild(parent.run_id))

    def look_at_boots(self) -> None:
        """Of agents' last sessions, also with members."""
        for agent, (session, boot_id) in self.store.boots.items():
            self.boots.add(agent, session, boot_id)
        for (agent, _), (session, boot_id) in self.store.links.items():
            self.boots.add(agent, session, boot_id)

    def crash(self) -> None:
        self.note("crashes")
        for stream in self.streams:
            if stream.link is not None and stream.end is not None and stream.end.open:
                stream.link.vanish(stream.end)
        self._end()

    def _end(self) -> None:
        """Nothing of it happens any more."""
        self.alive = False
        self.serving = False
        for actor in self.actors.values():
            for mail in (*(actor.control or ()), *(actor.mail or ())):
                if mail.answer is not None:
                    mail.answer.cancel()
            for turn in actor.in_flight:
                for answer in turn.answers:
                    answer.cancel()

    def fenced(self) -> None:
        """Another incarnation writes: this one ends."""
        self.note("fenced", self.epoch)
        self.invariants.steps_down(self)
        if self.seat is None:
            self.crash()
        else:
            self.seat.own_is_over()

    def step_down(self) -> None:
        """It owns nothing any more, and the process goes on: agents are let go."""
        for session in self.fleet.sessions.values():
            session.dismiss("not_the_leader")
        self._end()

    def send_on(self, address: str) -> None:
        """It stops: nothing more is accepted, and agents are told where to go; "": nowhere."""
        self.stopping = True
        self.serving = False
        for session in list(self.fleet.sessions.values()):
            if address:
                session.send(words.Redirect(address))
            session.close("" if address else "shutdown")

    def _periodic(self) -> None:
        now = self.clock.monotonic()
        self.fleet.awake(now)
        late = now - self._due_at
        if late > FROZEN:
            self.fleet.leases.stand_still(late, now)
        self.fleet.run_periodic(now)
        self.caching.renew()
        self._let_begin()
        self.invariants.look_around(self)
        self._due_at = now + PERIOD
        self.after(PERIOD, self._periodic)

    def is_current(self) -> bool:
        """As the database says."""
        return self.store.may_write(self.owner, self.epoch)

    def _look_at_fence(self) -> None:
        """An incarnation that has nothing to write would never learn that it is over."""
        self.fleet.awake(self.clock.monotonic())
        if not self.is_current():
            self.fenced()
            return
        self.fleet.standing.confirm(self.fleet.standing.ask())
        self.after(fence_interval(self.timing.expiry_margin), self.read_store, self._look_at_fence)

    def look_at_fence(self) -> None:
        """Once, besides."""
        self.read_store(lambda: None if self.is_current() else self.fenced())

    @property
    def may_speak(self) -> bool:
        """Its ownership lease, if there is one, has not run out."""
        return not self.fleet.standing.is_over(self.clock.monotonic())

    def read_store(self, action: Callable[[], None]) -> None:
        """Once the database answers."""
        chance = self.timeline.random.random()
        self.after(300 + int(chance * (MILLISECOND + self.store.slowness)), self._read_store, action)

    def ask_store(self, action: Callable[[], None], failed: Callable[[], None]) -> None:
        """Once: `failed` if nobody can connect."""
        chance = self.timeline.random.random()
        delay = 300 + int(chance * (MILLISECOND + self.store.slowness))
        self.after(delay, lambda: failed() if self.reach.lost else action())

    def _read_store(self, action: Callable[[], None]) -> None:
        if self.reach.away:
            self.after(RETRY_READ, self.read_store, action)
        else:
            action()

    # --- streams

    def accept(self, end: End, link: Link, stream: Stream) -> None:
        stream.link, stream.end = link, end
        self.streams = [each for each in self.streams if each.end is not None and each.end.open]
        self.streams.append(stream)

    # --- runs

    def actor(self, run_id: RunId) -> Actor | None:
        return self.actors.get(run_id)

    def rebuild(self, run_id: RunId) -> Run:
        """As its journal says."""
        return folded(self.store.runs[run_id], run_id, self.plan_of)[0]

    def folded(self, run_id: RunId) -> Run:
        """The same, from where it was read to before."""
        return folded(self.store.runs[run_id], run_id, self.plan_of, self.read.get(run_id))[0]

    def raise_actor(self, run_id: RunId, row: StoredRun, run: Run) -> Actor:
        actor = self._add(run_id, run.plan, run, row.parameters)
        actor.origin = row.row.origin
        return actor

    def _add(self, run_id: RunId, plan: Plan, run: Run, parameters: bytes, new_run: NewRun | None = None) -> Actor:
        lane = cast("Lane", self.lane)
        actor = Actor(cast("Supervisor", self), lane, run_id, plan, run, parameters, (), USUAL, new_run)
        self.actors[run_id] = actor
        self.invariants.has_run(self, plan)
        return actor

    def start_run(
        self,
        run_id: RunId,
        plan: Plan,
        parameters: bytes,
        request: RequestRow | None,
        answer: Told,
        origin: Origin | None = None,
    ) -> None:
        now = self.clock.now()
        row = NewRun(
            pipeline=plan.pipeline,
            version_number=1,
            version_digest=plan.digest,
            parameters=parameters,
            labels=(),
            trace_context=(),
            create_time=now,
            owner=self.owner,
            state=int(RunState.PENDING),
            origin=origin or Origin(),
        )
        actor = self._add(run_id, plan, Run(plan, run_id), parameters, row)
        actor.origin = row.origin
        held, refused = self._places(actor, parameters, now)
        actor.post(
            Mail(StartRun(now, parameters, held, refused, CacheMode(row.origin.cache)), answer=answer, request=request)
        )

    def _places(self, actor: Actor, parameters: bytes, now: int) -> tuple[tuple[str, int] | None, str]:
        """What is left of the budget of a pipeline comes before places under limits: in a simulation nothing is, for a
        while."""
        if actor.plan.window_budget is not None:
            return (budget_key(actor.plan.pipeline), 1), ""
        return self.limits.ask(actor, parameters, now)

    def _let_begin(self) -> None:
        now = self.clock.now()
        for actor in list(self.actors.values()):
            held = actor.run.held
            if held is None or not waits_for_budget(actor.run) or self.limits.knows(actor.run_id):
                continue
            if now >= held.since + BUDGET_WAIT:
                places = self.limits.ask(actor, actor.run.parameters, now)
                actor.post_control(Mail(AdmitRun(now, *places), answer=self._beginning(actor)))

    def note_charge(self, _: ChargeRow) -> None:
        """What is left of it is not counted here."""

    def _beginning(self, actor: Actor) -> Told:
        def told(outcome: AppendOutcome | Exception | None) -> None:
            if isinstance(outcome, Committed) and actor.limited:
                self.limits.started(actor)

        return Told(told)

    def control(self, run_id: RunId, message: ControlMessage, answer: Told) -> None:
        """What a person wants of a run; a run at rest is left as it is."""
        actor = self.actors.get(run_id)
        if actor is not None:
            actor.post_control(Mail(message, answer=answer))
        elif run_id not in self.store.runs or is_live(self.store.runs[run_id]):
            answer.cancel()
        else:
            answer.set_result(Committed())

    def reopen(self, run_id: RunId, message: ReopenMessage, answer: Told) -> None:
        """A new generation of a run at rest, or a step of a run that is under way."""
        actor = self.actors.get(run_id)
        if actor is not None:
            if actor.run.at_rest:
                answer.cancel()  # its end is being committed
            else:
                actor.post_control(Mail(message, answer=answer))
            return
        row = self.store.runs.get(run_id)
        if row is None or run_id in self.rebuilding or not self._takes_over(run_id, row):
            answer.cancel()
            return
        actor = self.raise_actor(run_id, row, self.rebuild(run_id))
        undoes = isinstance(message, RollbackRun)
        ask = self.limits.ask if undoes else self._places
        held, refused = ask(actor, row.parameters, message.now)
        if refused:
            self.give_up(actor)
            answer.cancel()
            return
        actor.post_control(
            Mail(
                msgspec.structs.replace(message, held=held),
                answer=Told(lambda outcome: self._reopened(actor, outcome, answer)),
            )
        )

    def _takes_over(self, run_id: RunId, row: StoredRun) -> bool:
        """One at rest of a former owner. Nobody knows while the database is away."""
        if row.owner == self.owner:
            return True
        return not self.reach.away and self.store.take_over_run(self.owner, self.epoch, run_id)

    def _reopened(self, actor: Actor, outcome: AppendOutcome | Exception | None, answer: Told) -> None:
        if isinstance(outcome, Exception):
            # Nothing came of it: the run is at rest as it was.
            self.give_up(actor)
            answer.set_exception(outcome)
        elif outcome is None:
            answer.cancel()
        else:
            answer.set_result(outcome)

    def resume(self, actor: Actor, duties: list[Command]) -> None:
        self.execute(actor, sorted(duties, key=lambda duty: not isinstance(duty, AwaitLease)))
        self.watch_deadline(actor)
        actor.lane.schedule(actor)

    def tell(self, run_id: RunId, message: ChildReported | ChildRefused | CacheAnswer) -> None:
        actor = self.actors.get(run_id)
        if actor is not None:
            actor.post(Mail(message))

    def deliver(self, run_id: RunId, message: AttemptEnded) -> bool:
        actor = self.actors.get(run_id)
        if actor is None:
            return self.stopping or run_id in self.rebuilding or run_id in self.adoption.arriving
        if not actor.full:
            actor.post(Mail(message))
        return True

    # --- commands

    def execute(self, actor: Actor, commands: list[Command]) -> None:
        for command in commands:
            DUTIES[type(command)](self, actor, command)

    def give_up(self, actor: Actor) -> None:
        self.actors.pop(actor.run_id, None)
        self.deadlines.forget(actor.run_id)
        actor.deadline = None
        self.limits.ended(actor.run_id)
        self.children.ended(actor)

    # --- room

    def give_back(self, permit: Permit, count: int) -> None:
        self.dispatcher.give_back(permit, count)
        self.pump_offers()

    def pump_offers(self) -> None:
        if not self._pump_scheduled and self.dispatcher.anybody_waits:
            self._pump_scheduled = True
            self.after(0, self._offer)

    def _offer(self) -> None:
        self._pump_scheduled = False
        for offer in self.dispatcher.offers(self.clock.monotonic()):
            actor = self.actors.get(offer.run_id)
            permit = offer.permit
            if actor is None:
                self.give_back(permit, permit.count)
                continue
            message = SlotsOffered(self.clock.now(), offer.position, permit.session, permit.agent, permit.count)
            actor.post(Mail(message, permit=permit))

    # --- deadlines

    def watch_deadline(self, actor: Actor) -> None:
        self.deadlines.watch(actor)

    def queued_open_at(self, run: Run) -> int:
        return self.deadlines.queued_open_at(run)

    # --- failed appends

    def replace_actor(self, actor: Actor, turn: Turn, repeated: bool, unstorable: bool) -> None:
        self.actors.pop(actor.run_id, None)
        actor.deadline = None
        if turn.record.new_run is not None:
            self.limits.ended(actor.run_id)
            return
        self.rebuilding.add(actor.run_id)
        self.read_store(lambda: self._rebuilt(actor))

    def _rebuilt(self, old: Actor) -> None:
        self.rebuilding.discard(old.run_id)
        run = self.rebuild(old.run_id)
        if run.at_rest:
            old.run = run
            self.children.ended(old)
            self.children.cancel_given_up(run)
            self.give_up(old)
            return
        actor = self.raise_actor(old.run_id, self.store.runs[old.run_id], run)
        self.limits.readopt(actor)
        self.resume(actor, [duty for duty in resume(run) if not self.holds(actor, duty)])

    def holds(self, actor: Actor, command: Command) -> bool:
        if not isinstance(command, AwaitLease):
            return False
        lease = self.fleet.leases.find((actor.run_id, command.step, command.item))
        return lease is not None and lease.token == command.token

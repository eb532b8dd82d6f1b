"""The live runs of this coordinator, and everything that they share.

One object per coordinator: it makes actors, carries their commands to the agents, wakes them at their deadlines, and
makes them again from the journal when an append failed.
"""

from __future__ import annotations

import asyncio
import itertools
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import structlog

from penstock_coordinator.core.counts import Counts
from penstock_coordinator.core.counts.live import LiveCounts
from penstock_coordinator.core.dispatch.dispatcher import Dispatcher, Permit
from penstock_coordinator.core.dispatch.fairness import Fairness, RunShare
from penstock_coordinator.core.fleet.boots import Boots
from penstock_coordinator.core.plan.budget import NO_PRICES, Prices
from penstock_coordinator.core.plan.limits import DEFAULT_RUN_LIMITS, RunLimits
from penstock_coordinator.core.run.commands import (
    AcknowledgeResult,
    AckStatus,
    AskCache,
    AwaitLease,
    CallBackLease,
    CancelChild,
    ChildCommand,
    CloseRun,
    Command,
    ContinueRun,
    EndReservation,
    GrantLeases,
    KeepReservation,
    PauseChild,
    ResumeChild,
    StartChild,
    StopAttempt,
)
from penstock_coordinator.core.run.deadlines import next_deadline
from penstock_coordinator.core.run.events import CacheMode
from penstock_coordinator.core.run.messages import (
    AttemptEnded,
    CacheAnswer,
    ChildRefused,
    ChildReported,
    ClockTick,
    Continue,
    ControlMessage,
    SlotsOffered,
    StartRun,
)
from penstock_coordinator.core.run.numbering import kept_number
from penstock_coordinator.core.run.state import Run
from penstock_coordinator.core.run.states import RunState
from penstock_coordinator.ports import (
    AppendOutcome,
    Clock,
    Fenced,
    Ids,
    NewRun,
    Origin,
    Repeated,
    RequestRow,
    RunId,
    Stores,
    Unavailable,
)
from penstock_coordinator.runtime.absent_runs import unknown
from penstock_coordinator.runtime.actor import Actor, Mail, Turn
from penstock_coordinator.runtime.admission import DEFAULT_BOUNDS, LOOK_AGAIN, Admission, Bounds
from penstock_coordinator.runtime.answers import Answer, Answers
from penstock_coordinator.runtime.arriving import Arrivals
from penstock_coordinator.runtime.artifact_rows import use_rows, work_of_run
from penstock_coordinator.runtime.aside import AsideRuns
from penstock_coordinator.runtime.budgets import Budgets
from penstock_coordinator.runtime.caching import CacheTiming, Caching
from penstock_coordinator.runtime.children import Children
from penstock_coordinator.runtime.credentials import Credentials, Keyring
from penstock_coordinator.runtime.deadlines import DeadlineClock
from penstock_coordinator.runtime.endings import Endings, Waiter
from penstock_coordinator.runtime.fleet import Fleet
from penstock_coordinator.runtime.grants import Granter, PreparedGrants
from penstock_coordinator.runtime.lane import Lane
from penstock_coordinator.runtime.limits import Limits
from penstock_coordinator.runtime.outcomes import accepted, start_answer
from penstock_coordinator.runtime.outputs import OutputCache
from penstock_coordinator.runtime.plans import PlanCache
from penstock_coordinator.runtime.possession import Possession
from penstock_coordinator.runtime.recovery import Reading, last_boots, recover_all
from penstock_coordinator.runtime.remaking import Remaking
from penstock_coordinator.runtime.results import ArtifactResults, ConfirmedObjects
from penstock_coordinator.runtime.run_keys import KeyTurns
from penstock_coordinator.runtime.session import Acknowledgement
from penstock_coordinator.runtime.spilled import SpilledValues
from penstock_coordinator.runtime.views import Overloaded, RunRequest, SetAside, Stopping
from penstock_coordinator.runtime.whereabouts import Whereabouts

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Sequence

    from penstock_coordinator.core.plan.model import Plan
    from penstock_coordinator.core.traces.ids import TraceContext
    from penstock_coordinator.ports import ChargeRow, Origin
    from penstock_coordinator.runtime.outcomes import StartAnswer
    from penstock_coordinator.runtime.traces import Traces

FAREWELL_SECONDS = 0.5
STOP_FAREWELL_SECONDS = 2.0
DRAIN_SECONDS = 10.0
"""How long a stop waits for the database; what is not committed then was never acknowledged."""

LATE_RUNS = 100
DEPTHS_KEPT = 15_000_000
"""Microseconds for which, at least, it is known how much mail a run had at the most."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Timing:
    """Spans in microseconds, sizes in bytes."""

    heartbeat_interval: int = 5_000_000
    lease_ttl: int = 30_000_000
    expiry_margin: int = 5_000_000
    accept_timeout: int = 10_000_000
    result_resend_interval: int = 5_000_000
    stop_grace: int = 10_000_000
    max_output_bytes: int = 256 * 1024
    inline_output_bytes: int = 0
    """Larger outputs go to the artifact store; 0: there is none that agents reach."""
    output_cache_bytes: int = 256 * 1024 * 1024
    max_live_runs: int = 100_000
    admission: Bounds = DEFAULT_BOUNDS
    commit_patience: int = 5_000_000
    """How long a caller waits for the database to confirm."""
    max_watchers: int = 5_000
    max_watchers_of_run: int = 1_000
    run_limits: RunLimits = DEFAULT_RUN_LIMITS
    prices: Prices = NO_PRICES
    cache: CacheTiming = field(default_factory=CacheTiming)


class Supervisor:
    def __init__(
        self,
        stores: Stores,
        clock: Clock,
        ids: Ids,
        coordinator_id: str,
        epoch: int,
        lanes: int,
        timing: Timing,
        on_fatal: Callable[[BaseException], None],
        fairness: Fairness | None = None,
        counts: Counts | None = None,
    ) -> None:
        """`counts`: of the process, which may own runs again and again."""
        self.counts = counts or Counts()
        self.live = LiveCounts()
        self.stores = stores
        self.clock = clock
        self.ids = ids
        self.coordinator_id = coordinator_id
        self.epoch = epoch
        self.timing = timing
        self.fairness = fairness or Fairness()
        self.dispatcher = Dispatcher(self.fairness.aging)
        self.outputs = OutputCache(timing.output_cache_bytes)
        self.plans = PlanCache(stores.pipelines)
        self.fleet = Fleet(self, timing)
        self.keyring = Keyring(stores.signing_keys, clock, ids)
        self.credentials = Credentials(self.keyring, self.fleet.leases)
        self.possession = Possession(stores.objects, stores.artifacts, self.keyring)
        self.limits = Limits(self)
        self.budgets = Budgets(self)
        self.admission = Admission(timing.admission, clock.monotonic, self.counts.refusals)
        self.patience = timing.commit_patience / 1e6
        """Seconds that a caller waits for a commit."""
        self.stopping = False
        self.traces: Traces | None = None
        """None: they are not configured. Set before the first run is here."""
        self._on_fatal = on_fatal
        self._lanes = [
            Lane(index, stores.journal, self._fenced, self.counts.commits, self.fleet.hurry) for index in range(lanes)
        ]
        self._actors: dict[RunId, Actor] = {}
        self.endings = Endings()
        self._renumbered: dict[RunId, Run] = {}
        """Runs at rest whose last lines may come late, and whose items have other numbers than their lines."""
        self.remaking = Remaking(self)
        self.set_aside = AsideRuns()
        self.arriving = Arrivals(self)
        """Runs that are this coordinator's by now, and have no actor yet."""
        self.whereabouts = Whereabouts(self)
        self.key_turns = KeyTurns()
        self.spilled = SpilledValues(stores.objects, timing.run_limits)
        self.confirmed = ConfirmedObjects()
        self.artifact_results = ArtifactResults(self)
        self._granter = Granter(self)
        self.children = Children(self)
        self.caching = Caching(self, timing.cache)
        self._boots = Boots()
        self._duties = self._duty_table()
        self._deadlines = DeadlineClock(self._tick, clock)
        self._began_at = clock.now()
        self._pump_scheduled = False
        self._turn_over_at = 0

    # --- runs

    def actor(self, run_id: RunId) -> Actor | None:
        return self._actors.get(run_id)

    def trace_id(self, run_id: RunId) -> str:
        """32 hex digits; empty of a run that does not live here."""
        actor = self._actors.get(run_id)
        return "" if actor is None else actor.trace_id

    def lost(self, run_id: RunId) -> bool:
        """Whether nobody looks after the run here: if it is live in the database, something went wrong."""
        return not self.stopping and run_id not in self.arriving and self.unattended(run_id)

    def unattended(self, run_id: RunId) -> bool:
        """Whether the run has no actor, and is not being made again after it had one."""
        return run_id not in self._actors and run_id not in self.remaking

    def kept_number(self, run_id: RunId, step: int, item: int, token: int) -> int:
        """The number under which the lines of the item that had the token are kept. Raises `LookupError`."""
        actor = self._actors.get(run_id)
        run = self._renumbered.get(run_id) if actor is None else actor.run
        return item if run is None else kept_number(run.numberings, step, item, token)

    @property
    def live_runs(self) -> int:
        return len(self._actors)

    def live_run_ids(self, most: int) -> list[RunId]:
        """Of those that came first."""
        return list(itertools.islice(self._actors, most))

    async def start_runs(self, requests: Sequence[RunRequest]) -> list[StartAnswer]:
        """Durable when it returns; in the order of the requests.

        Raises `Stopping`, and `Overloaded` or `Unavailable` if there is no room for all of them, or nothing can be
        committed now: then none is accepted. `Undecided` if the commit takes too long.
        """
        for request in requests:
            if request.plan.window_budget is not None:
                await self.budgets.look(request.plan)
        self.check_open(len(requests), min(request.origin.priority for request in requests))
        answers = Answers(len(requests))
        run_ids = [self._start(request, answers.part(number)) for number, request in enumerate(requests)]
        self.hurry()
        outcomes = await answers.all(self.patience)
        return [start_answer(run_id, outcome) for run_id, outcome in zip(run_ids, outcomes, strict=True)]

    def check_open(self, more: int, lowest_priority: int = 0) -> None:
        """Whether so many more runs are let in, the least of them with that priority."""
        if self.stopping:
            raise Stopping
        self.admission.check_runs(lowest_priority, more)
        if len(self._actors) + more > self.timing.max_live_runs:
            raise Overloaded(
                f"{len(self._actors):,} runs are live, {more:,} more are asked for, and the limit is"
                f" {self.timing.max_live_runs:,}: wait until some are at rest, or have the operator raise"
                " PENSTOCK_MAX_LIVE_RUNS",
                LOOK_AGAIN,
                "live runs",
            )
        if any(lane.full for lane in self._lanes):
            raise Overloaded("more is being written than the database takes", LOOK_AGAIN, "commits")

    async def start_child(self, run_id: RunId, request: RunRequest) -> None:
        """A run that is a step of another one: whoever has accepted that one has accepted this. Durable when it
        returns. Raises `Stopping`, `NotAccepted`."""
        await self.budgets.look(request.plan)
        if self.stopping:
            raise Stopping
        answer: asyncio.Future[AppendOutcome] = asyncio.get_running_loop().create_future()
        self._start(request, answer, run_id)
        (outcome,) = await asyncio.gather(answer, return_exceptions=True)
        accepted(run_id, outcome)

    async def inputs_for(self, actor: Actor, step: int, item: int) -> dict[str, bytes]:
        """The inputs of a step run as JSON, by name. Raises `UnresolvableInput`, `Unavailable`."""
        return await self._granter.inputs_for(actor, step, item)

    def tell(self, run_id: RunId, message: ChildReported | ChildRefused | CacheAnswer) -> None:
        """Nobody is told if the run is not here now: it asks again when it is."""
        actor = self._actors.get(run_id)
        if actor is not None:
            actor.post(Mail(message))

    def _start(self, request: RunRequest, answer: Answer, run_id: RunId = b"") -> RunId:
        run_id = run_id or self.ids.run_id()
        now = self.clock.now()
        new_run = NewRun(
            pipeline=request.version.pipeline,
            version_number=request.version.number,
            version_digest=request.version.digest,
            parameters=request.parameters,
            labels=request.labels,
            trace_context=request.trace_context,
            create_time=now,
            owner=self.coordinator_id,
            state=int(RunState.PENDING),
            origin=request.origin,
            only_if_newest=request.only_if_newest,
            uses=tuple(use_rows(work_of_run(request.plan), now, request.uses)) if request.uses else (),
        )
        share = self.share_of(request.origin, request.labels)
        run = Run(request.plan, run_id)
        actor = self.add(run_id, request.plan, run, request.parameters, request.trace_context, share, new_run)
        actor.origin = request.origin
        held, refused, over = self.budgets.begin(actor, request.parameters, now)
        row = None if request.request is None else RequestRow(request.request, run_id)
        actor.post(
            Mail(
                StartRun(now, request.parameters, held, refused, CacheMode(request.origin.cache), over),
                answer=answer,
                request=row,
                claim=request.claim,
            )
        )
        return run_id

    async def ask(self, run_id: RunId, message: ControlMessage, request: RequestRow | None) -> Repeated | None:
        """What a person wants of a run, read before everything else. Returns when the decision is committed; a run at
        rest is left as it is. A live one that has no actor here yet, or not any more, is `Stopping`.

        Raises `UnknownRun`, `Stopping`, `NotAccepted`, `SetAside`, `Undecided`, `Unavailable`, `Overloaded`.
        """
        actor = await self.live_actor(run_id)
        if actor is None:
            row = await self.stores.runs.get(run_id)
            if row is None:
                raise await unknown(self.stores, run_id)
            if not RunState(row.state).at_rest:
                raise Stopping
            return None
        self.check_control(actor)
        answers = Answers(1)
        actor.post_control(Mail(message, answer=answers.part(0), request=request))
        (outcome,) = await answers.all(self.patience)
        taken = accepted(run_id, outcome)
        return taken if isinstance(taken, Repeated) else None

    def check_control(self, actor: Actor) -> None:
        """Whether something may be asked of the run now. Raises `Unavailable` while nothing can be committed, and
        `Overloaded`."""
        self.admission.check_commits()
        if actor.besieged:
            raise Overloaded("too many callers want something of this run", LOOK_AGAIN, "mailbox")

    async def at_rest(self, run_id: RunId) -> None:
        """Returns when the run is at rest, or its coordinator stops. Raises `SetAside`."""
        await self._rebuilt(run_id)
        if run_id not in self._actors:
            return
        waiter = Waiter()
        self.endings.add(run_id, waiter)
        try:
            await waiter.take()
        finally:
            self.endings.remove(run_id, waiter)

    async def wait_many(self, run_ids: Sequence[RunId]) -> AsyncGenerator[list[RunId], None]:
        """Each of the runs when it is no longer live here: it is at rest, or it is to be looked for again. Ends with
        the last of them; if the coordinator stops, all of the rest come at once."""
        waiter = Waiter()
        left = set(run_ids)
        try:
            for run_id in run_ids:
                await self._rebuilt(run_id)
                if run_id in self._actors and not self.stopping:
                    self.endings.add(run_id, waiter)
                else:
                    waiter.tell((run_id,))
            while left:
                ended = await waiter.take()
                left.difference_update(ended)
                yield ended
        finally:
            for run_id in left:
                self.endings.remove(run_id, waiter)

    async def live_actor(self, run_id: RunId) -> Actor | None:
        if self.stopping:
            raise Stopping
        await self._rebuilt(run_id)
        return self._actors.get(run_id)

    async def _rebuilt(self, run_id: RunId) -> None:
        """Waits for a run that is being made again. Raises `SetAside`."""
        await self.remaking.made(run_id)
        if run_id in self.set_aside:
            raise SetAside(run_id, self.set_aside[run_id])

    def add(
        self,
        run_id: RunId,
        plan: Plan,
        run: Run,
        parameters: bytes,
        trace_context: TraceContext,
        share: RunShare,
        new_run: NewRun | None = None,
    ) -> Actor:
        """An actor for a run that has none; `new_run` if the journal does not know it yet."""
        lane = self._lanes[int.from_bytes(run_id[-4:], "big") % len(self._lanes)]
        actor = Actor(self, lane, run_id, plan, run, parameters, trace_context, share, new_run)
        self._actors[run_id] = actor
        self.live.enter(run)
        if self.traces is not None and self.traces.samples(run_id, trace_context):
            actor.sampled = True
        if run.started_at is None or run.at_rest:
            actor.unbegun = True
            self.admission.waits()
        return actor

    def _drop(self, actor: Actor) -> None:
        """Nothing is decided by it any more."""
        if self._actors.pop(actor.run_id, None) is not None:
            self.live.leave(actor.run)

    def begun(self, actor: Actor) -> None:
        """The run does not wait to begin any more: something of it has, or it is not looked after any longer."""
        if actor.unbegun:
            actor.unbegun = False
            self.admission.begun()

    def hurry(self) -> None:
        """To be called last of a callback that gave runs mail: their turns need not wait for the loop to come round."""
        for lane in self._lanes:
            lane.hurry()

    @property
    def lanes(self) -> list[Lane]:
        return self._lanes

    def share_of(self, origin: Origin, labels: Sequence[tuple[str, str]]) -> RunShare:
        """How a run stands among others that wait for the same agents."""
        return self.fairness.share(origin.priority, origin.weight, dict(labels))

    def adopt(self, actor: Actor, duties: list[Command]) -> None:
        """A run that was read from the journal goes on: first its leases are known again, then the rest is done."""
        self.budgets.adopt(actor)
        self.execute(actor, sorted(duties, key=lambda duty: not isinstance(duty, AwaitLease)))
        self.watch_deadline(actor)
        actor.lane.schedule(actor)

    def recovered(self, actor: Actor) -> None:
        """It goes on with a run that another coordinator had, or this one before it was started again."""
        if self.traces is not None:
            self.traces.recovered(actor, self.clock.now())

    def note_traced(self, run_id: RunId) -> None:
        """Something of a sampled run is committed."""
        if self.traces is not None:
            self.traces.note(run_id)

    def note_charge(self, charge: ChargeRow) -> None:
        """To the budget of a pipeline; it is committed."""
        self.budgets.changed(charge.pipeline)

    # --- commands

    def execute(self, actor: Actor, commands: list[Command]) -> None:
        """Do what committed events ask for. Each duty is idempotent."""
        for command in commands:
            self._duties[type(command)](actor, command)

    def prepare(self, actor: Actor, commands: list[Command]) -> PreparedGrants | None:
        """What can be made ready of the commands before it is known that they are to be executed."""
        prepared: PreparedGrants | None = None
        for command in commands:
            if type(command) is GrantLeases:
                prepared = (prepared or {}) | self._granter.prepare(actor, command)
        return prepared

    def execute_prepared(self, actor: Actor, commands: list[Command], grants: PreparedGrants) -> None:
        """As `execute`, of commands that were prepared."""
        for command in commands:
            if type(command) is GrantLeases:
                self._granter.grant(actor, command, grants)
            else:
                self._duties[type(command)](actor, command)

    def _duty_table(self) -> dict[type[Command], Callable[[Actor, Any], None]]:
        """What is done for each kind of command."""

        def steer(actor: Actor, command: ChildCommand) -> None:
            self.children.execute(actor.run_id, command)

        return {
            GrantLeases: self._granter.grant,
            AcknowledgeResult: self._acknowledge,
            StopAttempt: self.fleet.stop,
            CallBackLease: self.fleet.call_back,
            StartChild: steer,
            CancelChild: steer,
            PauseChild: steer,
            ResumeChild: steer,
            AskCache: self.caching.ask,
            KeepReservation: self.caching.keep,
            EndReservation: self.caching.end,
            ContinueRun: lambda actor, _: actor.post(Mail(Continue(self.clock.now()))),
            CloseRun: lambda actor, _: self._close(actor),
            AwaitLease: lambda actor, command: self.fleet.await_lease(
                actor, command, self._boots.of(command.agent, command.session)
            ),
        }

    def _acknowledge(self, actor: Actor, command: AcknowledgeResult) -> None:
        key = (actor.run_id, command.step, command.item)
        self.fleet.leasing.end(key, command.token)
        session, status = self.fleet.session(command.session), command.status
        if status is AckStatus.COMMITTED:
            self.fleet.settled(command.result_id)
        if session is not None:
            if status is AckStatus.STALE:
                status = self.fleet.status_of_late(session, command.result_id)
            session.acknowledge(Acknowledgement(key, command.token, command.result_id, int(status), command.reason))

    def _close(self, actor: Actor) -> None:
        """The run is at rest: nobody needs its actor any more. If it is: a new generation may have begun since."""
        if actor.run.at_rest:
            self.give_up(actor)

    def give_up(self, actor: Actor) -> None:
        """The run is at rest, or nothing will be decided about it."""
        self._drop(actor)
        self.set_aside.forget_crashes(actor.run_id)
        self.begun(actor)
        self._deadlines.forget(actor)
        self.limits.ended(actor.run_id)
        self.children.ended(actor)
        if actor.run.numberings:
            self._renumbered[actor.run_id] = actor.run
            if len(self._renumbered) > LATE_RUNS:
                del self._renumbered[next(iter(self._renumbered))]
        for watcher in actor.watchers:
            watcher.close()
        self.endings.ended(actor.run_id)

    # --- results

    def deliver(self, run_id: RunId, message: AttemptEnded) -> bool:
        """Hand a result to its run. False if the run is not live here: then it can only be an old one.

        A run that arrives, is being made again, is set aside, or has a full mailbox takes nothing; the agent keeps the
        result and sends it again. So it does for a run that is not here because it was not made again before the stop:
        the next coordinator tells.
        """
        actor = self._actors.get(run_id)
        if actor is None:
            being_made = run_id in self.remaking or run_id in self.arriving
            return self.stopping or being_made or run_id in self.set_aside
        if not actor.full:
            actor.post(Mail(message))
        return True

    # --- room

    def give_back(self, permit: Permit, count: int) -> None:
        self.dispatcher.give_back(permit, count)
        self.pump_offers()

    def pump_offers(self) -> None:
        """Offer free room to those who wait, once the current callback is done."""
        if not self._pump_scheduled and self.dispatcher.anybody_waits:
            self._pump_scheduled = True
            asyncio.get_running_loop().call_soon(self._offer)

    def _offer(self) -> None:
        self._pump_scheduled = False
        for offer in self.dispatcher.offers(self.clock.monotonic()):
            actor = self._actors.get(offer.run_id)
            permit = offer.permit
            if actor is None:
                self.give_back(permit, permit.count)
                continue
            message = SlotsOffered(self.clock.now(), offer.position, permit.session, permit.agent, permit.count)
            actor.post(Mail(message, permit=permit))

    # --- deadlines

    def watch_deadline(self, actor: Actor) -> None:
        """The run may have another next deadline than before."""
        run = actor.run
        if run.timers or run.queued_timers:
            self._deadlines.watch(actor, next_deadline(run, self.queued_open_at(run)))
        elif actor.deadline is not None:
            self._deadlines.forget(actor)

    def _tick(self, actor: Actor) -> None:
        actor.post_control(Mail(ClockTick(self.clock.now(), self.queued_open_at(actor.run))))

    def queued_open_at(self, run: Run) -> int:
        """Until then queued clocks stand still: after a restart the agents need time to come back to their runs, and so
        they do to those that were another coordinator's. A run that began here never lost them."""
        since = self.arriving.arrived_at(run.run_id)
        if not since and (run.created_at is None or run.created_at >= self._began_at):
            return 0
        return (since or self._began_at) + self.timing.lease_ttl + self.timing.expiry_margin

    # --- failed appends

    def replace_actor(self, actor: Actor, turn: Turn, repeated: bool, unstorable: bool) -> None:
        """The actor's state is not the journal's any more: make it again. A run that was never stored just goes."""
        self.remaking.after_append(actor, turn, repeated=repeated, unstorable=unstorable)

    def replace_crashed(self, actor: Actor, error: Exception) -> None:
        """A rule raised. The message that did it is dropped; whoever sent it will come again."""
        self.remaking.after_crash(actor, error)

    def let_go(self, actor: Actor) -> None:
        """Nothing is decided by it any more; what the run holds it keeps."""
        self._drop(actor)
        self.begun(actor)
        self._deadlines.forget(actor)

    def holds(self, actor: Actor, command: Command) -> bool:
        """Whether the duty is to wait for a lease that is known already."""
        if not isinstance(command, AwaitLease):
            return False
        lease = self.fleet.leases.find((actor.run_id, command.step, command.item))
        return lease is not None and lease.token == command.token

    # --- start and stop

    async def recover(self, read: Reading | None = None) -> int:
        """Bring every live run of this coordinator back. Returns how many there are. `read`: what was read of them
        before."""
        if read is not None:
            self.plans.take(read.plans)
        await asyncio.gather(self.keyring.load(), self.look_at_boots())
        count = await recover_all(self, read)
        self.caching.open()
        return count

    async def adopt_runs(self, run_ids: Iterable[RunId]) -> int:
        """Bring live runs back that are this coordinator's from now on, while its others go on; how many. Waits for a
        database that is away, as long as this coordinator does not stop. Idempotent."""
        return await self.arriving.adopt(run_ids)

    async def look_at_boots(self) -> None:
        """Which process of an agent had which session: to be known before runs are adopted. Raises `Unavailable`."""
        self._boots = await last_boots(self.stores.agents)

    def run_periodic(self) -> None:
        """Once in a while: leases that ran out or were not accepted, streams that fell silent."""
        self.fleet.run_periodic()
        self.caching.run_periodic()
        self.budgets.run_periodic()
        self._turn_over_live()

    def _turn_over_live(self) -> None:
        now = self.clock.monotonic()
        if now >= self._turn_over_at:
            self._turn_over_at = now + DEPTHS_KEPT
            self.live.turn_over()

    async def look_at_fence(self) -> None:
        """Step down if a newer incarnation was made. Appends would tell, but one that has nothing to write would keep
        its agents from the newer one for ever. Raises `Unavailable`."""
        asked = self.fleet.standing.ask()
        try:
            current = await self.stores.incarnations.is_current(self.coordinator_id, self.epoch)
        except Unavailable:
            self.fleet.missed_database()
            raise
        self.fleet.found_database()
        self.fleet.awake()
        if not current:
            self._fenced(Fenced(f"epoch {self.epoch} of {self.coordinator_id} is over"))
        else:
            self.fleet.standing.confirm(asked)

    def own_until(self, ends_at: int | None) -> None:
        """When the ownership lease runs out (by the clock), if it is not renewed; None: it does not. To be told after
        each renewal."""
        self.fleet.standing.ends_at = ends_at

    def step_down(self, error: BaseException) -> None:
        """Nothing is appended, acknowledged or granted any more from here on: another coordinator may do so."""
        if not self.stopping:
            self._fenced(error)

    def _fenced(self, error: BaseException) -> None:
        """A lane cannot go on: another incarnation writes for this coordinator, or the journal broke."""
        self.stopping = True
        self.fleet.fall_silent()
        self._discard_all()
        self._on_fatal(error)

    def _discard_all(self) -> None:
        """Nothing is decided any more, and whoever waits for a decision is told so."""
        for actor in self._actors.values():
            actor.discard()
            for watcher in actor.watchers:
                watcher.close()
        self.endings.end_all()

    async def stop(self) -> None:
        """Accept nothing more, commit what is decided, let go of the agents. Runs go on after the next start."""
        self.stopping = True
        await self.fleet.close_all("shutdown", STOP_FAREWELL_SECONDS)
        await self._drain()
        await self._close_services()

    async def hand_over(self, address: str, release: Callable[[], Awaitable[None]]) -> None:
        """As `stop`, but agents are sent to that address, and nobody waits for them to go: `release` is awaited as soon
        as what is decided is committed, and nothing is decided any more. Without an address they are told to look for
        the owner: nobody is known to have the runs next."""
        self.stopping = True
        if address:
            self.fleet.send_on(address)
        else:
            await self.fleet.close_all("not_the_leader", patience=0.0)
        await self._drain()
        self._discard_all()
        log.info("handed_over", epoch=self.epoch, address=address)
        await release()
        await self.fleet.gone(STOP_FAREWELL_SECONDS)
        await self._close_services()

    async def _drain(self) -> None:
        draining = {asyncio.create_task(lane.drain()) for lane in self._lanes}
        _, late = await asyncio.wait(draining, timeout=DRAIN_SECONDS)
        for task in late:
            task.cancel()

    async def abandon(self) -> None:
        """After `step_down`: let go of the agents. What is decided and not committed the next owner decides anew."""
        await self.fleet.close_all("not_the_leader", patience=FAREWELL_SECONDS)
        await self._close_services()

    async def _close_services(self) -> None:
        self._deadlines.close()
        self.children.close()
        self.caching.close()
        self.budgets.close()
        self.artifact_results.close()
        for lane in self._lanes:
            await lane.close()
        self._discard_all()

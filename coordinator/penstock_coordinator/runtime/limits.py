"""Limits on concurrency, put to work: places are asked for, taken and let go as runs start, lease and end.

Places are taken when a turn decides, and let go when what ends them is committed: never does a journal tell of more
holders than the limit. A coordinator that starts takes them from the journals of its live runs, before anything is
placed.
"""

from __future__ import annotations

import json
import uuid
from typing import TYPE_CHECKING

from penstock_coordinator.core.dispatch.limits import Claim, Claimant, Hold, RunLimits, StepLimits
from penstock_coordinator.core.plan.keys import BUDGET_SUFFIX, PIPELINE_PREFIX, key_or_source
from penstock_coordinator.core.plan.model import Policy
from penstock_coordinator.core.run import events as e
from penstock_coordinator.core.run.explain.situations import KeyHolder, KeySituation
from penstock_coordinator.core.run.messages import AdmitRun, CancelRun, DisplaceReady, DisplaceStep
from penstock_coordinator.core.run.states import RunState
from penstock_coordinator.runtime.actor import Mail

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from penstock_coordinator.core.plan.model import Plan
    from penstock_coordinator.core.run.state import Run
    from penstock_coordinator.ports import RunId
    from penstock_coordinator.runtime.actor import Actor
    from penstock_coordinator.runtime.supervisor import Supervisor

NAMED_HOLDERS = 10
_ENDINGS = e.StepCompleted | e.AttemptFailed | e.LeaseLost | e.StepFailed | e.StepCancelled


class Limits:
    """All keys of this coordinator."""

    def __init__(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor
        self._runs = RunLimits()
        self._steps = StepLimits()
        self._cancelled: dict[RunId, str] = {}
        """Runs that are being cancelled for others, and why."""

    # --- runs

    def ask(self, actor: Actor, parameters: bytes, now: int) -> tuple[tuple[str, int] | None, str]:
        """A new run, or one that is opened again, asks for its places: what it is held by, or why it is refused. To be
        told in the run's first message, and taken back by `ended` if that is not stored."""
        claims = self._claims(actor, parameters)
        if not claims:
            return None, ""
        verdict = self._runs.ask(actor.run_id, claims, actor.share.priority, now)
        self._pass_on()
        if verdict.refused is not None:
            return None, self._why_refused(verdict.refused)
        actor.limited = True
        held = verdict.held
        return (None, "") if held is None else ((held.key, held.limit), "")

    def _claims(self, actor: Actor, parameters: bytes) -> tuple[Claim, ...]:
        """A key that a run above has is not asked for again, for that run waits for this one: they would wait for each
        other for ever. Its place is handed to one run below it at a time."""
        claims = run_claims(actor.plan, parameters)
        if not claims or actor.origin.parent is None:
            return claims
        above = {claim.key: run_id for run_id, claim in reversed(self._above(actor))}
        return tuple(
            Claim(key_below(claim.key, above[claim.key]), 1, claim.policy) if claim.key in above else claim
            for claim in claims
        )

    def _above(self, actor: Actor) -> list[tuple[RunId, Claim]]:
        """What the live runs above need places under, the nearest first."""
        found: list[tuple[RunId, Claim]] = []
        origin = actor.origin
        while origin.parent is not None and (above := self._supervisor.actor(origin.parent.run_id)) is not None:
            found += [(above.run_id, claim) for claim in run_claims(above.plan, above.run.parameters)]
            origin = above.origin
        return found

    def _why_refused(self, claim: Claim) -> str:
        holders = ", ".join(str(uuid.UUID(bytes=run)) for run in self._runs.holders(claim.key)[:3])
        return f'the limit of {claim.limit} under the key "{claim.key}" is reached: {holders} has it'

    def knows(self, run_id: RunId) -> bool:
        """Whether the run has asked for its places."""
        return self._runs.knows(run_id)

    def started(self, actor: Actor) -> None:
        """The run is in the journal: those that are to make place for it may be cancelled."""
        for run in self._runs.overdue(actor.run_id):
            self._cancelled[run] = f"cancelled for the newer run {uuid.UUID(bytes=actor.run_id)}, which shares its key"
            self._cancel(run)

    def _cancel(self, run: RunId) -> None:
        """But not one that is rolled back: it leaves its place when what it did is undone."""
        victim = self._supervisor.actor(run)
        if victim is not None and victim.run.undoing is None:
            now = self._supervisor.clock.now()
            victim.post_control(Mail(CancelRun(now, False, self._cancelled[run])))

    def going(self, run_id: RunId) -> None:
        """The run is being cancelled."""
        self._runs.going(run_id)

    def ended(self, run_id: RunId) -> None:
        """The run is at rest, or never came to be."""
        self._cancelled.pop(run_id, None)
        self._runs.leave(run_id)
        self._steps.leave(run_id, holds=True)
        self._pass_on()

    def discarded(self, run_id: RunId) -> None:
        """The actor is thrown away. What the run holds it keeps until it is known what is in the journal."""
        self._steps.leave(run_id, holds=False)
        self._pass_on()

    def _pass_on(self) -> None:
        """Tell those that have a place now."""
        while self._runs.admitted:
            actor = self._supervisor.actor(self._runs.admitted.pop(0))
            if actor is not None:
                actor.post_control(Mail(AdmitRun(self._supervisor.clock.now())))
        while self._steps.called:
            run = self._steps.called.pop()
            actor = self._supervisor.actor(run)
            if actor is not None:
                actor.lane.schedule(actor)
            else:
                self._steps.leave(run, holds=False)

    # --- recovery

    def restore(self, actors: Iterable[Actor]) -> None:
        """What the journals say, of all live runs; then admit whom there is a place for."""
        known = sorted(actors, key=lambda actor: (actor.run.created_at or 0, actor.run_id))
        for actor in known:
            self._restore_run(actor)
        leased = [
            (active.leased_at or 0, actor, active)
            for actor in known
            if actor.plan.limited
            for active in actor.run.leased()
        ]
        for _, actor, active in sorted(leased, key=lambda each: each[0]):
            claim = self.step_claim(actor, actor.plan.steps[active.step].line)
            if claim is not None:
                hold = Hold(actor.run_id, active.step, active.item)
                self._steps.hold(claim, hold, active.displaced is not None)
        self._runs.settle()
        self._pass_on()
        for actor in known:
            if actor.run.held is not None and actor.limited:
                self.started(actor)

    def _restore_run(self, actor: Actor) -> None:
        run = actor.run
        claims = self._claims(actor, run.parameters)
        if claims and not waits_for_budget(run):
            actor.limited = True
            leaving = run.state is RunState.CANCELLING
            priority, began = actor.share.priority, run.created_at or 0
            self._runs.restore(actor.run_id, claims, priority, began, run.held is not None, leaving)

    def readopt(self, actor: Actor) -> None:
        """An actor was made again from the journal, while the others went on."""
        run_id, run = actor.run_id, actor.run
        actor.limited = self._runs.knows(run_id) and bool(run_claims(actor.plan, run.parameters))
        if run.held is not None and actor.limited and self._runs.lacks(run_id) is None:
            actor.post_control(Mail(AdmitRun(self._supervisor.clock.now())))
        if run_id in self._cancelled and run.state is not RunState.CANCELLING:
            self._cancel(run_id)
        if actor.plan.limited:
            self._restore_holds(actor)
        self._pass_on()

    def adopt(self, actors: Sequence[Actor]) -> None:
        """As `readopt`, of runs that may never have been known here."""
        before = {actor.run_id for actor in actors if self._runs.knows(actor.run_id)}
        self.restore(actor for actor in actors if actor.run_id not in before)
        for actor in actors:
            if actor.run_id in before:
                self.readopt(actor)

    def _restore_holds(self, actor: Actor) -> None:
        wanted = {Hold(actor.run_id, active.step, active.item): active for active in actor.run.leased()}
        for hold, key in self._steps.held(actor.run_id).items():
            if hold not in wanted:
                self._steps.release(key, hold)
        for hold, active in wanted.items():
            claim = self.step_claim(actor, actor.plan.steps[hold.step].line)
            if claim is not None:
                self._steps.hold(claim, hold, active.displaced is not None)

    # --- steps

    def gate(self, actor: Actor) -> Gate | None:
        """None if no step of the run shares a key."""
        return Gate(self, self._steps, actor) if actor.plan.limited else None

    @staticmethod
    def step_claim(actor: Actor, position: int) -> Claim | None:
        concurrency = actor.plan.limited.get(actor.run.plan_line(position))
        if concurrency is None:
            return None
        key = actor.run.limit_key(position)
        assert key is not None
        return Claim(key, concurrency.limit, concurrency.policy)

    def displace(self, key: str, by: Actor) -> None:
        """Those that are to make place for step runs of `by`."""
        now, name = self._supervisor.clock.now(), str(uuid.UUID(bytes=by.run_id))
        for hold in self._steps.overdue(key):
            actor = self._supervisor.actor(hold.run)
            if actor is not None:
                actor.post_control(Mail(DisplaceStep(now, hold.step, hold.item, key, name)))

    def call(self) -> None:
        self._pass_on()

    # --- what a reader asks

    def situation_of_run(self, actor: Actor) -> KeySituation | None:
        """The limit that keeps the run from beginning."""
        claim = self._runs.lacks(actor.run_id) if actor.run.held is not None else None
        if claim is None:
            return None
        holders = tuple(KeyHolder(str(uuid.UUID(bytes=run))) for run in self._runs.holders(claim.key)[:NAMED_HOLDERS])
        ahead = self._runs.ahead(actor.run_id, claim.key)
        return KeySituation(claim.key, self._runs.limit(claim.key), holders, ahead)

    def situation_of_steps(self, actor: Actor, position: int) -> KeySituation | None:
        """The limit that keeps step runs at the position from being leased."""
        claim = self.step_claim(actor, position)
        claimant = Claimant(actor.run_id, position)
        if claim is None or not self._steps.blocked(claimant, claim.key):
            return None
        holders = tuple(self._named(hold) for hold in self._steps.holders(claim.key)[:NAMED_HOLDERS])
        ahead = self._steps.ahead(claimant, claim.key)
        return KeySituation(claim.key, self._steps.limit(claim.key), holders, ahead)

    def _named(self, hold: Hold) -> KeyHolder:
        actor = self._supervisor.actor(hold.run)
        step = "" if actor is None else actor.run.display_name(hold.step, hold.item)
        return KeyHolder(str(uuid.UUID(bytes=hold.run)), step)


class Gate:
    """The way of one run to places for its step runs."""

    def __init__(self, limits: Limits, steps: StepLimits, actor: Actor) -> None:
        self._limits = limits
        self._steps = steps
        self._actor = actor
        self._pressing: set[str] = set()
        """Keys for whose sake holders are to be displaced, once it is committed that their place is wanted."""
        self.waiting: set[int] = set()
        """Positions that wait for a place, or for agents with a place."""

    def room(self, position: int, want: int) -> int:
        """How many step runs of the position may be leased now. None of a run that the journal does not know: its start
        may yet turn out to be a repetition."""
        claim = self._limits.step_claim(self._actor, position)
        if claim is None:
            return want
        if not self._actor.committed_seq:
            return 0
        return min(want, self._steps.open(self._claimant(position), claim))

    def take(self, position: int, leases: Iterable[tuple[int, int, int]]) -> None:
        """These step runs were leased."""
        claim = self._limits.step_claim(self._actor, position)
        if claim is None:
            return
        for step, item, _ in leases:
            self._steps.take(claim.key, self._claimant(position), Hold(self._actor.run_id, step, item))

    def wait(self, position: int, wanted: int, now: int) -> tuple[int, DisplaceReady | None]:
        """The end of a turn, with so many step runs that found no room: how many of them wait for agents; and what
        becomes of the others, if they are not to wait for a place."""
        claim = self._limits.step_claim(self._actor, position)
        if claim is None or not self._actor.committed_seq:
            return (wanted if claim is None else 0), None
        priority = self._actor.share.priority + self._actor.plan.priorities[self._actor.run.plan_line(position)]
        declared = self._steps.wait(self._claimant(position), claim, wanted, priority, now)
        (self.waiting.add if wanted else self.waiting.discard)(position)
        if wanted and not declared:
            if claim.policy is Policy.CANCEL_NEWEST:
                return 0, DisplaceReady(now, position, claim.key, self._holder(claim.key))
            if claim.policy is Policy.CANCEL_OLDEST:
                self._pressing.add(claim.key)
        return declared, None

    def committed(self, events: Iterable[tuple[int, e.Event]]) -> None:
        """What a turn decided is in the journal: let go of what ended."""
        for _, event in events:
            if isinstance(event, _ENDINGS):
                self._let_go(event.step, event.item)
        self.press()

    def press(self) -> None:
        """Have holders displaced for what waits."""
        while self._pressing:
            self._limits.displace(self._pressing.pop(), self._actor)
        self._limits.call()

    def _let_go(self, step: int, item: int) -> None:
        claim = self._limits.step_claim(self._actor, self._actor.plan.steps[step].line)
        # It may hold a lease again, by a later turn.
        if claim is not None and not self._actor.run.holds_place(step, item):
            self._steps.release(claim.key, Hold(self._actor.run_id, step, item))

    def _claimant(self, position: int) -> Claimant:
        return Claimant(self._actor.run_id, position)

    def _holder(self, key: str) -> str:
        holders = self._steps.holders(key)
        return str(uuid.UUID(bytes=holders[0].run)) if holders else ""


def key_below(key: str, run_id: RunId) -> str:
    """Of those that share the place that the run has under the key."""
    return f"{key} (below {uuid.UUID(bytes=run_id)})"


def budget_key(pipeline: str) -> str:
    """Of a run that waits for what is left of its pipeline's budget: it asks for its places after that."""
    return PIPELINE_PREFIX + pipeline + BUDGET_SUFFIX


def waits_for_budget(run: Run) -> bool:
    return run.held is not None and run.held.key == budget_key(run.plan.pipeline)


def run_claims(plan: Plan, parameters: bytes) -> tuple[Claim, ...]:
    """The places that a run with these parameters needs. The keys were checked when it was asked for."""
    claims: list[Claim] = []
    if plan.max_active_runs:
        claims.append(Claim(PIPELINE_PREFIX + plan.pipeline, plan.max_active_runs))
    concurrency = plan.concurrency
    if concurrency is not None:
        values = {} if isinstance(concurrency.key, str) else json.loads(parameters)
        claims.append(Claim(key_or_source(concurrency, values), concurrency.limit, concurrency.policy))
    return tuple(claims)

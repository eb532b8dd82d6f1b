"""New generations of runs: a run at rest is read from its journal and comes alive again."""

from __future__ import annotations

import asyncio
import struct
import uuid
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from msgspec.structs import replace

from penstock_coordinator.core.run.messages import RenewingMessage
from penstock_coordinator.core.run.resets import NotPossible, Reset
from penstock_coordinator.core.run.rules.reopening import plan_after, reset_for, undoes
from penstock_coordinator.core.run.states import RunState, StepState
from penstock_coordinator.ports import KeyClaim, KeyTaken, Repeated, RequestKey, RequestRow
from penstock_coordinator.runtime.absent_runs import unknown
from penstock_coordinator.runtime.actor import Mail
from penstock_coordinator.runtime.answers import Answers
from penstock_coordinator.runtime.history import rebuild
from penstock_coordinator.runtime.outcomes import accepted
from penstock_coordinator.runtime.renewing import Renewer
from penstock_coordinator.runtime.supervisor import Supervisor
from penstock_coordinator.runtime.views import Stopping

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from penstock_coordinator.core.plan.model import Plan
    from penstock_coordinator.core.run.messages import ReopenMessage
    from penstock_coordinator.core.run.state import Run
    from penstock_coordinator.ports import RunId, RunRow
    from penstock_coordinator.runtime.actor import Actor

_COUNTS = struct.Struct(">III")
_COUNTS_OF_STEPS = struct.Struct(">II")
"""As former releases remembered them."""
_ID_BYTES = 16


@dataclass(frozen=True, slots=True)
class Reopened:
    """What became of the steps of a run; a mapped one counts as one."""

    kept: int
    """Steps that stay COMPLETED."""
    reset: int
    """Steps that run again."""
    kept_runs: int
    """Step runs that stay COMPLETED: of a mapped step each item counts, also if others run again."""

    @property
    def packed(self) -> bytes:
        return _COUNTS.pack(self.kept, self.reset, self.kept_runs)


class Reopener:
    def __init__(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor
        self._busy: dict[RunId, asyncio.Event] = {}
        stores = supervisor.stores
        self._renewer = Renewer(stores.pipelines, stores.runs, supervisor.plans, supervisor.spilled)

    async def reopen(
        self, run_id: RunId, message: ReopenMessage, request: RequestKey | None, version: int | None = None
    ) -> Reopened | Repeated:
        """Durable when it returns; the same for the same request. Of two that come together one wins. Repeated if the
        request came before with other content. A retry or a rollback may go on with the `version` of that number, or
        NEWEST.

        Raises `UnknownRun`, `UnknownVersion`, `NotPossible`, `Overloaded`, `Stopping`, `NotAccepted`, `Undecided`.
        """

        async def as_given() -> ReopenMessage:
            return message

        return await self.reopen_as(run_id, as_given, request, version)

    async def reopen_as(
        self,
        run_id: RunId,
        wanted: Callable[[], Awaitable[ReopenMessage]],
        request: RequestKey | None,
        version: int | None = None,
    ) -> Reopened | Repeated:
        """As `reopen`, with what is wanted looked up in the turn: no other reopening comes between the look and the
        decision. It is not asked for if the request came before; what it raises, this raises."""
        async with self.turn(run_id):
            first = await self.first_answer(request)
            return first if first is not None else await self._reopen(run_id, await wanted(), request, version)

    @asynccontextmanager
    async def turn(self, run_id: RunId) -> AsyncIterator[None]:
        """Nobody else opens a new generation of the run meanwhile, or purges its letters."""
        while (busy := self._busy.get(run_id)) is not None:
            await busy.wait()
        done = self._busy[run_id] = asyncio.Event()
        try:
            yield
        finally:
            del self._busy[run_id]
            done.set()

    async def first_answer(self, request: RequestKey | None) -> Reopened | Repeated | None:
        """What the same request was answered before; Repeated if that had other content."""
        if request is None:
            return None
        row = await self._supervisor.stores.runs.find_request(request.scope, request.method, request.id)
        if row is None:
            return None
        return _answered(Repeated(row.key.digest == request.digest, row.answer))

    async def _reopen(
        self, run_id: RunId, message: ReopenMessage, request: RequestKey | None, version: int | None
    ) -> Reopened | Repeated:
        supervisor = self._supervisor
        actor = await supervisor.live_actor(run_id)
        if actor is not None and actor.run.at_rest:
            await supervisor.at_rest(run_id)
            actor = await supervisor.live_actor(run_id)
        if actor is not None:
            supervisor.check_control(actor)
            reset = reset_for(actor.run, message)
            return await self._ask(actor, message, reset, request, None)
        if supervisor.whereabouts.head_epoch:
            raise Stopping  # Runs at rest are the head's, which finds it so when it looks again.
        row = await supervisor.stores.runs.get(run_id)
        if row is None:
            raise await unknown(supervisor.stores, run_id)
        claim = _claim(row)
        async with supervisor.key_turns.hold([claim] if claim else []):
            run = await self._folded(row)
            number = None
            if version is not None and isinstance(message, RenewingMessage):
                wanted = await self._renewer.version(row.pipeline, version)
                if wanted.digest != row.version_digest:
                    message, number = await self._renewer.prepared(run, message, wanted), wanted.number
                    self._check_at_rest(run)
            plan = plan_after(run, message)
            if plan.window_budget is not None:
                await supervisor.budgets.look(plan)
                self._check_at_rest(run)
            reset = reset_for(run, message)
            actor, message = self._raise(row, run, message)
            actor.version_number = number
            return await self._ask(actor, message, reset, request, claim)

    async def _folded(self, row: RunRow) -> Run:
        """As its journal says. Raises `Stopping` if it is live after all."""
        supervisor = self._supervisor
        if (
            supervisor.whereabouts.several
            and not RunState(row.state).at_rest
            and row.owner != supervisor.coordinator_id
        ):
            raise NotPossible(f'the run is live, at the coordinator "{row.owner}": wait, or cancel it first')
        if row.owner != supervisor.coordinator_id and not await supervisor.stores.incarnations.take_over_run(
            row.run_id, supervisor.epoch
        ):
            raise NotPossible(f'the run is that of the coordinator "{row.owner}", which alone can open it again')
        run = await rebuild(supervisor.stores.journal, supervisor.plans, row.run_id)
        if run is None:  # removed since its row was read
            raise await unknown(supervisor.stores, row.run_id)
        self._check_at_rest(run)
        return run

    def _check_at_rest(self, run: Run) -> None:
        """Raises `Stopping`, `Overloaded`, `Unavailable`."""
        supervisor = self._supervisor
        supervisor.check_open(1)
        if not run.at_rest or supervisor.actor(run.run_id) is not None:
            raise Stopping

    def _raise(self, row: RunRow, run: Run, message: ReopenMessage) -> tuple[Actor, ReopenMessage]:
        """An actor for the run, which asks for its places under limits on runs as a new one does."""
        supervisor = self._supervisor
        share = supervisor.share_of(row.origin, row.labels)
        parameters = message.parameters if isinstance(message, RenewingMessage) else b""
        parameters, plan = parameters or run.parameters, plan_after(run, message)
        actor = supervisor.add(row.run_id, plan, run, parameters, row.trace_context, share)
        actor.origin = row.origin
        if undoes(run, message):
            held, refused = supervisor.limits.ask(actor, parameters, message.now)
        else:
            held, refused, over = supervisor.budgets.begin(actor, parameters, message.now)
            if over:
                supervisor.give_up(actor)
                raise NotPossible(f"{over}: wait for the next one, or raise it")
        if refused:
            supervisor.give_up(actor)
            raise NotPossible(f"{refused}: wait for its end, or cancel it")
        return actor, replace(message, held=held)

    async def _ask(
        self, actor: Actor, message: ReopenMessage, reset: Reset, request: RequestKey | None, claim: KeyClaim | None
    ) -> Reopened | Repeated:
        """The mail is posted before anything else can happen to the run."""
        supervisor, run_id = self._supervisor, actor.run_id
        kept, kept_runs = _kept(actor.run, plan_after(actor.run, message), reset)
        reopened = Reopened(kept, reset.count, kept_runs)
        answers = Answers(1)
        row = None
        if request is not None:
            row = RequestRow(request, run_id + reopened.packed)
        actor.post_control(Mail(message, answer=answers.part(0), request=row, claim=claim))
        (outcome,) = await answers.all(supervisor.patience)
        if isinstance(outcome, KeyTaken):
            raise NotPossible(
                f"its run key is that of the run {uuid.UUID(bytes=outcome.run_id)} now, which is"
                f" {RunState(outcome.state).name}: wait for its end, or cancel it"
            )
        taken = accepted(run_id, outcome)
        if isinstance(taken, Repeated):
            return _answered(taken)
        if row is not None:
            # Another request may have come with the same record.
            await supervisor.stores.runs.remember_request(row, message.now)
        return reopened


def _answered(repeated: Repeated) -> Reopened | Repeated:
    if not repeated.same:
        return repeated
    packed = repeated.answer[_ID_BYTES:]
    if len(packed) == _COUNTS_OF_STEPS.size:
        kept, reset = _COUNTS_OF_STEPS.unpack(packed)
        return Reopened(kept, reset, kept)
    return Reopened(*_COUNTS.unpack(packed))


def _kept(run: Run, plan: Plan, reset: Reset) -> tuple[int, int]:
    """Steps, and step runs, that stay COMPLETED."""
    steps = step_runs = 0
    for number, state in enumerate(run.states):
        if number in reset.steps or plan.steps[number].retired:
            continue
        stays = state == StepState.COMPLETED and number not in reset.items
        steps += stays
        mapped = run.maps.get(number)
        if mapped is None:
            step_runs += stays
        else:
            again = sum(mapped.states[item] == StepState.COMPLETED for item in reset.items.get(number, ()))
            step_runs += mapped.tally[StepState.COMPLETED] - again
    return steps, step_runs


def _claim(row: RunRow) -> KeyClaim | None:
    """The run is to have its run key again."""
    return KeyClaim(row.pipeline, row.origin.run_key) if row.origin.run_key else None

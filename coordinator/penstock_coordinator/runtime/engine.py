"""What the edge may ask of the runtime: all that people and programs do to runs and agents."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import aclosing
from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING

from penstock_coordinator.core.run.events import RunEnded
from penstock_coordinator.core.run.messages import (
    CancelRun,
    PauseRun,
    RaiseBudget,
    RerunStep,
    ResumeRun,
    RetryRun,
    RollbackRun,
)
from penstock_coordinator.core.run.states import RunState
from penstock_coordinator.runtime.absent_runs import unknown
from penstock_coordinator.runtime.bulk import BulkJobs
from penstock_coordinator.runtime.cached_values import CachedValues
from penstock_coordinator.runtime.dead_letters import DeadLetters
from penstock_coordinator.runtime.differing import difference
from penstock_coordinator.runtime.elsewhere import LOOK_AGAIN, Elsewhere
from penstock_coordinator.runtime.explaining import explain_steps
from penstock_coordinator.runtime.reading import Reader
from penstock_coordinator.runtime.reopening import Reopener
from penstock_coordinator.runtime.views import Stopping
from penstock_coordinator.runtime.watching import Seats, follow

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Iterator, Sequence
    from contextlib import AbstractAsyncContextManager

    from penstock_coordinator.core.plan.budget import Amounts
    from penstock_coordinator.core.plan.model import Plan
    from penstock_coordinator.core.run.events import Event
    from penstock_coordinator.core.run.places import Shaped
    from penstock_coordinator.ports import KeyClaim, Repeated, RequestKey, RequestRow, RunId, RunRow
    from penstock_coordinator.runtime.differing import RunDifference
    from penstock_coordinator.runtime.explaining import RunExplanation
    from penstock_coordinator.runtime.outcomes import StartAnswer
    from penstock_coordinator.runtime.reopening import Reopened
    from penstock_coordinator.runtime.supervisor import Supervisor
    from penstock_coordinator.runtime.views import (
        AgentView,
        AttemptView,
        BudgetView,
        LiveGlance,
        RunRequest,
        RunView,
        StepRunView,
    )


NO_LEASES: Mapping[str, int] = MappingProxyType({})
RUNS_AT_ONCE = 100
"""So many rows are read together: parameters may be large."""


class Engine:
    """Everything that is answered is committed. Any method may raise `Unavailable` and `Stopping`."""

    def __init__(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor
        self._reader = Reader(supervisor)
        self.elsewhere = Elsewhere(supervisor)
        """Other owners, for calls about many runs."""
        self.seats = Seats(supervisor.timing.max_watchers, supervisor.timing.max_watchers_of_run)
        """To be taken by whoever follows a run for a caller."""
        self.waiting_seats = Seats(supervisor.timing.max_watchers, supervisor.timing.max_watchers)
        """To be taken by whoever waits for the ends of runs for a caller."""
        self._reopener = Reopener(supervisor)
        self.bulk = BulkJobs(supervisor, self._reopener, self.elsewhere)
        """What is done to many runs. Its `run` is for the owner of the engine to run."""
        self.dead_letters = DeadLetters(supervisor, self._reopener)
        self.cached_values = CachedValues(supervisor.stores.cache)

    async def start_runs(self, requests: Sequence[RunRequest]) -> list[StartAnswer]:
        """Durable when it returns, but for those whose answer is no id; in the order of the requests. Raises
        `Overloaded`: then none is accepted."""
        return await self._supervisor.start_runs(requests)

    def check_room(self, lowest_priority: int, count: int = 1) -> None:
        """Whether so many runs would be accepted now: for callers who have much to do before they ask for them. Raises
        `Overloaded`, `Unavailable`, `Stopping`."""
        self._supervisor.check_open(count, lowest_priority)

    def hold_run_keys(self, claims: Iterable[KeyClaim]) -> AbstractAsyncContextManager[None]:
        """For whoever starts runs that claim them: nobody else's claim is decided meanwhile."""
        return self._supervisor.key_turns.hold(claims)

    async def cancel_run(
        self, run_id: RunId, immediate: bool, reason: str, request: RequestRow | None, requested_by: str = ""
    ) -> Repeated | None:
        """Returns when the decision is committed; nothing happens to a run at rest. Raises `UnknownRun`."""
        message = CancelRun(self._supervisor.clock.now(), immediate, reason, requested_by)
        return await self._supervisor.ask(run_id, message, request)

    async def pause_run(
        self, run_id: RunId, requested_by: str, reason: str, request: RequestRow | None
    ) -> Repeated | None:
        """Returns when the decision is committed; nothing happens to a run that is being stopped, or at rest. Raises
        `UnknownRun`."""
        message = PauseRun(self._supervisor.clock.now(), requested_by, reason)
        return await self._supervisor.ask(run_id, message, request)

    async def resume_run(self, run_id: RunId, requested_by: str, request: RequestRow | None) -> Repeated | None:
        """Returns when the decision is committed; nothing happens to a run that is not paused. Raises `UnknownRun`."""
        return await self._supervisor.ask(run_id, ResumeRun(self._supervisor.clock.now(), requested_by), request)

    async def raise_budget(self, run_id: RunId, limits: Amounts, requested_by: str, reason: str) -> None:
        """Returns when the decision is committed; nothing happens to a run at rest. Raises `UnknownRun`,
        `NotPossible`."""
        message = RaiseBudget(self._supervisor.clock.now(), *limits, requested_by, reason)
        await self._supervisor.ask(run_id, message, None)

    async def window_budget(self, plan: Plan) -> BudgetView:
        """Of a plan whose pipeline has one, in the present window."""
        return await self._supervisor.budgets.view(plan)

    async def raise_window_budget(self, plan: Plan, limits: Amounts, requested_by: str) -> None:
        """For the present window; durable when it returns. Runs that wait begin soon."""
        await self._supervisor.budgets.raise_to(plan, limits, requested_by)

    async def retry_run(
        self,
        run_id: RunId,
        requested_by: str,
        reason: str,
        request: RequestKey | None,
        version: int | None = None,
    ) -> Reopened | Repeated:
        """A new generation of a run at rest, of the `version` of that number if it is given (0: the newest). Durable
        when it returns; Repeated if the request came with other content. Raises `UnknownRun`, `UnknownVersion`,
        `NotPossible`, `Overloaded`."""
        message = RetryRun(self._supervisor.clock.now(), requested_by, reason)
        return await self._reopener.reopen(run_id, message, request, version)

    async def rollback_run(
        self,
        run_id: RunId,
        requested_by: str,
        reason: str,
        request: RequestKey | None,
        version: int | None = None,
    ) -> Reopened | Repeated:
        """As `retry_run`: a new generation that undoes what is COMPLETED. Its `reset` are the steps to be undone."""
        message = RollbackRun(self._supervisor.clock.now(), requested_by, reason)
        return await self._reopener.reopen(run_id, message, request, version)

    async def rerun_step(
        self, run_id: RunId, step: int, item: int, requested_by: str, reason: str, request: RequestKey | None
    ) -> Reopened | Repeated:
        """As `retry_run`, of a step or an item of it with everything that comes after it."""
        message = RerunStep(self._supervisor.clock.now(), step, item, requested_by, reason)
        return await self._reopener.reopen(run_id, message, request)

    async def at_rest(self, run_id: RunId) -> None:
        """Returns when the run is at rest, or this coordinator stops."""
        await self._supervisor.at_rest(run_id)

    async def wait_many(self, run_ids: Sequence[RunId]) -> AsyncGenerator[list[RunView], None]:
        """Each of the runs when it is at rest, several at a time. Raises `UnknownRun` with its id."""
        left = dict.fromkeys(run_ids)
        while left:
            async with aclosing(self.elsewhere.ends(list(left))) as ending:
                async for ended in ending:
                    for part in _parts(ended):
                        views = await self._reader.runs_at_rest(part)
                        for view in views:
                            del left[view.row.run_id]
                        if views:
                            yield views
            if self._supervisor.stopping or (left and self.is_member):
                raise Stopping  # At a member the rest is not its own: the head looks for it.
            if left:
                # Neither live nor at rest: a moment between the two, or about to be opened again.
                await asyncio.sleep(LOOK_AGAIN)

    @property
    def is_member(self) -> bool:
        """It has free runs alone, and those of the head are not its."""
        return self._supervisor.whereabouts.head_epoch != 0

    def known_plan(self, digest: str) -> Plan | None:
        """If it is in memory."""
        return self._supervisor.plans.known(digest)

    async def plan(self, digest: str) -> Plan:
        """Raises `KeyError`."""
        return await self._supervisor.plans.get(digest)

    async def plan_onto(self, plan: Plan, digest: str) -> Plan:
        """Of a version that a run of `plan` went on with. Raises `KeyError`."""
        return await self._supervisor.plans.onto(plan, digest)

    async def started(self, run_id: RunId, request: RunRequest) -> RunView:
        """A run that was just started with the request, as it is."""
        return await self._reader.started(run_id, request)

    async def run(self, run_id: RunId, at_event: int = 0) -> RunView:
        """As it is, or as it was after that event. Raises `UnknownRun`, `EventNotYet`."""
        return await self._reader.run(run_id, at_event)

    async def glances(self, rows: Sequence[RunRow]) -> dict[RunId, LiveGlance]:
        """What lists tell of those of the runs that are not at rest, beyond their rows; as far as their owners answer
        soon."""
        found = await self.elsewhere.glances(rows)
        for row in rows:
            glance = None if RunState(row.state).at_rest else await self._reader.live_glance(row.run_id)
            if glance is not None:
                found[row.run_id] = glance
        return found

    async def step_runs(
        self,
        run_id: RunId,
        step: int | None,
        states: frozenset[int],
        after: tuple[int, int] | None,
        limit: int,
        at_event: int = 0,
    ) -> list[StepRunView]:
        """Steps as wholes, or the items of `step`, in order, after (step, item) `after`. Raises `UnknownRun`,
        `EventNotYet`."""
        return await self._reader.step_runs(run_id, step, states, after, limit, at_event)

    async def step_run(
        self, run_id: RunId, step: int, item: int, at_event: int = 0
    ) -> tuple[StepRunView, list[AttemptView]]:
        """With its attempts, oldest first. Raises `UnknownRun`, `UnknownStepRun`, `EventNotYet`."""
        return await self._reader.step_run(run_id, step, item, at_event)

    async def item_at(self, run_id: RunId, step: int, place: Sequence[int], at_event: int = 0) -> int:
        """The number of the item of `step` at the place; -1 for no place. Raises `UnknownRun`, `UnknownStepRun`,
        `EventNotYet`."""
        return await self._reader.item_at(run_id, step, place, at_event)

    async def shape(self, run_id: RunId) -> Shaped:
        """What knows the places of the run's items, for now. Raises `UnknownRun`."""
        return await self._reader.shape(run_id)

    async def explain(self, run_id: RunId, step: int | None, item: int) -> RunExplanation:
        """Why a step run, or every one that is not at rest, is not running. Raises `UnknownRun`, `UnknownStepRun`."""
        return await explain_steps(self._supervisor, run_id, step, item)

    async def difference(self, first: RunId, second: RunId) -> RunDifference:
        """What is different between two runs. Raises `UnknownRun`."""
        return await difference(self._reader, self._supervisor.stores.runs, first, second)

    async def watch(self, run_id: RunId, from_seq: int) -> AsyncIterator[list[tuple[int, Event]]]:
        """Committed events from the number on, in order, without gaps; live until the run is at rest.

        Raises `UnknownRun`, `EventNotYet`, `SlowReader`.
        """
        actor = self._supervisor.actor(run_id)
        if run_id in self._supervisor.arriving:
            raise Stopping
        if actor is None and await self._supervisor.stores.runs.get(run_id) is None:
            raise await unknown(self._supervisor.stores, run_id)
        ended = False
        async with aclosing(follow(actor, self._supervisor.stores.journal, run_id, from_seq)) as followed:
            async for events in followed:
                ended = type(events[-1][1]) is RunEnded
                yield events
        left = None if actor is not None or ended else await self._supervisor.stores.runs.owners([run_id])
        if left == {}:
            raise await unknown(self._supervisor.stores, run_id)
        if self._supervisor.stopping or (left and not RunState(left[run_id].state).at_rest):
            raise Stopping

    def agents(self, leases: Mapping[str, int] = NO_LEASES) -> dict[str, AgentView]:
        """Those that are connected now, by id; with `leases` that they have of other owners."""
        views = self._supervisor.fleet.views()
        for agent_id in views.keys() & leases.keys():
            views[agent_id] = replace(views[agent_id], leases=views[agent_id].leases + leases[agent_id])
        return views

    def discarded_results(self) -> Counter[str]:
        """Results that came too late, by agent, since this coordinator was started."""
        return self._supervisor.fleet.discarded

    async def drain_agent(self, agent_id: str, deadline: int) -> AgentView:
        """Returns when the request is on its way. Raises `NotConnected`."""
        return await self._supervisor.fleet.drain_agent(agent_id, deadline)

    async def pause_agent(self, agent_id: str, *, paused: bool) -> bool:
        """Or let it go on. Whether there is such an agent; durable when it returns. Raises `Unavailable`."""
        return await self._supervisor.fleet.pause_agent(agent_id, paused=paused)

    def has_left(self, agent_id: str) -> bool:
        """It said goodbye to this coordinator, and did not come back."""
        return agent_id in self._supervisor.fleet.left


def _parts(run_ids: list[RunId]) -> Iterator[list[RunId]]:
    for start in range(0, len(run_ids), RUNS_AT_ONCE):
        yield run_ids[start : start + RUNS_AT_ONCE]

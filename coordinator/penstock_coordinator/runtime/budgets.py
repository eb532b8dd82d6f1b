"""Budgets that pipelines have by the day, the week or the month: which new runs wait for the next one.

What was used is in the database, committed with the ends of attempts; here it is only looked up: before runs of such a
pipeline are started, and now and then while some wait. Runs of other pipelines pass without a question.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import structlog

from penstock_coordinator.core.plan.budget import (
    WINDOW_NAMES,
    Amounts,
    Measure,
    OnExceeded,
    exceeded,
    used_of,
    window_at,
)
from penstock_coordinator.core.run.explain.situations import WindowSituation
from penstock_coordinator.core.run.messages import AdmitRun
from penstock_coordinator.ports import Committed, Unavailable, WindowUse
from penstock_coordinator.runtime.actor import Mail
from penstock_coordinator.runtime.limits import budget_key, waits_for_budget
from penstock_coordinator.runtime.views import BudgetView

if TYPE_CHECKING:
    from penstock_coordinator.core.plan.budget import CostBudget, Window
    from penstock_coordinator.core.plan.model import Plan
    from penstock_coordinator.ports import AppendOutcome, RunId
    from penstock_coordinator.runtime.actor import Actor
    from penstock_coordinator.runtime.supervisor import Supervisor

FRESH = 1_000_000
"""For so many microseconds an answer of the database counts, if nothing was used here meanwhile: other coordinators may
have runs of the pipeline too."""
LOOK_EVERY = 1_000_000

log = structlog.get_logger(__name__)


class Beginning(NamedTuple):
    """What a run that is to begin waits for, or why it does not."""

    held: tuple[str, int] | None = None
    refused: str = ""
    over: str = ""


class Budgets:
    def __init__(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor
        self._uses: dict[tuple[str, int], tuple[int, WindowUse]] = {}
        """By pipeline and start of the window: when it was asked for, and the answer."""
        self._changes: dict[str, int] = {}
        """By pipeline that was asked for: how often something was used here since."""
        self._waiting: dict[RunId, None] = {}
        self._task: asyncio.Task[None] | None = None
        self._looked_at = 0

    # --- runs that are to begin

    async def look(self, plan: Plan) -> None:
        """To be waited for before a run of the plan asks to begin. Raises `Unavailable`."""
        budget = plan.window_budget
        if budget is not None:
            await self.use(plan.pipeline, window_at(budget.per, self._supervisor.clock.now()))

    async def use(self, pipeline: str, window: Window) -> WindowUse:
        """Raises `Unavailable`."""
        key, now = (pipeline, window.start), self._supervisor.clock.monotonic()
        kept = self._uses.get(key)
        if kept is not None and now - kept[0] < FRESH:
            return kept[1]
        changes = self._changes.setdefault(pipeline, 0)
        found = await self._supervisor.stores.budgets.use(*key)
        for old in [each for each in self._uses if each[0] == pipeline and each[1] < window.start]:
            del self._uses[old]
        # If something was used meanwhile, it may be told too late.
        self._uses[key] = (now if self._changes.get(pipeline) == changes else now - FRESH, found)
        return found

    def changed(self, pipeline: str) -> None:
        """Something was used, or the budget was raised: what is known of it is old."""
        if pipeline in self._changes:
            self._changes[pipeline] += 1
            for key, (_, found) in list(self._uses.items()):
                if key[0] == pipeline:
                    self._uses[key] = (self._supervisor.clock.monotonic() - FRESH, found)

    def begin(self, actor: Actor, parameters: bytes, now: int) -> Beginning:
        """A run asks to begin: for what is left of its pipeline's budget, then for its places under limits on runs. To
        be told in its first message."""
        found = self._exceeded(actor.plan, now)
        if found is None:
            return Beginning(*self._supervisor.limits.ask(actor, parameters, now))
        budget = actor.plan.window_budget
        assert budget is not None
        if budget.on_exceeded is OnExceeded.STOP:
            return Beginning(over=_over(found))
        self._waiting[actor.run_id] = None
        return Beginning((budget_key(actor.plan.pipeline), found.limit // 1_000_000))

    def _exceeded(self, plan: Plan, now: int) -> WindowSituation | None:
        budget = plan.window_budget
        if budget is None:
            return None
        window = window_at(budget.per, now)
        _, found = self._uses.get((plan.pipeline, window.start), (0, WindowUse(Amounts(), Amounts())))
        limits = raised(budget, found)
        measure = exceeded(found.used, limits)
        if measure is None:
            return None
        used, limit = found.used.of(measure), limits.of(measure)
        return WindowSituation(plan.pipeline, budget.per, measure, used, limit, window.stop)

    async def view(self, plan: Plan) -> BudgetView:
        """Of the present window. Raises `Unavailable`."""
        budget = plan.window_budget
        assert budget is not None
        window = window_at(budget.per, self._supervisor.clock.now())
        found = await self.use(plan.pipeline, window)
        limits = raised(budget, found)
        return BudgetView(replace(budget, limits=limits), found.used, exceeded(found.used, limits), window=window)

    async def raise_to(self, plan: Plan, limits: Amounts, requested_by: str) -> None:
        """Raises `Unavailable`."""
        budget, now = plan.window_budget, self._supervisor.clock.now()
        assert budget is not None
        start = window_at(budget.per, now).start
        await self._supervisor.stores.budgets.raise_to(plan.pipeline, start, limits, requested_by, now)
        self.changed(plan.pipeline)

    # --- runs that wait

    def adopt(self, actor: Actor) -> None:
        """A run was read from the journal. One that has asked for its places is let in by those."""
        if waits_for_budget(actor.run) and not self._supervisor.limits.knows(actor.run_id):
            self._waiting[actor.run_id] = None

    def situation(self, actor: Actor) -> WindowSituation | None:
        """What keeps the run from beginning."""
        if not waits_for_budget(actor.run):
            return None
        return self._exceeded(actor.plan, self._supervisor.clock.now())

    def run_periodic(self) -> None:
        now = self._supervisor.clock.monotonic()
        if self._waiting and self._task is None and now - self._looked_at >= LOOK_EVERY:
            self._looked_at = now
            self._task = asyncio.create_task(self._let_begin())
            self._task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._task = None
        if not task.cancelled() and task.exception() is not None:
            log.error("budgets_failed", exc_info=task.exception())

    async def _let_begin(self) -> None:
        """Those for which something is left, in the order of their starts."""
        try:
            for actor in self._those_who_wait():
                await self.look(actor.plan)
        except Unavailable as error:
            log.debug("budgets_not_read", reason=str(error))
            return
        for actor in sorted(self._those_who_wait(), key=lambda each: (each.run.created_at or 0, each.run_id)):
            now = self._supervisor.clock.now()
            if waits_for_budget(actor.run) and self._exceeded(actor.plan, now) is None:
                self._admit(actor, now)

    def _those_who_wait(self) -> list[Actor]:
        found: list[Actor] = []
        for run_id in list(self._waiting):
            actor = self._supervisor.actor(run_id)
            # Of one that is about to begin the first message may still be in its mailbox.
            if actor is not None and (waits_for_budget(actor.run) or actor.has_mail):
                found.append(actor)
            else:
                del self._waiting[run_id]
        return found

    def _admit(self, actor: Actor, now: int) -> None:
        """To its place under limits on runs, if it needs one."""
        del self._waiting[actor.run_id]
        limits = self._supervisor.limits
        held, refused = limits.ask(actor, actor.run.parameters, now)
        answer: asyncio.Future[AppendOutcome] = asyncio.get_running_loop().create_future()
        answer.add_done_callback(lambda told: limits.started(actor) if _committed(told) and actor.limited else None)
        actor.post_control(Mail(AdmitRun(now, held, refused), answer=answer))

    def close(self) -> None:
        if self._task is not None:
            self._task.cancel()


def raised(budget: CostBudget, use: WindowUse) -> Amounts:
    """The limits of the window; what has none is not limited by being raised."""
    higher = budget.limits.most(use.raised)
    return Amounts(*(higher.of(each) if budget.limits.of(each) else 0 for each in Measure))


def _over(found: WindowSituation) -> str:
    used = used_of(found.measure, found.used, found.limit)
    return f'budget: the runs of "{found.pipeline}" have used {used} of their budget of this {WINDOW_NAMES[found.per]}'


def _committed(told: asyncio.Future[AppendOutcome]) -> bool:
    return not told.cancelled() and told.exception() is None and isinstance(told.result(), Committed)

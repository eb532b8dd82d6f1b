"""Runs whose actors are made again from the journal: an append of theirs failed, or a rule raised."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import structlog

from penstock_coordinator.core.run.resume import resume
from penstock_coordinator.ports import Unavailable
from penstock_coordinator.runtime.actor import Mail
from penstock_coordinator.runtime.history import rebuild
from penstock_coordinator.runtime.outcomes import unstorable_result
from penstock_coordinator.runtime.views import UnknownRun

if TYPE_CHECKING:
    from penstock_coordinator.core.run.messages import AttemptEnded
    from penstock_coordinator.core.run.state import Run
    from penstock_coordinator.ports import RunId
    from penstock_coordinator.runtime.actor import Actor, Turn
    from penstock_coordinator.runtime.supervisor import Supervisor

RETRY_SECONDS = 0.2

log = structlog.get_logger(__name__)


class Remaking:
    """Of one supervisor."""

    def __init__(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor
        self._tasks: dict[RunId, asyncio.Task[None]] = {}

    def __contains__(self, run_id: object) -> bool:
        """The run had an actor, and is to have one again."""
        return run_id in self._tasks

    async def made(self, run_id: RunId) -> None:
        """Returns when nobody is at work on the run."""
        task = self._tasks.get(run_id)
        if task is not None:
            await asyncio.wait({task})

    def after_append(self, actor: Actor, turn: Turn, *, repeated: bool, unstorable: bool) -> None:
        """Its state is not the journal's any more. A run that was never stored just goes."""
        supervisor = self._supervisor
        supervisor.let_go(actor)
        if turn.record.new_run is not None:
            self._end_waiting(actor)
            return
        if not repeated:
            first, trace = turn.record.first_seq, actor.trace_id
            log.error("append_failed", run=actor.run_id.hex(), trace=trace, first_seq=first, unstorable=unstorable)
        self._begin(actor, [unstorable_result(result) for result in turn.results] if unstorable else [])

    def after_crash(self, actor: Actor, error: Exception) -> None:
        log.error("turn_failed", run=actor.run_id.hex(), exc_info=error)
        self._supervisor.let_go(actor)
        if self._supervisor.set_aside.crashed_too_often(actor.run_id, actor.committed_seq):
            self._put_aside(actor, error)
        else:
            self._begin(actor, [])

    def _begin(self, actor: Actor, results: list[AttemptEnded]) -> None:
        task = asyncio.create_task(self._remake(actor, results))
        self._tasks[actor.run_id] = task
        task.add_done_callback(lambda _: self._tasks.pop(actor.run_id, None))

    async def _remake(self, old: Actor, results: list[AttemptEnded]) -> None:
        """What cannot be made again is set aside: who waits for the run is told so, and it holds up no other."""
        try:
            await self._make_again(old, results)
        except Exception as error:
            made = self._supervisor.actor(old.run_id)
            if made is not None:
                self._supervisor.let_go(made)
                made.discard()
            self._put_aside(old, error)

    def _put_aside(self, actor: Actor, error: Exception) -> None:
        self._supervisor.set_aside.put(actor.run_id, error, actor.trace_id)
        self._end_waiting(actor)

    def _end_waiting(self, actor: Actor) -> None:
        """Nothing comes of the run here that anybody could wait for."""
        self._supervisor.limits.ended(actor.run_id)
        self._supervisor.endings.ended(actor.run_id)
        for watcher in actor.watchers:
            watcher.close()

    async def _make_again(self, old: Actor, results: list[AttemptEnded]) -> None:
        supervisor = self._supervisor
        while not supervisor.stopping:
            try:
                run = await rebuild(supervisor.stores.journal, supervisor.plans, old.run_id)
                break
            except Unavailable:
                await asyncio.sleep(RETRY_SECONDS)
            except UnknownRun:  # removed: it was at rest
                supervisor.give_up(old)
                return
        else:
            return
        if run is None or run.at_rest:
            self._find_at_rest(old, run)
            return
        actor = supervisor.add(old.run_id, run.plan, run, run.parameters, old.trace_context, old.share)
        actor.watchers = old.watchers
        actor.origin = old.origin
        supervisor.limits.readopt(actor)
        supervisor.adopt(actor, [duty for duty in resume(run) if not supervisor.holds(actor, duty)])
        for result in results:
            actor.post(Mail(result))

    def _find_at_rest(self, old: Actor, run: Run | None) -> None:
        if run is not None:
            old.run = run
            self._supervisor.children.ended(old)
            self._supervisor.children.cancel_given_up(run)
        self._supervisor.give_up(old)

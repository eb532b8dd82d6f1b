"""The traces of the runs that live here: which are sampled, what a step gets of its run's, and which have news for the
exporter. There is one only if traces are configured; who has none passes on what the caller of the run gave.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

import structlog

from penstock_coordinator.core.traces.ids import Kind, TraceContext, passed_on, span_id, trace_of, traceparent

if TYPE_CHECKING:
    from penstock_coordinator.core.traces.sampling import Sampler
    from penstock_coordinator.ports import RunId
    from penstock_coordinator.runtime.actor import Actor

MOST_NEWS = 100_000
"""Runs, while no receiver takes anything. Past it the trace of that which waited longest stays as it is."""

log = structlog.get_logger(__name__)


class Traces:
    def __init__(self, sampler: Sampler) -> None:
        self._sampler = sampler
        self._overflowed = False

        self._news: dict[RunId, None] = {}
        self._taken_over: dict[RunId, int] = {}

    # --- what there is to export

    def note(self, run_id: RunId) -> None:
        """Something of the run, which is sampled, is committed."""
        self._news[run_id] = None
        if len(self._news) > MOST_NEWS:
            del self._news[next(iter(self._news))]
            if not self._overflowed:
                self._overflowed = True
                log.warning("traces_dropped", reason=f"{MOST_NEWS:,} runs wait for the receiver of traces")

    def recovered(self, actor: Actor, at: int) -> None:
        """This coordinator goes on with the run from that instant."""
        if actor.sampled:
            self._taken_over[actor.run_id] = at
            self.note(actor.run_id)

    def take(self, most: int) -> list[RunId]:
        """Runs that there is news of, those that waited longest, and no more news."""
        taken = list(islice(self._news, most))
        for run_id in taken:
            del self._news[run_id]
        if not self._news:
            self._overflowed = False
        return taken

    def taken_over(self, run_id: RunId) -> int | None:
        """When this coordinator went on with the run."""
        return self._taken_over.get(run_id)

    def forget(self, run_id: RunId) -> None:
        """The run has ended, and its spans were sent."""
        self._taken_over.pop(run_id, None)

    # --- which trace

    def samples(self, run_id: RunId, context: TraceContext) -> bool:
        return self._sampler.samples(trace_of(run_id, context))

    def for_attempt(self, actor: Actor, step: int, item: int, token: int) -> TraceContext:
        """What the attempt gets: below its execution, if the run is sampled. If it is not, the same for all attempts of
        the run, which says so: what is loaded there makes no trace of its own."""
        if actor.sampled:
            return self._below(actor, span_id(actor.run_id, Kind.EXECUTION, step, item, token))
        if actor.unsampled_context is None:
            actor.unsampled_context = self._below(actor, span_id(actor.run_id, Kind.RUN, 1))
        return actor.unsampled_context

    def for_child(self, actor: Actor, step: int, item: int) -> TraceContext:
        """What the run that a step run is gets: below that."""
        return self._below(actor, span_id(actor.run_id, Kind.STEP_RUN, step, item, actor.run.generation))

    @staticmethod
    def _below(actor: Actor, parent: bytes) -> TraceContext:
        trace = trace_of(actor.run_id, actor.trace_context)
        return passed_on(actor.trace_context, traceparent(trace.trace_id, parent, sampled=actor.sampled))

"""The traces of the runs that live here: which are sampled, what a step gets of its run's, and which have news for the
exporter. There is one only if traces are configured; who has none passes on what the caller of the run gave.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from penstock_coordinator.core.traces.ids import Kind, TraceContext, passed_on, span_id, trace_of, traceparent

if TYPE_CHECKING:
    from penstock_coordinator.core.traces.sampling import Sampler
    from penstock_coordinator.ports import RunId
    from penstock_coordinator.runtime.actor import Actor


class Traces:
    def __init__(self, sampler: Sampler) -> None:
        self._sampler = sampler

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

"""Compiled versions, the most recently used ones in memory."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from typing import TYPE_CHECKING

from penstock.v1.pipeline_pb2 import PipelineSpec
from penstock_coordinator.core.plan.compile import compile_plan

if TYPE_CHECKING:
    from penstock_coordinator.core.plan.model import Plan
    from penstock_coordinator.ports import PipelineStore

KEPT_STEPS = 500_000
"""Plans are forgotten, least recently used first, once those in memory have more steps than this. A live run keeps
its own."""


LARGE_SPEC_BYTES = 64 << 10


def _compile(spec: bytes, digest: str) -> Plan:
    return compile_plan(PipelineSpec.FromString(spec), digest)


class PlanCache:
    def __init__(self, pipelines: PipelineStore) -> None:
        self._pipelines = pipelines
        self._plans: OrderedDict[str, Plan] = OrderedDict()
        self._steps = 0

    async def get(self, digest: str) -> Plan:
        """The plan of the version with that digest. Raises `KeyError` if there is none, `Unavailable`."""
        plan = self._plans.get(digest)
        if plan is not None:
            self._plans.move_to_end(digest)
            return plan
        row = await self._pipelines.version_by_digest(digest)
        if row is None:
            raise KeyError(digest)
        if len(row.spec) < LARGE_SPEC_BYTES:
            plan = _compile(row.spec, digest)
        else:
            # Seconds of work: heartbeats must go on being answered in between.
            plan = await asyncio.to_thread(_compile, row.spec, digest)
        self._keep(plan)
        return plan

    def _keep(self, plan: Plan) -> None:
        if plan.digest not in self._plans:
            self._plans[plan.digest] = plan
            self._steps += len(plan.steps)
        while self._steps > KEPT_STEPS and len(self._plans) > 1:
            _, dropped = self._plans.popitem(last=False)
            self._steps -= len(dropped.steps)

"""Compiled versions, the most recently used ones in memory."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from typing import TYPE_CHECKING

from penstock.v1.pipeline_pb2 import PipelineSpec
from penstock_coordinator.core.plan.compile import compile_onto, compile_plan

if TYPE_CHECKING:
    from collections.abc import Sequence

    from penstock_coordinator.core.plan.model import Plan
    from penstock_coordinator.ports import PipelineStore

KEPT_STEPS = 500_000
"""Plans are forgotten, least recently used first, once those in memory have more steps than this. A live run keeps
its own."""


LARGE_SPEC_BYTES = 64 << 10


def _compile(former: Plan | None, spec: bytes, digest: str) -> Plan:
    parsed = PipelineSpec.FromString(spec)
    return compile_plan(parsed, digest) if former is None else compile_onto(former, parsed, digest)


class PlanCache:
    def __init__(self, pipelines: PipelineStore) -> None:
        self._pipelines = pipelines
        self._plans: OrderedDict[tuple[str, ...], Plan] = OrderedDict()
        self._steps = 0

    async def get(self, digest: str, lineage: Sequence[str] = ()) -> Plan:
        """The plan of the version with that digest, for a run that was of the versions `lineage` before. Raises
        `KeyError` if there is none, `Unavailable`."""
        key = (*lineage, digest)
        for known in range(len(key), 0, -1):
            plan = self._plans.get(key[:known])
            if plan is not None:
                self._plans.move_to_end(key[:known])
                break
        else:
            known, plan = 0, None
        for digest in key[known:]:
            plan = await self._compiled(plan, digest)
        assert plan is not None
        return plan

    def known(self, digest: str) -> Plan | None:
        """Of a new run of the version, if it is in memory."""
        return self._plans.get((digest,))

    def take(self, other: PlanCache) -> None:
        """Those of another one are kept here too."""
        for plan in other._plans.values():
            self._keep(plan)

    async def onto(self, plan: Plan, digest: str) -> Plan:
        """The plan of the version for a run of `plan`. Raises as `get`."""
        return await self.get(digest, (*plan.lineage, plan.digest))

    async def _compiled(self, former: Plan | None, digest: str) -> Plan:
        row = await self._pipelines.version_by_digest(digest)
        if row is None:
            raise KeyError(digest)
        if len(row.spec) < LARGE_SPEC_BYTES:
            plan = _compile(former, row.spec, digest)
        else:
            # Seconds of work: heartbeats must go on being answered in between.
            plan = await asyncio.to_thread(_compile, former, row.spec, digest)
        self._keep(plan)
        return plan

    def _keep(self, plan: Plan) -> None:
        key = (*plan.lineage, plan.digest)
        if key not in self._plans:
            self._plans[key] = plan
            self._steps += len(plan.steps)
        while self._steps > KEPT_STEPS and len(self._plans) > 1:
            _, dropped = self._plans.popitem(last=False)
            self._steps -= len(dropped.steps)

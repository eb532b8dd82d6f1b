"""Retries with another version of the pipeline: all that has to be looked up before one can be decided."""

from __future__ import annotations

import asyncio
import json
from collections import OrderedDict
from typing import TYPE_CHECKING

from google.protobuf.json_format import ParseDict
from google.protobuf.struct_pb2 import Value
from msgspec.structs import replace

from penstock.v1.pipeline_pb2 import Parameter, PipelineSpec
from penstock_coordinator.core.plan.keys import InvalidKey, check_keys, has_expressions
from penstock_coordinator.core.plan.naming import quoted
from penstock_coordinator.core.plan.parameters import InvalidParameters, bind
from penstock_coordinator.core.plan.references import may_refer
from penstock_coordinator.core.plan.values import NULL, InvalidJson, UnresolvableInput, dump, keep
from penstock_coordinator.core.run.events import WHOLE
from penstock_coordinator.core.run.renewing import parts_wanted
from penstock_coordinator.core.run.resets import NotPossible
from penstock_coordinator.core.run.rules.reopening import reset_for
from penstock_coordinator.runtime.views import UnknownVersion

if TYPE_CHECKING:
    from collections.abc import Iterable

    from penstock_coordinator.core.plan.model import Json, Plan, Step
    from penstock_coordinator.core.run.messages import RenewingMessage
    from penstock_coordinator.core.run.state import Run
    from penstock_coordinator.ports import PipelineStore, RunIndex, VersionRow
    from penstock_coordinator.runtime.plans import PlanCache
    from penstock_coordinator.runtime.spilled import SpilledValues

NEWEST = 0
"""In place of the number of a version."""
KNOWN_VERSIONS = 100
MOST_READ_BYTES = 64 << 20
"""Of the outputs of one step, where a new version needs other parts of them."""
MOST_KEPT_BYTES = 16 << 20
"""Of these parts in all: they are one event."""
INLINE_BYTES = 64 << 10
"""More than this is read in a thread."""


class Renewer:
    def __init__(self, pipelines: PipelineStore, runs: RunIndex, plans: PlanCache, spilled: SpilledValues) -> None:
        self._spilled = spilled
        self._pipelines = pipelines
        self._runs = runs
        self._plans = plans
        self._declared: OrderedDict[str, tuple[Parameter, ...]] = OrderedDict()

    async def version(self, pipeline: str, number: int) -> VersionRow:
        """Without its specification. Raises `UnknownVersion`."""
        rows = await self._pipelines.list_versions(pipeline, 1, number + 1 if number != NEWEST else None)
        if not rows or number not in (NEWEST, rows[0].number):
            raise UnknownVersion(pipeline, number)
        return rows[0]

    async def prepared(self, run: Run, message: RenewingMessage, version: VersionRow) -> RenewingMessage:
        """The message for a run at rest, which then knows the plan of that version. Raises `NotPossible`."""
        plan = await self._plans.onto(run.plan, version.digest)
        run.plans = {**run.plans, version.digest: plan}
        parameters = await self._parameters(run, version)
        _check_keys(plan, version, parameters)
        added = b"" if parameters == run.parameters else parameters
        message = replace(message, version=version.digest, parameters=added)
        return replace(message, kept=tuple(await self._kept(run, plan, message)))

    # --- parameters

    async def _parameters(self, run: Run, version: VersionRow) -> bytes:
        """Those that the run has, and the defaults of those that the version has besides."""
        declared = await self._parameters_of(version)
        if len(run.parameters) > INLINE_BYTES:
            return await asyncio.to_thread(_bound, declared, run.parameters, version)
        return _bound(declared, run.parameters, version)

    async def _parameters_of(self, version: VersionRow) -> tuple[Parameter, ...]:
        found = self._declared.get(version.digest)
        if found is None:
            row = await self._pipelines.version_by_digest(version.digest)
            assert row is not None, "versions are never removed"
            found = self._declared[version.digest] = tuple(PipelineSpec.FromString(row.spec).parameters)
            if len(self._declared) > KNOWN_VERSIONS:
                self._declared.popitem(last=False)
        return found

    # --- outputs that stay

    async def _kept(self, run: Run, plan: Plan, message: RenewingMessage) -> list[tuple[int, int, tuple[bytes, ...]]]:
        """What the version needs of outputs that stay, as a run keeps it."""
        found: list[tuple[int, int, tuple[bytes, ...]]] = []
        size = 0
        for number, items in parts_wanted(run, plan, reset_for(run, message)):
            outputs = await self._outputs(run, plan.steps[number], items)
            for item, parts in await self._extracted(plan.steps[number], items, outputs):
                found.append((number, item, parts))
                size += sum(map(len, parts))
            if size > MOST_KEPT_BYTES:
                raise _too_large(plan.steps[number], MOST_KEPT_BYTES)
        return found

    async def _extracted(
        self, step: Step, items: list[int], outputs: dict[int, bytes]
    ) -> list[tuple[int, tuple[bytes, ...]]]:
        referring = [item for item in items if may_refer(outputs.get(item, NULL))]
        plain = [item for item in items if item not in set(referring)] if referring else items
        if sum(map(len, outputs.values())) > INLINE_BYTES:
            found = await asyncio.to_thread(_extract, step, plain, outputs)
        else:
            found = _extract(step, plain, outputs)
        for item in referring:
            try:
                found.append((item, await self._spilled.kept_of(step, outputs[item])))
            except (InvalidJson, UnresolvableInput) as error:
                raise _unreadable(step, error) from None
        return found

    async def _outputs(self, run: Run, step: Step, items: list[int]) -> dict[int, bytes]:
        number = step.number
        if items == [WHOLE]:
            rows = await self._runs.step_runs(run.run_id, (number, WHOLE), (number, WHOLE))
            return {WHOLE: (rows[0].output if rows else None) or NULL}
        if await self._runs.outputs_size(run.run_id, number) > MOST_READ_BYTES:
            raise _too_large(step, MOST_READ_BYTES)
        return dict(await self._runs.outputs(run.run_id, number))


def _bound(declared: Iterable[Parameter], parameters: bytes, version: VersionRow) -> bytes:
    given: dict[str, Json] = json.loads(parameters)
    try:
        bound = bind(declared, {name: ParseDict(value, Value()) for name, value in given.items()})
    except InvalidParameters as error:
        raise NotPossible(
            f"the run's parameters do not fit version {version.number} of {quoted(version.pipeline)}: {error}."
            " Start a new run of that version, or retry this one with its own"
        ) from None
    added = {name: value for name, value in json.loads(bound).items() if name not in given}
    return dump({**given, **added}) if added else parameters


def _check_keys(plan: Plan, version: VersionRow, parameters: bytes) -> None:
    if not has_expressions(plan):
        return
    try:
        check_keys(plan, json.loads(parameters))
    except InvalidKey as error:
        raise NotPossible(
            f"{error.field} of version {version.number} of {quoted(version.pipeline)} makes no key of the run's"
            f" parameters: {error}"
        ) from None


def _extract(step: Step, items: list[int], outputs: dict[int, bytes]) -> list[tuple[int, tuple[bytes, ...]]]:
    try:
        return [(item, keep(step, outputs.get(item, NULL))) for item in items]
    except InvalidJson as error:
        raise _unreadable(step, error) from None


def _unreadable(step: Step, error: Exception) -> NotPossible:
    return NotPossible(
        f"the new version reads the output of the step {quoted(step.name)}, which is {error}: rerun that step first"
    )


def _too_large(step: Step, limit: int) -> NotPossible:
    return NotPossible(
        f"the new version's maps, conditions or output read more than {limit >> 20} MiB of what steps gave that would"
        f" not run again, such as {quoted(step.name)}: start a new run of that version"
    )

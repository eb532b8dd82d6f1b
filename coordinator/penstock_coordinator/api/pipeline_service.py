"""penstock.v1.PipelineService."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from penstock.v1 import pipeline_service_pb2 as pb
from penstock.v1.pipeline_pb2 import PipelineSpec
from penstock.v1.pipeline_service_pb2_grpc import PipelineServiceServicer
from penstock_coordinator.api.encoding import pipelines as encode
from penstock_coordinator.api.encoding.differences import version_difference
from penstock_coordinator.api.errors import (
    Violation,
    failed_precondition,
    invalid,
    invalid_fields,
    not_found,
    unknown_version,
)
from penstock_coordinator.api.fields import count_of, name_of
from penstock_coordinator.api.paging import PageTokens, page_size
from penstock_coordinator.api.request_ids import first_answer, request_key, same_answer
from penstock_coordinator.api.versions import unknown_pipeline
from penstock_coordinator.core.plan.budget import NO_PRICES, Prices
from penstock_coordinator.core.plan.compile import compile_plan
from penstock_coordinator.core.plan.difference import difference
from penstock_coordinator.core.plan.digest import digest_of
from penstock_coordinator.core.plan.freedom import bound_by
from penstock_coordinator.core.plan.limits import Limits
from penstock_coordinator.core.plan.naming import quoted
from penstock_coordinator.core.plan.secret_names import NamedSecret, named_secrets
from penstock_coordinator.core.plan.validate import oversize, problems
from penstock_coordinator.core.plan.validation.budget import price_fault
from penstock_coordinator.core.plan.validation.report import Problem
from penstock_coordinator.ports import Repeated
from penstock_coordinator.runtime.secrets import secret_warnings

if TYPE_CHECKING:
    from penstock_coordinator.api.guard import Context
    from penstock_coordinator.ports import Clock, PipelineRow, RequestKey, Stores, VersionRow

_T = TypeVar("_T")

SMALL_SPEC_STEPS, SMALL_SPEC_BYTES = 100, 64 << 10
"""Larger ones are looked at in a thread: it may take seconds, and heartbeats must be answered meanwhile."""
_OF_STEP = re.compile(r"steps\[(\d+)\]\.(?!name$)")
CREATE, DELETE = "PipelineService.Create", "PipelineService.Delete"


class PipelineService(PipelineServiceServicer):
    def __init__(
        self,
        stores: Stores,
        clock: Clock,
        limits: Limits,
        prices: Prices = NO_PRICES,
        on_version: Callable[[str], None] = lambda pipeline: None,
        several: Callable[[], bool] = lambda: False,
    ) -> None:
        """`on_version`: hears of each new version of a pipeline. `several`: whether there are several owners now."""
        self._on_version = on_version
        self._several = several
        self._prices = prices
        self._stores = stores
        self._clock = clock
        self._limits = limits

    async def Create(self, request: pb.CreatePipelineRequest, context: Context) -> pb.CreatePipelineResponse:
        if not request.HasField("spec"):
            raise invalid("spec", "is required")
        examined = await self._off_loop(request.spec, lambda: _examine(request, self._limits, self._prices))
        if examined.problems:
            raise invalid_fields(examined.problems, "INVALID_SPECIFICATION")
        await self._check_bundle(request.spec.bundle_digest)
        await self._check_sub_pipelines(request.spec)
        answer = await self._stores.pipelines.create_version(
            request.spec.name,
            examined.digest,
            examined.packed,
            len(request.spec.steps),
            self._clock.now(),
            examined.key,
        )
        if isinstance(answer, Repeated):
            same_answer(answer)
            raise AssertionError("a store answers the same content itself")
        row, created = answer
        if created:
            self._on_version(row.pipeline)
        warnings = await secret_warnings(self._stores.secrets, examined.secrets)
        return pb.CreatePipelineResponse(version=encode.version(row), created=created, warnings=warnings)

    async def Get(self, request: pb.GetPipelineRequest, context: Context) -> pb.GetPipelineResponse:
        name, number = _name(request), count_of(request.version_number, "version_number")
        row = await self._pipeline(name)
        version = row.latest
        if number not in (0, version.number) or not version.spec:
            found = await self._stores.pipelines.get_version(name, number or version.number)
            if found is None:
                raise unknown_version(name, number)
            version = found
        return pb.GetPipelineResponse(pipeline=encode.pipeline(row), version=encode.version(version, with_spec=True))

    async def List(self, request: pb.ListPipelinesRequest, context: Context) -> pb.ListPipelinesResponse:
        size, tokens = page_size(request.page_size), PageTokens(request, str)
        rows = await self._stores.pipelines.list_pipelines(size + 1, tokens.read(request.page_token) or "")
        return pb.ListPipelinesResponse(
            pipelines=[encode.pipeline(row) for row in rows[:size]],
            next_page_token=tokens.write(rows[size - 1].name) if len(rows) > size else "",
        )

    async def ListVersions(
        self, request: pb.ListPipelineVersionsRequest, context: Context
    ) -> pb.ListPipelineVersionsResponse:
        name, size, tokens = _name(request), page_size(request.page_size), PageTokens(request, int)
        before = tokens.read(request.page_token)
        rows = await self._stores.pipelines.list_versions(name, size + 1, before)
        if not rows and before is None:
            raise unknown_pipeline(name, "name")
        return pb.ListPipelineVersionsResponse(
            versions=[encode.version(row) for row in rows[:size]],
            next_page_token=tokens.write(rows[size - 1].number) if len(rows) > size else "",
        )

    async def Delete(self, request: pb.DeletePipelineRequest, context: Context) -> pb.DeletePipelineResponse:
        name, key = _name(request), request_key(DELETE, request)
        live = await self._stores.runs.count_live(name)
        if live:
            if await first_answer(self._stores.runs, key) is not None:
                return pb.DeletePipelineResponse()
            raise failed_precondition(
                "name", "LIVE_RUNS", f"{live:,} runs of the pipeline are not at rest: cancel them or wait for their end"
            )
        deleted = await self._stores.pipelines.delete_pipeline(name, self._clock.now(), key)
        if isinstance(deleted, Repeated):
            same_answer(deleted)
        if not deleted:
            raise unknown_pipeline(name, "name")
        return pb.DeletePipelineResponse()

    async def Validate(self, request: pb.ValidatePipelineRequest, context: Context) -> pb.ValidatePipelineResponse:
        if not request.HasField("spec"):
            raise invalid("spec", "is required")
        found, secrets = await self._off_loop(
            request.spec, lambda: _validated(request.spec, self._limits, self._prices)
        )
        return pb.ValidatePipelineResponse(
            problems=[pb.Problem(field=each.field, description=each.description) for each in found],
            warnings=[
                *await secret_warnings(self._stores.secrets, secrets),
                *(
                    []
                    if found or not self._several()
                    else await self._off_loop(request.spec, lambda: _bound(request.spec))
                ),
            ],
        )

    async def DiffVersions(self, request: pb.DiffVersionsRequest, context: Context) -> pb.DiffVersionsResponse:
        name = name_of(request.pipeline, "pipeline", "a pipeline")
        number, other = count_of(request.number, "number"), count_of(request.other_number, "other_number")
        after = await self._version(name, other, "other_number")
        before = await self._version(name, number or await self._number_before(name, after.number), "number")

        def compare() -> pb.DiffVersionsResponse:
            old, new = PipelineSpec.FromString(before.spec), PipelineSpec.FromString(after.spec)
            return version_difference(before.number, after.number, difference(old, new))

        small = len(before.spec) + len(after.spec) <= SMALL_SPEC_BYTES
        return compare() if small else await asyncio.to_thread(compare)

    async def _version(self, name: str, number: int, field: str) -> VersionRow:
        """With its specification; 0 is the newest."""
        found = await self._stores.pipelines.get_version(name, number)
        if found is not None:
            return found
        if await self._stores.pipelines.get_pipeline(name) is None:
            raise unknown_pipeline(name, "pipeline")
        raise unknown_version(name, number, field)

    async def _number_before(self, name: str, number: int) -> int:
        rows = await self._stores.pipelines.list_versions(name, 1, number)
        if not rows:
            raise not_found(
                "number",
                "UNKNOWN_VERSION",
                f"the pipeline {name!r} has no version before {number}: name two versions to compare",
            )
        return rows[0].number

    async def _off_loop(self, spec: PipelineSpec, look: Callable[[], _T]) -> _T:
        # The size costs what writing the message does, so it is not asked for where the steps already tell.
        small = len(spec.steps) <= SMALL_SPEC_STEPS and spec.ByteSize() <= SMALL_SPEC_BYTES
        return look() if small else await asyncio.to_thread(look)

    async def _check_bundle(self, digest: str) -> None:
        if digest and digest not in await self._stores.bundles.present([digest], self._clock.now()):
            raise failed_precondition(
                "bundle_digest", "BUNDLE_MISSING", "no such bundle is stored: send it with BundleService.Upload first"
            )

    async def _check_sub_pipelines(self, spec: PipelineSpec) -> None:
        """They must be there, but for the pipeline itself, whose newest version this will be."""
        known: set[tuple[str, int]] = {(spec.name, 0)}
        for number, step in enumerate(spec.steps):
            wanted = (step.pipeline.name, step.pipeline.version_number)
            if step.WhichOneof("action") != "pipeline" or wanted in known:
                continue
            if await self._stores.pipelines.get_version(*wanted) is None:
                name, version = wanted
                what = f"there is no pipeline {name!r}"
                if version:
                    what = f"there is no version {version} of the pipeline {name!r}"
                field = f"steps[{number}].pipeline.{'version_number' if version else 'name'}"
                problem = Problem(field, f"{what}: apply it first")
                raise failed_precondition(field, "UNKNOWN_PIPELINE", _with_step(spec, problem))
            known.add(wanted)

    async def _pipeline(self, name: str) -> PipelineRow:
        row = await self._stores.pipelines.get_pipeline(name)
        if row is None:
            raise unknown_pipeline(name, "name")
        return row


@dataclass(frozen=True, slots=True)
class _Examined:
    """All that is made of a specification; without problems it can be stored."""

    key: RequestKey | None
    problems: list[Violation]
    digest: str = ""
    packed: bytes = b""
    secrets: tuple[NamedSecret, ...] = ()


def _examine(request: pb.CreatePipelineRequest, limits: Limits, prices: Prices) -> _Examined:
    found = _problems(request.spec, limits, prices)
    if found:
        return _Examined(None, found)
    return _Examined(
        request_key(CREATE, request),
        found,
        digest_of(request.spec),
        request.spec.SerializeToString(deterministic=True),
        named_secrets(request.spec),
    )


def _validated(spec: PipelineSpec, limits: Limits, prices: Prices) -> tuple[list[Violation], Sequence[NamedSecret]]:
    """What is wrong, and if nothing is, the secrets that steps name."""
    found = _problems(spec, limits, prices)
    return found, () if found else named_secrets(spec)


def _bound(spec: PipelineSpec) -> list[str]:
    cause = bound_by(compile_plan(spec, ""))
    return [f"runs of it are the head's alone, because {cause}"] if cause else []


def _name(request: Any) -> str:
    return name_of(request.name, "name", "a pipeline")


def _problems(spec: PipelineSpec, limits: Limits, prices: Prices = NO_PRICES) -> list[Violation]:
    """What the core finds wrong, and what it cannot see: fields that only a newer release knows. To leave them out
    without a word would make another pipeline of it. One that is too large is not looked at any further."""
    large = oversize(spec, limits)
    if large:
        return [Violation(each.field, each.description) for each in large]
    found = [Violation(each.field, _with_step(spec, each)) for each in problems(spec, limits)]
    priced = price_fault(spec, prices)
    if priced is not None:
        found.append(Violation(priced.field, priced.description))
    known = PipelineSpec()
    known.CopyFrom(spec)
    known.DiscardUnknownFields()
    if known.ByteSize() != spec.ByteSize():
        text = "the specification has fields that this release does not know: use a coordinator as new as the client"
        found.append(Violation("", text))
    return found


def _with_step(spec: PipelineSpec, problem: Problem) -> str:
    """The description with the name of the step that the path counts to: in YAML steps are told apart by names."""
    place = _OF_STEP.match(problem.field)
    name = spec.steps[int(place[1])].name if place else ""
    named = bool(name) and quoted(name) not in problem.description
    return f"in the step {quoted(name)}: {problem.description}" if named else problem.description

"""Starting runs: each request is checked and bound as a whole before the first run is accepted."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import TYPE_CHECKING, NamedTuple, Protocol

import grpc
from msgspec.structs import replace

from penstock.v1 import run_pb2, run_service_pb2
from penstock_coordinator.api.call_watch import note_tier
from penstock_coordinator.api.errors import CallError, Violation, invalid, invalid_fields, not_found
from penstock_coordinator.api.fields import count_of, labels_of, name_of, priority_of, trace_context_of, weight_of
from penstock_coordinator.api.request_ids import content_of, first_answer, key_of, same_answer
from penstock_coordinator.api.run_keys import claim_of, key_taken, uses_existing
from penstock_coordinator.api.start_batch import EXISTING, StartBatch, Started, first_start
from penstock_coordinator.core.plan.freedom import asked_bound_by, bound_by
from penstock_coordinator.core.plan.keys import InvalidKey, check_keys, has_expressions
from penstock_coordinator.core.plan.parameters import InvalidParameters, bind
from penstock_coordinator.core.plan.references import BadReference, may_refer, references_in
from penstock_coordinator.ports import PLAIN_ORIGIN, KeyTaken, NotNewest, Origin, Repeated, RequestRow, RunId
from penstock_coordinator.runtime.secrets import secret_warnings
from penstock_coordinator.runtime.views import RunRequest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from penstock.v1 import run_service_pb2 as pb
    from penstock_coordinator.api.versions import Declared, VersionFinder
    from penstock_coordinator.core.fleet.ownership import CoordinatorRow
    from penstock_coordinator.core.plan.limits import Limits
    from penstock_coordinator.core.plan.model import Plan
    from penstock_coordinator.ports import Clock, RequestKey, Stores, VersionRow
    from penstock_coordinator.runtime.engine import Engine
    from penstock_coordinator.runtime.outcomes import StartAnswer

START = "RunService.Start"
"""Also of the parts of StartMany: a request id means the same run in both."""
MAX_RUNS = 1_000
BREATH = 50
"""After so many requests others get their turn."""


class _Known(NamedTuple):
    """What one call has looked up and checked so far."""

    versions: dict[tuple[str, int], VersionRow]
    """By pipeline and wanted number."""
    requests: dict[bytes, RunRequest]
    """By their content without the id: what differs in nothing else is not checked again."""


class StartedMany(NamedTuple):
    run_ids: list[RunId]
    versions: tuple[VersionRow, ...]


class _Outdated(Exception):
    """What was remembered of the pipeline is not so any more."""


class Spreads(Protocol):
    def choose(self, plan: Plan, count: int) -> CoordinatorRow | None:
        """The member where so many runs of the plan, which are asked for by requests that are free, are to start; they
        count as sent there. None: here."""


class RunStarter:
    def __init__(
        self,
        engine: Engine,
        stores: Stores,
        versions: VersionFinder,
        limits: Limits,
        clock: Clock,
        spreading: Spreads | None = None,
    ) -> None:
        """`spreading`: of a head that may have members."""
        self._spreading = spreading
        self._clock = clock
        self._engine = engine
        self._runs = stores.runs
        self._index = stores.artifacts
        self._secrets = stores.secrets
        self._versions = versions
        self._limits = limits

    def place(self, requests: Sequence[pb.StartRunRequest]) -> CoordinatorRow | None:
        """The member that is to start them all, which counts as sent; None: they start here. Nothing is asked of the
        database: what is not known of a pipeline the first start here brings."""
        plans = [self._free_plan(each) for each in requests]
        plan = plans[0] if plans else None
        if self._spreading is None or plan is None or any(other is not plan for other in plans):
            return None
        return self._spreading.choose(plan, len(plans))

    def _free_plan(self, request: pb.StartRunRequest) -> Plan | None:
        """What the request asks for a run of, if nothing of the request binds it to the head."""
        name, number = request.pipeline, request.version_number
        version = self._versions.numbered(name, number) if number else self._versions.remembered(name)
        declared = None if version is None else self._versions.known(version)
        if version is None or declared is None:
            return None
        priority = request.priority if request.HasField("priority") else declared.priority
        bound = asked_bound_by(priority, request.weight or declared.weight, request.run_key)
        return None if bound else self._engine.known_plan(version.digest)

    async def start(self, request: pb.StartRunRequest) -> Started:
        """Durable when it returns."""
        remembered = self._remembered(request)
        self._engine.check_room(self._priority(request, remembered))
        if remembered is not None:
            with contextlib.suppress(CallError, _Outdated):
                return await self._start(request, remembered)
            self._versions.forget(request.pipeline)
        return await self._start(request, None)

    async def _start(self, request: pb.StartRunRequest, remembered: VersionRow | None) -> Started:
        prepared = await self._prepare(request, _Known({}, {}), remembered)
        if isinstance(prepared, Started):
            return prepared
        if prepared.claim is None:
            (answer,) = await self._engine.start_runs([prepared])
        else:
            async with self._engine.hold_run_keys([prepared.claim]):
                (answer,) = await self._engine.start_runs([prepared])
        if isinstance(answer, NotNewest):
            raise _Outdated
        return (await self._started(request, prepared, answer))._replace(version=prepared.version)

    async def warnings(self, *versions: VersionRow | None) -> list[str]:
        """What is worth saying of runs of these versions, although they were accepted."""
        declared = [self._versions.known(each) for each in versions if each is not None]
        named = [secret for each in declared if each is not None for secret in each.secrets]
        return await secret_warnings(self._secrets, named)

    def _priority(self, request: pb.StartRunRequest, remembered: VersionRow | None) -> int:
        """As far as it is known without a question to the database; else the highest."""
        if request.HasField("priority"):
            return request.priority
        declared = None if remembered is None else self._versions.known(remembered)
        return 1 if declared is None else declared.priority

    def _remembered(self, request: pb.StartRunRequest) -> VersionRow | None:
        """The version that is probably the newest, if that is what is asked for, and its commit can tell. It saves a
        question to the database, which takes a fifth of a start."""
        if request.version_number or request.run_key or not request.request_id:
            return None
        return self._versions.remembered(request.pipeline)

    async def start_many(self, requests: Sequence[pb.StartRunRequest]) -> StartedMany:
        """In their order. Equal requests with the same request id are one run. If one of them is refused, no run was
        started."""
        if not 1 <= len(requests) <= MAX_RUNS:
            raise invalid("requests", f"must be between 1 and {MAX_RUNS:,}, and there are {len(requests):,}")
        self._engine.check_room(min(self._priority(each, None) for each in requests), len(requests))
        batch = StartBatch(requests)
        known = _Known({}, {})
        for number, request in enumerate(requests):
            try:
                batch.add(await self._prepare(request, known))
            except CallError as error:
                raise error.within(f"requests[{number}]") from None
            if number % BREATH == 0:
                await asyncio.sleep(0)
        async with self._engine.hold_run_keys(batch.claims):
            await batch.look(self._runs)
            answers = await self._engine.start_runs(batch.new) if batch.new else []
            run_ids = await batch.started(answers, self._started, self._exists)
        return StartedMany(run_ids, tuple(known.versions.values()))

    async def _started(self, request: pb.StartRunRequest, prepared: RunRequest, answer: StartAnswer) -> Started:
        """The run that the request is answered with. Raises if its key is taken."""
        if isinstance(answer, bytes):
            return Started(answer, request=prepared)
        if isinstance(answer, Repeated):
            return first_start(same_answer(answer))
        assert isinstance(answer, KeyTaken), "a version that was looked for is not doubted"
        if not uses_existing(request, answer):
            raise key_taken(request, answer)
        return await self._exists(prepared, answer.run_id)

    async def _exists(self, prepared: RunRequest, run_id: RunId) -> Started:
        """The run that is there already is the answer."""
        if prepared.request is None:
            return Started(run_id, existing=True)
        # The same request means this run for ever, also when its key is free again.
        row = RequestRow(prepared.request, run_id + EXISTING)
        repeated = await self._runs.remember_request(row, self._clock.now())
        return Started(run_id, existing=True) if repeated is None else first_start(same_answer(repeated))

    async def _prepare(
        self, request: pb.StartRunRequest, known: _Known, remembered: VersionRow | None = None
    ) -> RunRequest | Started:
        """The run to be started, or the one that the same request started before. What is `remembered` is not looked
        up."""
        content = content_of(request)
        key = key_of(START, request.request_id, _asked(request, content)) if request.request_id else None
        alike = known.requests.get(content)
        if alike is not None:
            return replace(alike, request=key)
        try:
            bound = known.requests[content] = await self._bound(request, key, known.versions, remembered)
        except CallError:
            # What was accepted once stays accepted, whatever has become of the pipeline.
            answer = await first_answer(self._runs, key)
            if answer is None:
                raise
            return first_start(answer)
        return bound

    async def _bound(
        self,
        request: pb.StartRunRequest,
        key: RequestKey | None,
        found: dict[tuple[str, int], VersionRow],
        remembered: VersionRow | None,
    ) -> RunRequest:
        wanted = (
            name_of(request.pipeline, "pipeline", "a pipeline"),
            count_of(request.version_number, "version_number"),
        )
        version = remembered or found.get(wanted)
        if version is None:
            version = found[wanted] = await self._versions.find(*wanted)
        declared = await self._versions.declared(version)
        try:
            parameters = bind(declared.parameters, request.parameters, self._limits)
        except InvalidParameters as error:
            violations = [Violation(each.field, each.description) for each in error.problems]
            raise invalid_fields(violations, "INVALID_PARAMETERS") from None
        plan = await self._engine.plan(version.digest)
        note_tier(plan.slo_tier)
        origin = _origin(request, declared, self._limits)
        if self._engine.is_member and (
            bound_by(plan) or asked_bound_by(origin.priority, origin.weight, origin.run_key)
        ):
            raise _not_free()
        _check_keys(plan, parameters)
        labels = {**declared.labels, **labels_of(request.labels, "labels", self._limits)}
        return RunRequest(
            plan=plan,
            version=version,
            parameters=parameters,
            labels=tuple(sorted(labels.items())),
            trace_context=trace_context_of(request.trace_context, "trace_context"),
            request=key,
            origin=origin,
            claim=claim_of(request),
            only_if_newest=remembered is not None,
            uses=await self._artifacts(parameters) if may_refer(parameters) else (),
        )

    async def _artifacts(self, parameters: bytes) -> tuple[tuple[str, str], ...]:
        """(parameter, digest) of the artifacts that the parameters refer to, all of which are there."""
        uses: list[tuple[str, str]] = []
        for name, value in json.loads(parameters).items():
            try:
                uses += [(name, each.digest) for each in references_in(value)]
            except BadReference as error:
                raise invalid(f"parameters.{name}", str(error)) from None
        absent = {digest for _, digest in uses} - await self._index.known({digest for _, digest in uses})
        for name, digest in uses:
            if digest in absent:
                raise not_found(
                    f"parameters.{name}",
                    "UNKNOWN_ARTIFACT",
                    f"the parameter {name!r} refers to the artifact {digest}, which is not there, or not any more:"
                    " `penstock artifacts list` (List) shows those that there are",
                )
        return tuple(uses)


def _asked(request: pb.StartRunRequest, content: bytes) -> bytes:
    """What makes two requests the same: whoever repeats one may do so from another span."""
    if not request.trace_context:
        return content
    bare = run_service_pb2.StartRunRequest()
    bare.CopyFrom(request)
    bare.ClearField("trace_context")
    return content_of(bare)


def _check_keys(plan: Plan, parameters: bytes) -> None:
    """Whether the keys of limits can be made of the parameters."""
    if not has_expressions(plan):
        return
    try:
        check_keys(plan, json.loads(parameters))
    except InvalidKey as error:
        raise invalid("parameters", f"{error.field} makes no key of them: {error}") from None


def _not_free() -> CallError:
    """The head thought so, by a version of the pipeline that is not the newest any more."""
    text = "the run shares something with others, and only the head may start it: repeat the call"
    return CallError(grpc.StatusCode.UNAVAILABLE, "NOT_FREE", text, retry_after=100_000)


def _cache_mode(mode: int) -> int:
    if mode not in run_pb2.CacheMode.values():
        raise invalid("cache_mode", f"{mode} is not known: use one of the CacheMode enum")
    return mode or run_pb2.CACHE_MODE_USE


def _origin(request: pb.StartRunRequest, declared: Declared, limits: Limits) -> Origin:
    origin = Origin(
        priority=priority_of(request.priority, "priority", limits)
        if request.HasField("priority")
        else declared.priority,
        weight=weight_of(request.weight, "weight", limits) or declared.weight,
        run_key=request.run_key,
        cache=_cache_mode(request.cache_mode),
    )
    return PLAIN_ORIGIN if origin == PLAIN_ORIGIN else origin

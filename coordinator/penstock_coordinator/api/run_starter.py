"""Starting runs: each request is checked and bound as a whole before the first run is accepted."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING

from penstock_coordinator.api.errors import CallError, Violation, invalid, invalid_fields
from penstock_coordinator.api.fields import count_of, labels_of, name_of, priority_of, trace_context_of, weight_of
from penstock_coordinator.api.request_ids import first_answer, request_key, same_answer
from penstock_coordinator.core.plan.parameters import InvalidParameters, bind
from penstock_coordinator.ports import Origin, Repeated
from penstock_coordinator.runtime.views import RunRequest

if TYPE_CHECKING:
    from penstock.v1 import run_service_pb2 as pb
    from penstock_coordinator.api.versions import Declared, VersionFinder
    from penstock_coordinator.core.plan.limits import Limits
    from penstock_coordinator.ports import RequestKey, RunId, RunIndex, VersionRow
    from penstock_coordinator.runtime.engine import Engine

START = "RunService.Start"
"""Also of the parts of StartMany: a request id means the same run in both."""
MAX_RUNS = 1_000
BREATH = 50
"""After so many requests others get their turn."""


class RunStarter:
    def __init__(self, engine: Engine, runs: RunIndex, versions: VersionFinder, limits: Limits) -> None:
        self._engine = engine
        self._runs = runs
        self._versions = versions
        self._limits = limits

    async def start(self, request: pb.StartRunRequest) -> RunId:
        """Durable when it returns."""
        prepared = await self._prepare(request, {})
        if isinstance(prepared, bytes):
            return prepared
        (answer,) = await self._engine.start_runs([prepared])
        return run_id_of(answer)

    async def start_many(self, requests: Sequence[pb.StartRunRequest]) -> list[RunId]:
        """In their order. Equal requests with the same request id are one run."""
        if not 1 <= len(requests) <= MAX_RUNS:
            raise invalid("requests", f"must be between 1 and {MAX_RUNS:,}, and there are {len(requests):,}")
        batch = _Batch()
        found: dict[tuple[str, int], VersionRow] = {}
        for number, request in enumerate(requests):
            try:
                batch.add(await self._prepare(request, found))
            except CallError as error:
                raise error.within(f"requests[{number}]") from None
            if number % BREATH == 0:
                await asyncio.sleep(0)
        return batch.run_ids(await self._engine.start_runs(batch.new) if batch.new else [])

    async def _prepare(
        self, request: pb.StartRunRequest, found: dict[tuple[str, int], VersionRow]
    ) -> RunRequest | RunId:
        """The run to be started, or the one that the same request started before. `found` keeps versions that were
        looked up in this call."""
        key = request_key(START, request)
        try:
            return await self._bound(request, key, found)
        except CallError:
            # What was accepted once stays accepted, whatever has become of the pipeline.
            answer = await first_answer(self._runs, key)
            if answer is None:
                raise
            return answer

    async def _bound(
        self, request: pb.StartRunRequest, key: RequestKey | None, found: dict[tuple[str, int], VersionRow]
    ) -> RunRequest:
        wanted = (
            name_of(request.pipeline, "pipeline", "a pipeline"),
            count_of(request.version_number, "version_number"),
        )
        version = found.get(wanted)
        if version is None:
            version = found[wanted] = await self._versions.find(*wanted)
        declared = await self._versions.declared(version)
        try:
            parameters = bind(declared.parameters, request.parameters, self._limits)
        except InvalidParameters as error:
            violations = [Violation(each.field, each.description) for each in error.problems]
            raise invalid_fields(violations, "INVALID_PARAMETERS") from None
        labels = {**declared.labels, **labels_of(request.labels, "labels", self._limits)}
        return RunRequest(
            plan=await self._engine.plan(version.digest),
            version=version,
            parameters=parameters,
            labels=tuple(sorted(labels.items())),
            trace_context=trace_context_of(request.trace_context, "trace_context"),
            request=key,
            origin=_origin(request, declared, self._limits),
        )


def _origin(request: pb.StartRunRequest, declared: Declared, limits: Limits) -> Origin:
    return Origin(
        priority=priority_of(request.priority, "priority", limits)
        if request.HasField("priority")
        else declared.priority,
        weight=weight_of(request.weight, "weight", limits) or declared.weight,
    )


class _Batch:
    """The runs that one call asks for: those to be started, and those that are there already."""

    def __init__(self) -> None:
        self.new: list[RunRequest] = []
        self._places: list[int | RunId] = []
        """For each request the position in `new`, or the run that it started before."""
        self._known: dict[str, int] = {}
        """Positions in `new` by request id."""

    def add(self, prepared: RunRequest | RunId) -> None:
        """Raises if another request of the call has the same id and other content."""
        if isinstance(prepared, bytes):
            self._places.append(prepared)
            return
        key = prepared.request
        place = None if key is None else self._known.get(key.id)
        if place is None:
            place = len(self.new)
            self.new.append(prepared)
            if key is not None:
                self._known[key.id] = place
        elif self.new[place].request != key:
            raise invalid("request_id", "comes twice in this call, with other content: choose a new id for each run")
        self._places.append(place)

    def run_ids(self, answers: Sequence[RunId | Repeated]) -> list[RunId]:
        run_ids = []
        for number, place in enumerate(self._places):
            try:
                run_ids.append(place if isinstance(place, bytes) else run_id_of(answers[place]))
            except CallError as error:
                raise error.within(f"requests[{number}]") from None
        return run_ids


def run_id_of(answer: RunId | Repeated) -> RunId:
    return same_answer(answer) if isinstance(answer, Repeated) else answer

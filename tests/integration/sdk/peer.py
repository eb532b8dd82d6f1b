"""A coordinator's wire, scripted: the client's peer in these tests, on a real gRPC server.

It keeps what it is told in memory, runs nothing, and plays the events that the test writes.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections import deque
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
from google.protobuf import any_pb2, duration_pb2, struct_pb2
from google.rpc import code_pb2, error_details_pb2, status_pb2  # type: ignore[import-untyped]  # no stubs
from grpc_status import rpc_status

from penstock.v1 import (
    agent_admin_service_pb2,
    agent_admin_service_pb2_grpc,
    bundle_service_pb2,
    bundle_service_pb2_grpc,
    pipeline_pb2,
    pipeline_service_pb2,
    pipeline_service_pb2_grpc,
    run_pb2,
    run_service_pb2,
    run_service_pb2_grpc,
)

BASE_TIME = 1_790_000_000
KEEPALIVE = (("grpc.http2.min_ping_interval_without_data_ms", 5_000), ("grpc.so_reuseport", 0))


@dataclass
class Fault:
    """What the next call of a method ends with instead of an answer."""

    code: grpc.StatusCode
    message: str = "scripted"
    details: tuple[Any, ...] = ()
    # The call takes effect and its answer is lost.
    after: bool = False


@dataclass
class Peer:
    """What was stored and called, and what goes wrong next."""

    pipelines: dict[str, list[pipeline_pb2.PipelineVersion]] = field(default_factory=dict)
    bundles: dict[str, bytes] = field(default_factory=dict)
    runs: dict[str, run_pb2.Run] = field(default_factory=dict)
    events: dict[str, list[run_service_pb2.Event]] = field(default_factory=dict)
    step_runs: dict[str, list[run_pb2.StepRun]] = field(default_factory=dict)
    lines: list[run_service_pb2.LogLine] = field(default_factory=list)
    agents: list[agent_admin_service_pb2.Agent] = field(default_factory=list)
    explained: list[run_service_pb2.StepExplanation] = field(default_factory=list)
    problems: list[tuple[str, str]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    faults: dict[str, deque[Fault]] = field(default_factory=dict)
    # Streams: each entry ends one stream after so many messages, with UNAVAILABLE or, negative, without error.
    # WaitMany takes one before each run, and ends there unless it is None.
    breaks: deque[int | None] = field(default_factory=deque)
    calls: list[tuple[str, Any]] = field(default_factory=list)
    metadata: list[dict[str, str]] = field(default_factory=list)
    requests: dict[str, str] = field(default_factory=dict)
    # Runs whose end is withheld until the test sets the event.
    gate: asyncio.Event | None = None
    gated: asyncio.Event = field(default_factory=asyncio.Event)
    address: str = ""
    page_size: int = 1_000

    def fail(self, method: str, *faults: Fault) -> None:
        self.faults.setdefault(method, deque()).extend(faults)

    def called(self, method: str) -> list[Any]:
        return [request for name, request in self.calls if name == method]

    async def enter(self, method: str, request: Any, context: Any) -> Fault | None:
        """Notes the call. Ends it if a fault is due; a fault that comes after the effect is handed back."""
        self.calls.append((method, request))
        self.metadata.append({key: str(value) for key, value in context.invocation_metadata() or ()})
        waiting = self.faults.get(method)
        if not waiting:
            return None
        fault = waiting.popleft()
        if not fault.after:
            await abort(context, fault)
        return fault

    def add_run(self, spec: pipeline_pb2.PipelineSpec, version: int) -> run_pb2.Run:
        """A run whose every step completes with its own name as output."""
        number = len(self.runs) + 1
        run = run_pb2.Run(
            id=f"run-{number}",
            pipeline=spec.name,
            version_number=version,
            state=run_pb2.RUN_STATE_RUNNING,
            generation=1,
        )
        run.create_time.FromSeconds(BASE_TIME)
        run.start_time.FromSeconds(BASE_TIME)
        self.runs[run.id] = run
        self.events[run.id] = list(completed_events([step.name for step in spec.steps]))
        self.step_runs[run.id] = [completed_step(run.id, step.name) for step in spec.steps]
        return run


async def abort(context: Any, fault: Fault) -> None:
    details = []
    for detail in fault.details:
        packed = any_pb2.Any()
        packed.Pack(detail)
        details.append(packed)
    status = status_pb2.Status(code=code_pb2.Code.Value(fault.code.name), message=fault.message, details=details)
    await context.abort_with_status(rpc_status.to_status(status))


def bad_request(field_name: str, description: str) -> Any:
    violation = error_details_pb2.BadRequest.FieldViolation(field=field_name, description=description)
    return error_details_pb2.BadRequest(field_violations=[violation])


def error_info(reason: str, **metadata: str) -> Any:
    return error_details_pb2.ErrorInfo(reason=reason, domain="penstock", metadata=metadata)


def retry_info(seconds: float) -> Any:
    delay = duration_pb2.Duration()
    delay.FromNanoseconds(round(seconds * 10**9))
    return error_details_pb2.RetryInfo(retry_delay=delay)


def event(
    number: int,
    *changes: run_service_pb2.StepChange,
    state: run_pb2.RunState.ValueType = run_pb2.RUN_STATE_UNSPECIFIED,
    reason: str = "",
) -> run_service_pb2.Event:
    message = run_service_pb2.Event(number=number, type="Scripted", steps=changes, run_state=state, run_reason=reason)
    message.time.FromMilliseconds(BASE_TIME * 1_000 + number * 250)
    return message


def change(step: str, state: run_pb2.StepRunState.ValueType, **members: Any) -> run_service_pb2.StepChange:
    return run_service_pb2.StepChange(step=step, state=state, **members)


def completed_events(steps: Iterable[str]) -> Iterable[run_service_pb2.Event]:
    number = 1
    yield event(number, state=run_pb2.RUN_STATE_RUNNING)
    for step in steps:
        yield event(number + 1, change(step, run_pb2.STEP_RUN_STATE_RUNNING, attempt=1, agent_id="agent-1"))
        yield event(number + 2, change(step, run_pb2.STEP_RUN_STATE_COMPLETED, attempt=1))
        number += 2
    yield event(number + 1, state=run_pb2.RUN_STATE_COMPLETED)


def completed_step(run_id: str, step: str) -> run_pb2.StepRun:
    message = run_pb2.StepRun(
        run_id=run_id,
        step=step,
        display_name=step,
        state=run_pb2.STEP_RUN_STATE_COMPLETED,
        attempt_count=1,
        output_json=json.dumps(step),
        agent_id="agent-1",
    )
    message.start_time.FromSeconds(BASE_TIME)
    message.end_time.FromSeconds(BASE_TIME + 2)
    return message


AT_REST = (run_pb2.RUN_STATE_COMPLETED, run_pb2.RUN_STATE_FAILED, run_pb2.RUN_STATE_CANCELLED)


class Pipelines(pipeline_service_pb2_grpc.PipelineServiceServicer):
    def __init__(self, peer: Peer) -> None:
        self.peer = peer

    async def Create(self, request: Any, context: Any) -> Any:
        lost = await self.peer.enter("Create", request, context)
        spec = request.spec
        if spec.bundle_digest and spec.bundle_digest not in self.peer.bundles:
            await abort(context, Fault(grpc.StatusCode.FAILED_PRECONDITION, "the bundle is not uploaded"))
        digest = hashlib.sha256(spec.SerializeToString(deterministic=True)).hexdigest()
        versions = self.peer.pipelines.setdefault(spec.name, [])
        created = all(version.digest != digest for version in versions)
        if created:
            versions.append(
                pipeline_pb2.PipelineVersion(
                    pipeline=spec.name,
                    number=len(versions) + 1,
                    digest=digest,
                    spec=spec,
                    step_count=len(spec.steps),
                )
            )
        if lost:
            await abort(context, lost)
        version = next(version for version in versions if version.digest == digest)
        return pipeline_service_pb2.CreatePipelineResponse(
            version=version, created=created, warnings=self.peer.warnings
        )

    async def Get(self, request: Any, context: Any) -> Any:
        await self.peer.enter("GetPipeline", request, context)
        versions = self.peer.pipelines.get(request.name)
        if not versions:
            info = error_info("PIPELINE_NOT_FOUND", pipeline=request.name)
            await abort(context, Fault(grpc.StatusCode.NOT_FOUND, f"there is no pipeline {request.name!r}", (info,)))
            raise AssertionError
        pipeline = pipeline_pb2.Pipeline(name=request.name, latest_version=versions[-1])
        version = versions[(request.version_number or len(versions)) - 1]
        return pipeline_service_pb2.GetPipelineResponse(pipeline=pipeline, version=version)

    async def List(self, request: Any, context: Any) -> Any:
        await self.peer.enter("ListPipelines", request, context)
        names = sorted(self.peer.pipelines)
        start = int(request.page_token or 0)
        page = names[start : start + self.peer.page_size]
        end = start + len(page)
        return pipeline_service_pb2.ListPipelinesResponse(
            pipelines=[pipeline_pb2.Pipeline(name=name, latest_version=self.peer.pipelines[name][-1]) for name in page],
            next_page_token=str(end) if end < len(names) else "",
        )

    async def ListVersions(self, request: Any, context: Any) -> Any:
        await self.peer.enter("ListVersions", request, context)
        versions = self.peer.pipelines.get(request.name, [])
        return pipeline_service_pb2.ListPipelineVersionsResponse(versions=reversed(versions))

    async def Delete(self, request: Any, context: Any) -> Any:
        await self.peer.enter("Delete", request, context)
        del self.peer.pipelines[request.name]
        return pipeline_service_pb2.DeletePipelineResponse()

    async def Validate(self, request: Any, context: Any) -> Any:
        await self.peer.enter("Validate", request, context)
        problems = [pipeline_service_pb2.Problem(field=name, description=text) for name, text in self.peer.problems]
        return pipeline_service_pb2.ValidatePipelineResponse(problems=problems, warnings=self.peer.warnings)

    async def DiffVersions(self, request: Any, context: Any) -> Any:
        raise NotImplementedError


class Bundles(bundle_service_pb2_grpc.BundleServiceServicer):
    def __init__(self, peer: Peer) -> None:
        self.peer = peer

    async def Has(self, request: Any, context: Any) -> Any:
        await self.peer.enter("Has", request, context)
        present = [digest for digest in request.digests if digest in self.peer.bundles]
        return bundle_service_pb2.HasBundlesResponse(present_digests=present)

    async def Get(self, request: Any, context: Any) -> AsyncIterator[Any]:
        await self.peer.enter("GetBundle", request, context)
        data = self.peer.bundles[request.digest]
        yield bundle_service_pb2.GetBundleResponse(size_bytes=len(data), chunk=data)

    async def Upload(self, request_iterator: Any, context: Any) -> Any:
        messages = [message async for message in request_iterator]
        await self.peer.enter("Upload", messages, context)
        data = b"".join(message.chunk for message in messages)
        digest = hashlib.sha256(data).hexdigest()
        assert (digest, len(data)) == (messages[0].digest, messages[0].size_bytes)
        self.peer.bundles[digest] = data
        return bundle_service_pb2.UploadBundleResponse(digest=digest, created=True)


class Runs(run_service_pb2_grpc.RunServiceServicer):
    def __init__(self, peer: Peer) -> None:
        self.peer = peer

    async def Start(self, request: Any, context: Any) -> Any:
        lost = await self.peer.enter("Start", request, context)
        run = self._start(request)
        if lost:
            await abort(context, lost)
        return run_service_pb2.StartRunResponse(warnings=self.peer.warnings, run=run)

    async def StartMany(self, request: Any, context: Any) -> Any:
        await self.peer.enter("StartMany", request, context)
        run_ids = [self._start(each).id for each in request.requests]
        return run_service_pb2.StartManyRunsResponse(warnings=self.peer.warnings, run_ids=run_ids)

    def _start(self, request: Any) -> run_pb2.Run:
        known = self.peer.requests.get(request.request_id)
        if known:
            return self.peer.runs[known]
        versions = self.peer.pipelines[request.pipeline]
        version = versions[(request.version_number or len(versions)) - 1]
        run = self.peer.add_run(version.spec, version.number)
        for name, value in request.parameters.items():
            run.parameters[name].CopyFrom(value)
        run.labels.update(request.labels)
        run.priority = request.priority if request.HasField("priority") else version.spec.priority
        run.weight = request.weight or version.spec.weight or 1.0
        self.peer.requests[request.request_id] = run.id
        return run

    async def Get(self, request: Any, context: Any) -> Any:
        await self.peer.enter("GetRun", request, context)
        return run_service_pb2.GetRunResponse(run=await self._find(request.run_id, context))

    async def _find(self, run_id: str, context: Any) -> run_pb2.Run:
        run = self.peer.runs.get(run_id)
        if run is None:
            await abort(context, Fault(grpc.StatusCode.NOT_FOUND, f"there is no run {run_id!r}"))
            raise AssertionError
        return run

    async def List(self, request: Any, context: Any) -> Any:
        await self.peer.enter("ListRuns", request, context)
        runs = [run for run in reversed(self.peer.runs.values()) if not request.states or run.state in request.states]
        if request.parent_run_id:
            runs = [run for run in runs if run.parent.run_id == request.parent_run_id]
        start = int(request.page_token or 0)
        page = runs[start : start + min(request.page_size or 50, self.peer.page_size)]
        end = start + len(page)
        return run_service_pb2.ListRunsResponse(runs=page, next_page_token=str(end) if end < len(runs) else "")

    async def WaitMany(self, request: Any, context: Any) -> AsyncIterator[Any]:
        await self.peer.enter("WaitMany", request, context)
        runs = [await self._find(run_id, context) for run_id in request.run_ids]
        for run in runs:
            ends_after = self.peer.breaks.popleft() if self.peer.breaks else None
            if ends_after is not None:
                if ends_after >= 0:
                    await abort(context, Fault(grpc.StatusCode.UNAVAILABLE, "going away"))
                return
            if self.peer.gate:
                self.peer.gated.set()
                await self.peer.gate.wait()
            end = next((each for each in self.peer.events[run.id] if each.run_state in AT_REST), None)
            if end is not None:
                run.state, run.reason, run.last_event = end.run_state, end.run_reason, end.number
            yield run_service_pb2.WaitManyRunsResponse(runs=[run])

    async def Watch(self, request: Any, context: Any) -> AsyncIterator[Any]:
        await self.peer.enter("Watch", request, context)
        run = await self._find(request.run_id, context)
        ends_after = self.peer.breaks.popleft() if self.peer.breaks else None
        sent = 0
        for message in self.peer.events[run.id]:
            if message.number < request.from_event:
                continue
            if sent == ends_after:
                await abort(context, Fault(grpc.StatusCode.UNAVAILABLE, "going away"))
            if ends_after is not None and sent == -ends_after:
                return
            if message.run_state in AT_REST and self.peer.gate:
                self.peer.gated.set()
                await self.peer.gate.wait()
            yield run_service_pb2.WatchRunResponse(events=[message])
            sent += 1
            if message.run_state:
                run.state, run.reason = message.run_state, message.run_reason
            run.last_event = message.number

    async def Cancel(self, request: Any, context: Any) -> Any:
        await self.peer.enter("Cancel", request, context)
        run = await self._find(request.run_id, context)
        run.state = run_pb2.RUN_STATE_CANCELLED
        return run_service_pb2.CancelRunResponse(run=run)

    async def ListStepRuns(self, request: Any, context: Any) -> Any:
        await self.peer.enter("ListStepRuns", request, context)
        await self._find(request.run_id, context)
        found = self.peer.step_runs[request.run_id]
        if request.step:
            found = [each for each in found if each.step == request.step and each.item]
        else:
            found = [each for each in found if not each.item]
        return run_service_pb2.ListStepRunsResponse(
            step_runs=[each for each in found if not request.states or each.state in request.states]
        )

    async def GetStepRun(self, request: Any, context: Any) -> Any:
        await self.peer.enter("GetStepRun", request, context)
        for step_run in self.peer.step_runs.get(request.run_id, ()):
            if step_run.step == request.step and list(step_run.item) == list(request.item):
                attempt = run_pb2.Attempt(number=1, agent_id="agent-1", outcome=run_pb2.ATTEMPT_OUTCOME_COMPLETED)
                attempt.start_time.FromSeconds(BASE_TIME)
                attempt.end_time.FromSeconds(BASE_TIME + 2)
                attempt.cpu_duration.FromMilliseconds(1_500)
                attempt.peak_memory_bytes = (64 << 20) + 1_000
                return run_service_pb2.GetStepRunResponse(step_run=step_run, attempts=[attempt])
        info = error_info("UNKNOWN_STEP_RUN")
        await abort(context, Fault(grpc.StatusCode.NOT_FOUND, f"there is no step {request.step!r}", (info,)))
        raise AssertionError

    async def TailLogs(self, request: Any, context: Any) -> AsyncIterator[Any]:
        await self.peer.enter("TailLogs", request, context)
        ends_after = self.peer.breaks.popleft() if self.peer.breaks else None
        lines = [line for line in self.peer.lines if request.step in ("", line.step)]
        if request.tail_lines:
            lines = lines[-request.tail_lines :]
        for sent, line in enumerate(lines):
            if sent == ends_after:
                await abort(context, Fault(grpc.StatusCode.UNAVAILABLE, "going away"))
            yield run_service_pb2.TailLogsResponse(lines=[line])

    async def Pause(self, request: Any, context: Any) -> Any:
        raise NotImplementedError

    async def Resume(self, request: Any, context: Any) -> Any:
        raise NotImplementedError

    async def Retry(self, request: Any, context: Any) -> Any:
        raise NotImplementedError

    async def RerunStep(self, request: Any, context: Any) -> Any:
        raise NotImplementedError

    async def Rollback(self, request: Any, context: Any) -> Any:
        raise NotImplementedError

    async def Explain(self, request: Any, context: Any) -> Any:
        await self.peer.enter("Explain", request, context)
        return run_service_pb2.ExplainRunResponse(run=self.peer.runs[request.run_id], steps=self.peer.explained)

    async def Diff(self, request: Any, context: Any) -> Any:
        raise NotImplementedError


class Agents(agent_admin_service_pb2_grpc.AgentAdminServiceServicer):
    def __init__(self, peer: Peer) -> None:
        self.peer = peer

    async def List(self, request: Any, context: Any) -> Any:
        await self.peer.enter("ListAgents", request, context)
        return agent_admin_service_pb2.ListAgentsResponse(agents=self.peer.agents)

    async def Get(self, request: Any, context: Any) -> Any:
        await self.peer.enter("GetAgent", request, context)
        agent = next(agent for agent in self.peer.agents if agent.id == request.agent_id)
        return agent_admin_service_pb2.GetAgentResponse(agent=agent)

    async def Drain(self, request: Any, context: Any) -> Any:
        await self.peer.enter("Drain", request, context)
        agent = next(agent for agent in self.peer.agents if agent.id == request.agent_id)
        agent.state = agent_admin_service_pb2.AGENT_STATE_DRAINING
        return agent_admin_service_pb2.DrainAgentResponse(agent=agent)

    async def Pause(self, request: Any, context: Any) -> Any:
        await self.peer.enter("PauseAgent", request, context)
        return agent_admin_service_pb2.PauseAgentResponse(agent=self._paused(request.agent_id, paused=True))

    async def Resume(self, request: Any, context: Any) -> Any:
        await self.peer.enter("ResumeAgent", request, context)
        return agent_admin_service_pb2.ResumeAgentResponse(agent=self._paused(request.agent_id, paused=False))

    def _paused(self, agent_id: str, *, paused: bool) -> agent_admin_service_pb2.Agent:
        agent = next(agent for agent in self.peer.agents if agent.id == agent_id)
        agent.paused = paused
        return agent


@asynccontextmanager
async def serving(peer: Peer, port: int = 0) -> AsyncIterator[Peer]:
    """The peer on a free port of the loopback, or on `port`."""
    server = grpc.aio.server(options=KEEPALIVE)
    pipeline_service_pb2_grpc.add_PipelineServiceServicer_to_server(Pipelines(peer), server)
    bundle_service_pb2_grpc.add_BundleServiceServicer_to_server(Bundles(peer), server)
    run_service_pb2_grpc.add_RunServiceServicer_to_server(Runs(peer), server)
    agent_admin_service_pb2_grpc.add_AgentAdminServiceServicer_to_server(Agents(peer), server)
    bound = server.add_insecure_port(f"127.0.0.1:{port}")
    peer.address = f"127.0.0.1:{bound}"
    await server.start()
    try:
        yield peer
    finally:
        await server.stop(None)


def number(value: float) -> struct_pb2.Value:
    return struct_pb2.Value(number_value=value)


def line(step: str, count: int, text: str, attempt: int = 1, item: tuple[int, ...] = ()) -> Any:
    message = run_service_pb2.LogLine(
        step=step, item=item, attempt=attempt, stream=run_service_pb2.LOG_STREAM_STDOUT, text=text, number=count
    )
    message.receive_time.FromMilliseconds(BASE_TIME * 1_000 + count)
    return message

"""Between the words of the protocol and those of the core. Nothing here decides."""

from __future__ import annotations

import os
import re
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TypeVar

import msgspec
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message

from penstock.agent.v1 import agent_service_pb2 as wire
from penstock_agent.artifacts.service import Access
from penstock_agent.containers.orders import Bounds, ContainerOrders, Image
from penstock_agent.core.leases import Handle, Held, Lease, LeaseKey, Phase, Restored, Result, Status
from penstock_agent.environments.order import PythonOrder, activated
from penstock_agent.executors.channel import (
    CommandWork,
    ContainerWork,
    Failure,
    Finished,
    FunctionWork,
    GivenSecret,
    Task,
)
from penstock_agent.executors.warm import WorkerKind
from penstock_agent.executors.worker.traces import derived_traceparent, is_sampled
from penstock_agent.resources.gpus import variables
from penstock_agent.resources.machine import CPU, MEMORY

M = TypeVar("M", bound=Message)

MAX_MESSAGE_BYTES = 1 << 20
MAX_ITEMS = 500
_HEADROOM = 4 * 1024
_TRACEPARENT = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}(?:-.*)?")


def span(microseconds: int) -> Duration:
    return Duration(seconds=microseconds // 1_000_000, nanos=microseconds % 1_000_000 * 1_000)


def _set_span(duration: Duration, microseconds: int) -> None:
    """Also of nothing: it is said, not left out."""
    duration.seconds, duration.nanos = microseconds // 1_000_000, microseconds % 1_000_000 * 1_000


def microseconds(duration: Duration) -> int:
    return duration.seconds * 1_000_000 + duration.nanos // 1_000


def lease_ref(key: LeaseKey, token: int) -> wire.LeaseRef:
    return wire.LeaseRef(run_id=key[0], step=key[1], item=key[2], token=token)


def lease_key(ref: wire.LeaseRef) -> LeaseKey:
    return ref.run_id, ref.step, ref.item


@lru_cache(maxsize=4096)
def run_name(run_id: bytes) -> str:
    return str(uuid.UUID(bytes=run_id)) if len(run_id) == 16 else run_id.hex()


class UnknownTask(Exception):
    """A kind of task that this version does not know."""


@dataclass(frozen=True, slots=True)
class TaskKind:
    """A row of the session's table of tasks."""

    kind: WorkerKind
    action: FunctionWork | CommandWork
    bundle_digest: str
    timeout: int | None
    stop_grace: int | None
    resources: Mapping[str, float] = field(default_factory=dict)
    allow_pickle: bool = False
    secrets: tuple[wire.TaskSecret, ...] = ()
    environment: PythonOrder | None = None
    """None: the agent's own."""
    env: Mapping[str, str] = field(default_factory=dict)
    image: Image | None = None
    """What its attempts run in; None: they are processes of this machine."""


@dataclass(frozen=True, slots=True)
class OutputLimits:
    """In bytes of JSON. `inline` 0: there is no artifact store."""

    largest: int
    inline: int


class Work(msgspec.Struct, frozen=True):
    """What a lease asks for; opaque to the core."""

    grant: wire.LeaseGrant
    ref: wire.LeaseRef
    kind: TaskKind
    inputs: dict[str, bytes]
    """As JSON."""

    @property
    def access(self) -> Access:
        return Access(self.ref, self.grant.credential)

    @property
    def traced(self) -> bool:
        """The trace of its run is sampled."""
        context = self.grant.trace_context
        return bool(context) and is_sampled(context.get("traceparent", ""))

    @property
    def names(self) -> dict[str, object]:
        """What lines of the agent's own log about this attempt have in common with those of the coordinator."""
        run = run_name(self.ref.run_id)
        names: dict[str, object] = {"run": run, "step": self.grant.step_name}
        if self.ref.item >= 0:
            names["item"] = self.ref.item
        names["attempt"] = self.grant.attempt
        given = self.grant.trace_context.get("traceparent", "")
        trace = _TRACEPARENT.fullmatch(derived_traceparent(run) if self.grant.unsampled else given)
        if trace is not None:
            names["trace"] = trace[1]
        return names

    @property
    def memory_bytes(self) -> int:
        """The limit of this attempt; 0: none."""
        return self.grant.memory_bytes or int(self.kind.resources.get(MEMORY, 0))

    def wants(self) -> Mapping[str, float]:
        """What this attempt asks the agent for."""
        given = self.kind.resources
        return {**given, MEMORY: float(self.grant.memory_bytes)} if self.grant.memory_bytes else given

    def worker_kind(self, devices: tuple[str, ...]) -> WorkerKind:
        """In which processes it can run."""
        kind = self.kind.kind
        if kind.command or not (devices or self.memory_bytes):
            return kind
        return msgspec.structs.replace(kind, memory_bytes=self.memory_bytes, devices=devices)

    def task(
        self,
        lease: Lease,
        bundle_dir: str,
        limits: OutputLimits,
        files: dict[str, str],
        devices: tuple[str, ...] = (),
        secrets: list[GivenSecret] | None = None,
        home: str = "",
        container: ContainerWork | None = None,
        lines_before: int = 0,
    ) -> Task:
        """`files`: of the artifacts that the inputs refer to; `home`: of the environment of a command."""
        grant, action = self.grant, self.kind.action
        if isinstance(action, CommandWork) and home:
            action = msgspec.structs.replace(action, env=_activated(action.env, home))
        if isinstance(action, CommandWork) and (bundle_dir or devices):
            env = {**variables(devices), **action.env}
            action = msgspec.structs.replace(action, bundle_dir=bundle_dir, env=env)
        return Task(
            handle=lease.handle,
            deadline=lease.deadline,
            work=action,
            run_id=run_name(lease.key[0]),
            pipeline=grant.pipeline,
            step=grant.step_name,
            place=_place(grant),
            attempt=lease.attempt,
            idempotency_key=grant.idempotency_key,
            inputs=self.inputs,
            parameters=grant.parameters,
            trace_context=dict(grant.trace_context),
            max_output_bytes=limits.largest,
            inline_output_bytes=limits.inline,
            allow_pickle=self.kind.allow_pickle,
            files=files,
            secrets=secrets or [],
            container=container,
            lines_before=lines_before,
            unsampled=grant.unsampled,
        )

    def container(self, orders: ContainerOrders, bundle_dir: str, devices: tuple[str, ...]) -> ContainerWork | None:
        """None: it needs none, or there is no engine."""
        kind = self.kind
        if kind.image is None:
            return None
        bounds = Bounds(self.memory_bytes, kind.resources.get(CPU, 0.0), devices)
        if isinstance(kind.action, CommandWork):
            return orders.work(kind.image, bounds)
        return orders.work(kind.image, bounds, {**variables(devices), **kind.env}, bundle_dir)


def _activated(own: Mapping[str, str], home: str) -> dict[str, str]:
    """The variables of a command besides those of the worker that starts it."""
    path = os.environ.get("PATH", os.defpath)
    return {"PYTHONPATH": "", "PYTHONHOME": "", **activated({"PATH": path}, own, home)}


def _place(grant: wire.LeaseGrant) -> list[int]:
    """A coordinator that knows of one level says nothing but the number."""
    if grant.place or grant.lease.item < 0:
        return list(grant.place)
    return [grant.lease.item]


# --- what the agent says


_PHASES = {
    Phase.ACCEPTED: wire.LEASE_PHASE_ACCEPTED,
    Phase.RUNNING: wire.LEASE_PHASE_RUNNING,
    Phase.FINISHED: wire.LEASE_PHASE_FINISHED_UNACKED,
}


def held_lease(held: Held) -> wire.HeldLease:
    return wire.HeldLease(
        lease=lease_ref(held.key, held.token),
        phase=_PHASES[held.phase],
        attempt=held.attempt,
        elapsed=span(held.elapsed),
        session=held.session,
    )


def ref_of(lease: Lease) -> wire.LeaseRef:
    return lease.work.ref if isinstance(lease.work, Work) else lease_ref(lease.key, lease.token)


def step_result(lease: Lease, now: int, into: wire.StepResult | None = None) -> wire.StepResult:
    """With its age at this moment; in a message that is part of another one, if it is given."""
    result = lease.result
    assert result is not None
    message = wire.StepResult() if into is None else into
    if isinstance(result.body, wire.StepResult):
        message.CopyFrom(result.body)
    else:
        _tell_result(message, lease, result)
    _set_span(message.age, max(now - result.ended_at, 0))
    return message


def _tell_result(message: wire.StepResult, lease: Lease, result: Result) -> None:
    status = result.status
    finished = result.body if isinstance(result.body, Finished) else Finished(lease.handle)
    message.attempt = lease.attempt
    message.result_id = result.result_id
    message.status = wire.ResultStatus.ValueType(int(status))
    message.output = finished.output
    message.peak_memory_bytes = finished.peak_memory_bytes
    message.bytes_moved = finished.bytes_moved
    message.log_lines = finished.log_lines
    # Messages that are put into others are copied, by way of bytes: this is in place.
    ref = message.lease
    (ref.run_id, ref.step, ref.item), ref.token = lease.key, lease.token
    _set_span(message.run_duration, finished.run_time)
    _set_span(message.cpu_duration, finished.cpu_time)
    if lease.arrived_at and isinstance(lease.work, Work) and lease.work.traced:
        spent = finished.run_time + finished.upload_time
        _set_span(message.environment_duration, max(result.ended_at - lease.arrived_at - spent, 0))
        _set_span(message.upload_duration, finished.upload_time)
    if finished.metrics:
        message.metrics.update(finished.metrics)
    if finished.metadata:
        message.metadata.update(finished.metadata)
    for made in finished.artifacts:
        message.artifacts.add(
            name=made.name,
            digest=made.digest,
            size_bytes=made.size,
            media_type=made.media_type,
            kind=made.kind,
            codec=made.codec,
            metadata=made.metadata,
            receipt=made.receipt,
        )
    if finished.exit_code is not None:
        message.exit_code = finished.exit_code
    failure = _failure(lease, status, finished.failure)
    if failure is not None:
        message.error.reason = failure.reason
        message.error.message = failure.message[:8192]
        message.error.error_class = failure.error_class
        message.error.error_bases.extend(failure.error_bases)
        message.error.traceback = failure.traceback


def _failure(lease: Lease, status: Status, failure: Failure | None) -> Failure | None:
    """What a stopped attempt did last is worth knowing only if it says more than that it was stopped."""
    match status:
        case Status.TIMED_OUT:
            seconds = (lease.timeout or 0) / 1e6
            return Failure("Timeout", f"the attempt ran for longer than {seconds:g} s and was killed")
        case Status.LEASE_EXPIRED:
            return Failure("AgentLost", "the agent was cut off for longer than the lease, and killed the attempt")
        case Status.CANCELLED:
            said_last = "" if failure is None or failure.reason == "Cancelled" else f": {failure.message}"
            return Failure("Cancelled", f"stopped: {lease.ending_reason or 'cancelled'}{said_last}")
        case _:
            return failure


def restored(message: wire.StepResult, ended_at: int) -> Restored:
    """A result from the spool."""
    return Restored(
        key=lease_key(message.lease),
        token=message.lease.token,
        attempt=message.attempt,
        result_id=message.result_id,
        status=Status(message.status),
        ended_at=ended_at,
        body=message,
    )


def in_messages(items: Iterable[M]) -> Iterator[list[M]]:
    """Lists that fit into one message each."""
    part: list[M] = []
    size = 0
    for item in items:
        item_size = item.ByteSize() + 8
        if part and (len(part) >= MAX_ITEMS or size + item_size > MAX_MESSAGE_BYTES - _HEADROOM):
            yield part
            part, size = [], 0
        part.append(item)
        size += item_size
    if part:
        yield part


def returned_lease(key: LeaseKey, token: int, started: bool) -> wire.ReturnedLease:
    return wire.ReturnedLease(lease=lease_ref(key, token), started=started)


def rejected_lease(key: LeaseKey, token: int, reason: str, message: str) -> wire.RejectedLease:
    return wire.RejectedLease(lease=lease_ref(key, token), reason=reason, message=message)


def handles(leases: Sequence[Lease]) -> list[Handle]:
    return [lease.handle for lease in leases]

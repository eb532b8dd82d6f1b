"""A scripted coordinator on a real gRPC server: it says what a test tells it to, and keeps all that it hears."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import io
import itertools
import json
import tarfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

import grpc
import grpc.aio
from google.protobuf import any_pb2
from google.protobuf.duration_pb2 import Duration
from google.rpc import code_pb2, error_details_pb2, status_pb2  # type: ignore[import-untyped]  # no stubs
from grpc_status import rpc_status
from tests.integration.agent.artifact_store import ArtifactStore

from penstock.agent.v1 import agent_service_pb2 as wire
from penstock.agent.v1 import agent_service_pb2_grpc as rpc
from penstock.agent.v1 import artifact_service_pb2_grpc as artifact_rpc
from penstock.v1 import bundle_service_pb2 as bundle_wire
from penstock.v1 import bundle_service_pb2_grpc as bundle_rpc

T = TypeVar("T")
PATIENCE = 60.0


def seconds(value: float) -> Duration:
    return Duration(seconds=int(value), nanos=int(value % 1 * 1e9))


def bundle_of(files: dict[str, str]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, text in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(text.encode())
            archive.addfile(member, io.BytesIO(text.encode()))
    return gzip.compress(buffer.getvalue(), mtime=0)


@dataclass
class Session:
    """One stream of the agent, as the coordinator has it."""

    hello: wire.Hello
    call: Any
    link: str = ""
    """The incarnation of a member that it names."""
    heard: list[wire.AgentMessage] = field(default_factory=list)
    beats: list[float] = field(default_factory=list)
    """When heartbeats came."""
    grant_limit: int = 0
    granted: int = 0
    seq: int = 0
    basis: int = 0
    ended: bool = False
    writing: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def say(self, **body: Any) -> None:
        async with self.writing:
            self.seq += 1
            await self.call.write(wire.CoordinatorMessage(seq=self.seq, **body))


WITHIN = (2.0, 10.0, 50.0)
"""Seconds that a clock of a test's own gives what has to come before it runs out. What did not come in time, since the
machine was busy, is tried again with more."""


class Coordinator(rpc.AgentServiceServicer, bundle_rpc.BundleServiceServicer):
    """`acknowledge`: results are acknowledged as they come. All waits have a deadline."""

    def __init__(self, name: str = "scripted", *, first_session: int = 1) -> None:
        self.name = name
        self.head_epoch = 0
        """Of a member: of its head."""
        self._first_session = first_session
        self.log_links: list[str] = []
        """Whom the streams of lines name."""
        self.acknowledge = True
        self.answer_heartbeats = True
        self.ttl = 30.0
        self.heartbeat_interval = 0.5
        self.resend_interval = 0.3
        self.epoch = 1
        self.turn_away: wire.Goaway | None = None
        """Said in place of Welcome."""
        self.turned_away = 0
        self.sessions: list[Session] = []
        self.results: list[wire.StepResult] = []
        self.accepted: list[wire.LeaseRef] = []
        self.rejected: list[wire.RejectedLease] = []
        self.returned: list[wire.ReturnedLease] = []
        self.goodbyes: list[wire.Goodbye] = []
        self.refused_log_streams = 0
        """How many of those to come are shed."""
        self.log_streams: list[float] = []
        """When they came."""
        self.logs: list[tuple[bytes, wire.LogRecord]] = []
        self.inline_output_bytes = 0
        """As it says at the welcome: with 0 there is no artifact store."""
        self.artifacts = ArtifactStore()
        self.bundles: dict[str, bytes] = {}
        self.fetched: list[str] = []
        self.address = ""
        self.run_id = b"r" * 16
        self.verdict_of: Callable[[wire.HeldLease], wire.Verdict.ValueType] = lambda held: wire.VERDICT_CONTINUE
        self._changed = asyncio.Event()
        self._tokens = itertools.count(1)
        self._steps = itertools.count(0)
        self._tasks = itertools.count(1)
        self._server: grpc.aio.Server | None = None

    async def start(self, port: int = 0) -> None:
        self._server = grpc.aio.server()
        rpc.add_AgentServiceServicer_to_server(self, self._server)
        bundle_rpc.add_BundleServiceServicer_to_server(self, self._server)
        artifact_rpc.add_ArtifactServiceServicer_to_server(self.artifacts, self._server)
        port = self._server.add_insecure_port(f"127.0.0.1:{port}")
        assert port
        self.address = f"127.0.0.1:{port}"
        await self._server.start()

    async def stop(self) -> None:
        if self._server is not None:
            await self._server.stop(0)
            self._server = None

    @property
    def port(self) -> int:
        return int(self.address.rpartition(":")[2])

    @property
    def session(self) -> Session:
        return self.sessions[-1]

    def add_bundle(self, files: dict[str, str] | bytes) -> str:
        data = files if isinstance(files, bytes) else bundle_of(files)
        digest = hashlib.sha256(data).hexdigest()
        self.bundles[digest] = data
        return digest

    async def until(self, condition: Callable[[], T | None], what: str = "", patience: float = PATIENCE) -> T:
        """What the condition gives, once it is true."""
        async with asyncio.timeout(patience):
            while not (found := condition()):
                self._changed.clear()
                await self._changed.wait()
        return found

    def changed(self) -> None:
        self._changed.set()

    # --- orders

    def function(self, digest: str, name: str, **more: Any) -> wire.TaskSpec:
        module, _, qualname = name.partition(":")
        task = wire.FunctionTask(bundle_digest=digest, module=module, qualname=qualname)
        return wire.TaskSpec(function=task, **more)

    async def grant(self, spec: wire.TaskSpec, count: int = 1, **more: Any) -> list[wire.LeaseRef]:
        """Waits for credits."""
        await self.until(lambda: self.sessions and self.session.grant_limit >= self.session.granted + count)
        task = next(self._tasks)
        grants = [self.new_grant(task, spec, first=number == 0, **more) for number in range(count)]
        await self.send_grants(grants)
        return [grant.lease for grant in grants]

    def new_grant(
        self, task: int, spec: wire.TaskSpec, *, first: bool = True, inputs: dict[str, Any] | None = None, **more: Any
    ) -> wire.LeaseGrant:
        self.session.granted += 1
        step = next(self._steps)
        ref = wire.LeaseRef(run_id=self.run_id, step=step, item=-1, token=next(self._tokens))
        fields: dict[str, Any] = {
            "grant_seq": self.session.granted,
            "lease": ref,
            "attempt": 1,
            "display_name": "step",
            "step_name": "step",
            "pipeline": "pipeline",
            "task": task,
            "inputs": {name: json.dumps(value).encode() for name, value in (inputs or {}).items()},
            "idempotency_key": f"key-{step}",
        }
        if first:
            fields["task_spec"] = spec
        return wire.LeaseGrant(**(fields | more))

    async def send_grants(self, grants: list[wire.LeaseGrant], ttl: float | None = None) -> None:
        ttl = self.ttl if ttl is None else ttl
        await self.session.say(
            lease_grants=wire.LeaseGrants(grants=grants, basis_seq=self.session.basis, ttl=seconds(ttl))
        )

    async def result(self, ref: wire.LeaseRef, patience: float = PATIENCE) -> wire.StepResult:
        return await self.until(
            lambda: next((each for each in self.results if each.lease == ref), None), patience=patience
        )

    async def run(self, spec: wire.TaskSpec, patience: float = PATIENCE, **more: Any) -> wire.StepResult:
        """Grant one lease, and wait for its result."""
        (ref,) = await self.grant(spec, **more)
        return await self.result(ref, patience)

    async def takes_at_once(self, count: int, spec: wire.TaskSpec, **more: Any) -> None:
        """Run a short step again and again, until the agent takes so many at once. It does while its steps are short,
        and the first one, with its imports, is long; on a busy machine others are too."""
        while not self.sessions or self.session.grant_limit < self.session.granted + count:
            await self.run(spec, **more)

    async def name_peers(self, *members: Coordinator) -> None:
        """As a head."""
        peers = [wire.Peer(coordinator_id=each.name, address=each.address, epoch=each.epoch) for each in members]
        await self.session.say(peers=wire.Peers(members=peers))

    async def adopt(self, ref: wire.LeaseRef, verdict: wire.Verdict.ValueType = wire.VERDICT_CONTINUE) -> None:
        judged = wire.LeaseVerdict(lease=ref, verdict=verdict, ttl=seconds(self.ttl))
        await self.session.say(lease_verdicts=wire.LeaseVerdicts(verdicts=[judged], basis_seq=self.session.basis))

    async def cancel(self, ref: wire.LeaseRef, grace: float) -> None:
        cancelled = wire.CancelledLease(lease=ref, reason="asked to", grace=seconds(grace))
        await self.session.say(cancel=wire.Cancel(leases=[cancelled]))

    def text_of(self, source: int | None = None) -> list[str]:
        return [record.text for _, record in self.logs if source is None or record.source == source]

    async def logged(self, text: str) -> None:
        await self.until(lambda: any(text in each for each in self.text_of()))

    # --- the services

    async def Connect(self, request_iterator: Any, context: Any) -> None:  # type: ignore[override]  # read and write calls
        first = await context.read()
        if self.turn_away is not None:
            self.turned_away += 1
            self._changed.set()
            await context.write(wire.CoordinatorMessage(seq=1, goaway=self.turn_away))
            await context.abort(grpc.StatusCode.FAILED_PRECONDITION, self.turn_away.message)
        session = Session(first.hello, context, _link(context), basis=first.seq)
        session.heard.append(first)
        self.sessions.append(session)
        await session.say(
            welcome=wire.Welcome(
                session_epoch=self._first_session + len(self.sessions) - 1,
                coordinator_id=self.name,
                coordinator_epoch=self.epoch,
                head_epoch=self.head_epoch,
                protocol_version=1,
                heartbeat_interval=seconds(self.heartbeat_interval),
                lease_ttl=seconds(self.ttl),
                max_output_bytes=64 * 1024,
                inline_output_bytes=self.inline_output_bytes,
                basis_seq=first.seq,
                result_resend_interval=seconds(self.resend_interval),
                stop_grace=seconds(5),
            )
        )
        verdicts = [
            wire.LeaseVerdict(lease=held.lease, verdict=self.verdict_of(held), ttl=seconds(self.ttl))
            for held in first.hello.held_leases
        ]
        if verdicts:
            await session.say(lease_verdicts=wire.LeaseVerdicts(verdicts=verdicts, basis_seq=first.seq))
        self._changed.set()
        while (message := await context.read()) is not grpc.aio.EOF:
            session.heard.append(message)
            assert message.seq == session.basis + 1
            session.basis = message.seq
            await self._hear(session, message)
            self._changed.set()
        session.ended = True
        self._changed.set()

    async def _hear(self, session: Session, message: wire.AgentMessage) -> None:
        match message.WhichOneof("body"):
            case "credits":
                session.grant_limit = max(session.grant_limit, message.credits.grant_limit)
            case "leases_accepted":
                self.accepted += message.leases_accepted.leases
            case "leases_rejected":
                self.rejected += message.leases_rejected.leases
            case "returned":
                self.returned += message.returned.leases
            case "results":
                self.results += message.results.results
                if self.acknowledge:
                    await self.ack(session, list(message.results.results))
            case "heartbeat" if self.answer_heartbeats:
                session.beats.append(time.monotonic())
                ack = wire.HeartbeatAck(basis_seq=message.seq, ttl=seconds(self.ttl), echo=message.seq)
                await session.say(heartbeat_ack=ack)
            case "goodbye":
                self.goodbyes.append(message.goodbye)

    async def ack(self, session: Session, results: list[wire.StepResult]) -> None:
        acks = [
            wire.ResultAck(lease=each.lease, result_id=each.result_id, status=wire.RESULT_ACK_STATUS_COMMITTED)
            for each in results
        ]
        await session.say(result_acks=wire.ResultAcks(acks=acks))

    async def PushLogs(self, request_iterator: Any, context: Any) -> wire.PushLogsResponse:
        self.log_streams.append(time.monotonic())
        self.log_links.append(_link(context))
        if self.refused_log_streams:
            self.refused_log_streams -= 1
            # Clients may hear of these, without any, well before they hear of the status. This makes it certain.
            await context.send_initial_metadata(())
            await context.abort_with_status(_shed(0.2))
        await context.send_initial_metadata((("penstock-log-lines", "taken"),))
        count = 0
        while (message := await context.read()) is not grpc.aio.EOF:
            for batch in message.batches:
                self.logs += [(batch.lease.SerializeToString(), record) for record in batch.records]
                count += len(batch.records)
            self._changed.set()
        return wire.PushLogsResponse(accepted_lines=count)

    async def Get(self, request: bundle_wire.GetBundleRequest, context: Any) -> AsyncIterator[Any]:
        self.fetched.append(request.digest)
        data = self.bundles.get(request.digest)
        if data is None:
            await context.abort(grpc.StatusCode.NOT_FOUND, "no such bundle")
            return
        yield bundle_wire.GetBundleResponse(size_bytes=len(data), chunk=data[:1000])
        yield bundle_wire.GetBundleResponse(chunk=data[1000:])

    async def Has(self, request: Any, context: Any) -> Any:
        raise NotImplementedError

    async def Upload(self, request_iterator: Any, context: Any) -> Any:
        raise NotImplementedError


def _link(context: Any) -> str:
    return next((value for key, value in context.invocation_metadata() if key == "penstock-link"), "")


def _shed(seconds: float) -> Any:
    retry = error_details_pb2.RetryInfo(retry_delay=Duration(nanos=int(seconds * 1e9)))
    packed = any_pb2.Any()
    packed.Pack(retry)
    code = code_pb2.Code.Value("RESOURCE_EXHAUSTED")
    return rpc_status.to_status(status_pb2.Status(code=code, message="too much to do", details=[packed]))


@asynccontextmanager
async def running_coordinator() -> AsyncIterator[Coordinator]:
    coordinator = Coordinator()
    await coordinator.start()
    try:
        yield coordinator
    finally:
        await coordinator.stop()

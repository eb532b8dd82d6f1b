"""The coordinator's side of a tape, played to the present agent: it must do and say what the agent on the tape did.

What the agent says may be cut into other messages, and heartbeats and credits come when they come; what it says of
leases it must say again.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

import grpc
import grpc.aio
from google.protobuf.duration_pb2 import Duration
from tests.replay.stories import Agents
from tests.replay.tapes import MISSING, PATIENCE, Cue, Line, Tape

from penstock.agent.v1 import agent_service_pb2 as wire
from penstock.agent.v1 import agent_service_pb2_grpc as rpc
from penstock.v1 import bundle_service_pb2_grpc as bundle_rpc

Fact = tuple[Any, ...]


class PlayedCoordinator(rpc.AgentServiceServicer, bundle_rpc.BundleServiceServicer):
    def __init__(self, tape: Tape) -> None:
        self._tape = tape
        self.agents: Agents
        self._server = grpc.aio.server()
        self.address = ""
        self._context: Any = None
        self._closed = asyncio.Event()
        self._down = False
        self._seq = self._basis = self._grant_limit = 0
        self._facts: Counter[Fact] = Counter()
        """What the agent has said of leases, and what of that was on the tape so far."""
        self._expected: Counter[Fact] = Counter()
        self._hellos: list[wire.Hello] = []
        self._result_ids: dict[bytes, bytes] = {}
        """Of results, by the lease."""
        self._writing = asyncio.Lock()
        self._ttl: Duration | None = None
        self._echo = 0
        self._ran: set[Fact] = set()
        self._changed = asyncio.Event()

    async def start(self) -> None:
        rpc.add_AgentServiceServicer_to_server(self, self._server)
        bundle_rpc.add_BundleServiceServicer_to_server(self, self._server)
        self.address = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        await self._server.start()

    async def stop(self) -> None:
        self._closed.set()
        await self._server.stop(0)

    async def play(self) -> None:
        for at, line in enumerate(self._tape.lines):
            if line.cue is not None:
                await self._follow(line.cue, self._tape.lines[at:])
            elif line.who == "coordinator":
                await self._say(line.said)
            else:
                await self._expect(line)

    # --- the service

    async def Connect(self, request_iterator: Any, context: Any) -> None:  # type: ignore[override]  # read and write calls
        if self._down:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "the line is down")
        self._context, self._closed = context, asyncio.Event()
        self._seq = self._basis = self._grant_limit = self._echo = 0
        self._ttl = None
        reading = asyncio.create_task(self._read(context))
        closing = asyncio.create_task(self._closed.wait())
        await asyncio.wait({reading, closing}, return_when=asyncio.FIRST_COMPLETED)
        closing.cancel()
        reading.add_done_callback(lambda task: task.cancelled() or task.exception())
        if not reading.done():
            await context.abort(grpc.StatusCode.UNAVAILABLE, "the line broke")

    async def _read(self, context: Any) -> None:
        while (message := await context.read()) is not grpc.aio.EOF:
            assert message.seq == self._basis + 1
            self._basis = message.seq
            self._hear(message)
            self._changed.set()
            if message.HasField("heartbeat"):
                await self._answer(context)

    async def _answer(self, context: Any) -> None:
        """Each heartbeat is answered: there may be more of them, or fewer, than on the tape."""
        if self._ttl is None:
            return
        self._echo += 1
        ack = wire.HeartbeatAck(basis_seq=self._basis, ttl=self._ttl, echo=self._echo)
        await self._write(context, wire.CoordinatorMessage(heartbeat_ack=ack))

    async def _write(self, context: Any, message: wire.CoordinatorMessage) -> None:
        async with self._writing:
            self._seq += 1
            message.seq = self._seq
            await context.write(message)

    def _hear(self, message: wire.AgentMessage) -> None:
        if message.HasField("hello"):
            self._hellos.append(message.hello)
        self._grant_limit = max(self._grant_limit, message.credits.grant_limit)
        for result in message.results.results:
            self._result_ids[result.lease.SerializeToString(deterministic=True)] = result.result_id
        running = (held.lease for held in message.heartbeat.leases if held.phase == wire.LEASE_PHASE_RUNNING)
        self._ran.update(_name(ref) for ref in running)
        self._facts.update(facts_of(message))

    async def PushLogs(self, request_iterator: Any, context: Any) -> wire.PushLogsResponse:
        async for _ in request_iterator:
            pass
        return wire.PushLogsResponse()

    async def Get(self, request: Any, context: Any) -> Any:
        if request.digest == MISSING:
            await context.abort(grpc.StatusCode.NOT_FOUND, "no such bundle")
        await asyncio.Event().wait()
        yield None

    async def Has(self, request: Any, context: Any) -> Any:
        raise NotImplementedError

    async def Upload(self, request_iterator: Any, context: Any) -> Any:
        raise NotImplementedError

    # --- the tape

    async def _say(self, message: wire.CoordinatorMessage) -> None:
        for grant in message.lease_grants.grants:
            await self._until(lambda grant=grant: self._grant_limit >= grant.grant_seq, grant)  # type: ignore[misc]  # the default binds it
        for ack in message.result_acks.acks:
            ack.result_id = self._result_ids[ack.lease.SerializeToString(deterministic=True)]
        body = getattr(message, message.WhichOneof("body") or "")
        if "basis_seq" in body.DESCRIPTOR.fields_by_name:
            body.basis_seq = self._basis
        if message.HasField("welcome"):
            self._ttl = message.welcome.lease_ttl
        if not message.HasField("heartbeat_ack") or message.heartbeat_ack.revoked:
            await self._write(self._context, message)

    async def _expect(self, line: Line) -> None:
        said: wire.AgentMessage = line.said
        if line.body == "hello":
            await self._until(lambda: bool(self._hellos), said)
            hello = self._hellos.pop(0)
            finished = _held(hello, finished_only=True)
            assert _held(hello) == _held(said.hello)
            assert finished >= _held(said.hello, finished_only=True)
            assert set(said.hello.protocol_versions) & set(hello.protocol_versions)
            assert (hello.agent_id, hello.slots) == (said.hello.agent_id, said.hello.slots)
        if line.body == "heartbeat":
            running = [held.lease for held in said.heartbeat.leases if held.phase == wire.LEASE_PHASE_RUNNING]
            await self._until(lambda: all(self._has_run(ref) for ref in running), said)
        self._expected.update(facts_of(said))
        for fact in facts_of(said):
            await self._until(lambda fact=fact: self._facts[fact] >= self._expected[fact], fact)  # type: ignore[misc]  # the default binds it

    def _has_run(self, ref: wire.LeaseRef) -> bool:
        """By a heartbeat, or by a result if that came sooner."""
        return _name(ref) in self._ran or ref.SerializeToString(deterministic=True) in self._result_ids

    async def _until(self, condition: Callable[[], bool], what: object) -> None:
        try:
            async with asyncio.timeout(PATIENCE):
                while not condition():
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            raise AssertionError(f"it did not come: {what}; but these: {self._facts}") from None

    async def _follow(self, cue: Cue, rest: list[Line]) -> None:
        match cue.name:
            case "sigterm" | "kill" | "revive":
                await self.agents.follow(cue.name)
            case "break":
                self._down = True
                self._closed.set()
            case "mend":
                hello = next(line.said.hello for line in rest if line.body == "hello")
                if any(held.phase == wire.LEASE_PHASE_FINISHED_UNACKED for held in hello.held_leases):
                    await self.agents.spooled()
                self._down = False

    def check(self) -> None:
        """Nothing was said of leases that was not on the tape, but for results that were sent again."""
        more = {fact for fact in self._facts - self._expected if fact[0] != "results"}
        assert not more, more


def _held(hello: wire.Hello, *, finished_only: bool = False) -> set[Fact]:
    return {
        (*_name(held.lease), held.attempt)
        for held in hello.held_leases
        if not finished_only or held.phase == wire.LEASE_PHASE_FINISHED_UNACKED
    }


def _name(ref: wire.LeaseRef) -> Fact:
    return ref.run_id, ref.step, ref.item, ref.token


def facts_of(message: wire.AgentMessage) -> Iterable[Fact]:
    """What is said of leases, each thing by itself; and the words of the session that matter."""
    body = message.WhichOneof("body")
    match body:
        case "leases_accepted":
            return [(body, *_name(ref)) for ref in message.leases_accepted.leases]
        case "leases_rejected":
            return [(body, *_name(each.lease), each.reason) for each in message.leases_rejected.leases]
        case "returned":
            return [(body, *_name(each.lease), each.started) for each in message.returned.leases]
        case "results":
            return [
                (body, *_name(each.lease), each.attempt, each.status, each.output, each.error.reason, each.exit_code)
                for each in message.results.results
            ]
        case "draining" | "goodbye":
            return [(body,)]
    return []

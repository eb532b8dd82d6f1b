"""An agent that does what a test tells it, over the real wire."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
from collections import deque
from typing import TYPE_CHECKING, Any

import grpc

from penstock.agent.v1 import agent_service_pb2 as wire
from penstock.agent.v1 import agent_service_pb2_grpc

if TYPE_CHECKING:
    from collections.abc import Callable

PATIENCE = 60.0
STATUS_LOST = "Internal error from Core"
"""grpcio's own words when a message was being written to a call that the server ended: what the server said is lost."""


class ScriptedAgent:
    """Reads everything that comes into lists; writes what the test says."""

    def __init__(
        self,
        address: str,
        agent_id: str = "agent-1",
        *,
        slots: int = 4,
        boot_id: str = "boot-1",
        metadata: tuple[tuple[str, str], ...] = (),
    ) -> None:
        self.agent_id = agent_id
        self.boot_id = boot_id
        self.slots = slots
        self.queues = ["default"]
        self.labels: dict[str, str] = {}
        self.resources: dict[str, float] = {}
        self.held: list[wire.HeldLease] = []
        self.beside: dict[str, Any] = {}
        """What its Hello says of other coordinators."""
        self.peers: list[wire.Peers] = []
        self.moved: list[bytes] = []
        self.grants: deque[wire.LeaseGrant] = deque()
        self.acks: list[wire.ResultAck] = []
        self.cancels: list[wire.CancelledLease] = []
        self.called_back: list[wire.LeaseRef] = []
        self.verdicts: list[wire.LeaseVerdict] = []
        self.beats: list[wire.HeartbeatAck] = []
        self.goaways: list[wire.Goaway] = []
        self.redirects: list[str] = []
        self.results: dict[bytes, wire.StepResult] = {}
        """What was said, by id."""
        self.orders: list[str] = []
        """Pauses and the like, in order."""
        self.versions = [1]
        self.features: list[str] = []
        self.highest_epoch = 0
        self.stream = 0
        """Its number within the process; 0: it does not say."""
        self.welcome: wire.Welcome | None = None
        self.ended = asyncio.Event()
        self._changed = asyncio.Condition()
        self._seq = itertools.count(1)
        self._channel = grpc.aio.insecure_channel(address, options=[("grpc.use_local_subchannel_pool", 1)])
        self._connect = agent_service_pb2_grpc.AgentServiceStub(self._channel).Connect
        self._metadata = metadata
        self._call = self._connect(metadata=metadata)
        self._reader: asyncio.Task[None] | None = None

    async def connect(self, *, credits: int | None = None) -> wire.Welcome:
        await self.say(hello=self._hello())
        self._reader = asyncio.create_task(self._read())
        await self.until(lambda: self.welcome is not None)
        assert self.welcome is not None
        await self.say(credits=wire.Credits(grant_limit=self.slots if credits is None else credits))
        return self.welcome

    async def refused(self) -> tuple[grpc.StatusCode, str]:
        """How the stream of a Hello ends that is not welcome."""
        async with asyncio.timeout(PATIENCE):
            while True:
                with contextlib.suppress(grpc.aio.AioRpcError):
                    await self.say(hello=self._hello())
                await self._read()
                code, details = await self._call.code(), await self._call.details()
                if details != STATUS_LOST:
                    break
                self.redirects.clear()
                self._call = self._connect(metadata=self._metadata)
        assert self.welcome is None
        await self._channel.close()
        return code, details or ""

    def _hello(self) -> wire.Hello:
        return wire.Hello(
            protocol_versions=self.versions,
            highest_coordinator_epoch_seen=self.highest_epoch,
            agent_id=self.agent_id,
            boot_id=self.boot_id,
            queues=self.queues,
            labels=self.labels,
            resources=self.resources,
            slots=self.slots,
            held_leases=self.held,
            stream=self.stream,
            features=self.features,
            **self.beside,
        )

    async def say(self, **body: object) -> None:
        await self._call.write(wire.AgentMessage(seq=next(self._seq), **body))  # type: ignore[arg-type]  # one of its bodies

    async def _read(self) -> None:
        try:
            while True:
                message = await self._call.read()
                if message is grpc.aio.EOF:
                    return
                assert isinstance(message, wire.CoordinatorMessage)
                async with self._changed:
                    self._note(message)
                    self._changed.notify_all()
        except grpc.aio.AioRpcError:
            return
        finally:
            self.ended.set()
            async with self._changed:
                self._changed.notify_all()

    def _note(self, message: wire.CoordinatorMessage) -> None:
        match message.WhichOneof("body"):
            case "welcome":
                self.welcome = message.welcome
            case "lease_grants":
                self.grants.extend(message.lease_grants.grants)
                self.held += [
                    wire.HeldLease(lease=grant.lease, phase=wire.LEASE_PHASE_ACCEPTED, attempt=grant.attempt)
                    for grant in message.lease_grants.grants
                ]
            case "result_acks":
                self.acks.extend(message.result_acks.acks)
            case "cancel":
                self.cancels.extend(message.cancel.leases)
            case "return_leases":
                self.called_back.extend(message.return_leases.leases)
            case "lease_verdicts":
                self.verdicts.extend(message.lease_verdicts.verdicts)
            case "heartbeat_ack":
                self.beats.append(message.heartbeat_ack)
            case "goaway":
                self.goaways.append(message.goaway)
            case "redirect":
                self.redirects.append(message.redirect.address)
            case "peers":
                self.peers.append(message.peers)
            case "moved":
                self.moved.extend(message.moved.run_ids)
            case "pause" | "resume" | "drain" as order:
                self.orders.append(order)

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE), self._changed:
            await self._changed.wait_for(condition)

    async def grant(self) -> wire.LeaseGrant:
        """The next grant, accepted."""
        await self.until(lambda: bool(self.grants))
        grant = self.grants.popleft()
        await self.say(leases_accepted=wire.LeasesAccepted(leases=[grant.lease]))
        return grant

    async def untouched_grant(self) -> wire.LeaseGrant:
        """The next grant, of which nothing is said."""
        await self.until(lambda: bool(self.grants))
        return self.grants.popleft()

    async def succeed(self, grant: wire.LeaseGrant, output: bytes = b"null", log_lines: int = 0) -> bytes:
        result = wire.StepResult(status=wire.RESULT_STATUS_OK, output=output, log_lines=log_lines)
        return await self._result(grant, result)

    async def fail(self, grant: wire.LeaseGrant, reason: str = "UserError") -> bytes:
        error = wire.ResultError(reason=reason, message="it did not work", error_class="builtins.ValueError")
        return await self._result(grant, wire.StepResult(status=wire.RESULT_STATUS_FAILED, error=error))

    async def hand_back(self, grant: wire.LeaseGrant) -> None:
        """Nothing was started."""
        self.held = [held for held in self.held if held.lease != grant.lease]
        await self.say(returned=wire.Returned(leases=[wire.ReturnedLease(lease=grant.lease, started=False)]))

    async def _result(self, grant: wire.LeaseGrant, result: wire.StepResult) -> bytes:
        result.lease.CopyFrom(grant.lease)
        result.attempt = grant.attempt
        result.result_id = os.urandom(16)
        self.held = [held for held in self.held if held.lease != grant.lease]
        self.results[result.result_id] = result
        await self.say(results=wire.Results(results=[result]))
        return result.result_id

    async def more(self, limit: int) -> None:
        await self.say(credits=wire.Credits(grant_limit=limit))

    async def beat(self, **beside: Any) -> wire.HeartbeatAck:
        """`beside`: what it says of other coordinators."""
        before = len(self.beats)
        echo = self.beats[-1].echo if self.beats else 0
        await self.say(heartbeat=wire.Heartbeat(leases=self.held, echo=echo, **beside))
        await self.until(lambda: len(self.beats) > before)
        return self.beats[-1]

    async def acked(self, result_id: bytes) -> wire.ResultAck:
        await self.until(lambda: any(ack.result_id == result_id for ack in self.acks))
        return next(ack for ack in self.acks if ack.result_id == result_id)

    async def vanish(self) -> None:
        """End the stream without a word."""
        self._call.cancel()
        if self._reader is not None:
            await asyncio.wait({self._reader})
        await self._channel.close()

    async def goodbye(self) -> None:
        await self.say(goodbye=wire.Goodbye(reason="test"))
        async with asyncio.timeout(PATIENCE):
            await self.ended.wait()
        await self._channel.close()

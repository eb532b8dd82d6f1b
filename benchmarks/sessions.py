"""Sessions of agents that run nothing, over the real protocol."""

from __future__ import annotations

import asyncio
import itertools
import uuid
from typing import Any

import grpc.aio

from penstock.agent.v1 import agent_service_pb2 as wire
from penstock.agent.v1.agent_service_pb2_grpc import AgentServiceStub

SLOTS = 2
OPTIONS = [("grpc.use_local_subchannel_pool", 1), ("grpc.keepalive_time_ms", 10_000)]
RETRY_SECONDS = 0.02


class Session:
    """One stream, over a connection of its own."""

    def __init__(self, address: str, agent: str, queue: str = "default") -> None:
        self._agent = agent
        self._queue = queue
        self._seqs = itertools.count(1)
        self._channel = grpc.aio.insecure_channel(address, options=OPTIONS)
        self._call: Any = AgentServiceStub(self._channel).Connect()
        self._echo = 0

    async def open(self) -> float:
        """Seconds between heartbeats. The coordinator may send as many leases as there are slots then."""
        hello = wire.Hello(protocol_versions=[1], agent_id=self._agent, boot_id=uuid.uuid4().hex, slots=SLOTS)
        hello.queues.append(self._queue)
        await self._say(hello=hello)
        message = await self._call.read()
        if message is grpc.aio.EOF:
            raise ConnectionError(f"the session of {self._agent} was refused: {await self._call.details()}")
        await self._say(credits=wire.Credits(grant_limit=SLOTS))
        interval: float = message.welcome.heartbeat_interval.ToTimedelta().total_seconds()
        return interval

    async def stay(self, interval: float) -> None:
        """Send heartbeats until it is cancelled. Raises if the coordinator ends the session."""
        listening = asyncio.create_task(self._listen())
        while not listening.done():
            await asyncio.sleep(interval)
            await self._say(heartbeat=wire.Heartbeat(echo=self._echo, parts=1))
        listening.result()

    async def granted(self) -> None:
        """Until the first lease comes."""
        while (message := await self._call.read()) is not grpc.aio.EOF:
            if message.HasField("lease_grants"):
                return
        raise ConnectionError(f"the coordinator ended the session of {self._agent}")

    async def close(self) -> None:
        await self._channel.close()

    async def _listen(self) -> None:
        while (message := await self._call.read()) is not grpc.aio.EOF:
            if message.HasField("heartbeat_ack"):
                self._echo = message.heartbeat_ack.echo
        raise ConnectionError(f"the coordinator ended the session of {self._agent}")

    async def _say(self, **body: Any) -> None:
        await self._call.write(wire.AgentMessage(seq=next(self._seqs), **body))


async def open_when_possible(address: str, agent: str, queue: str) -> Session:
    """For a coordinator that is about to start."""
    while True:
        session = Session(address, agent, queue)
        try:
            await session.open()
        except (grpc.aio.AioRpcError, ConnectionError):
            await session.close()
            await asyncio.sleep(RETRY_SECONDS)
        else:
            return session

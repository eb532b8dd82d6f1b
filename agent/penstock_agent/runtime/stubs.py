"""What the agent calls besides its streams: secrets and artifacts are asked of the coordinator by which a lease is
held, as nobody else knows it. Of a lease that no coordinator speaks for nobody is asked before one does: who does not
know it would refuse, and what was refused has failed."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import grpc.aio

from penstock.agent.v1 import agent_service_pb2 as wire
from penstock.agent.v1.agent_service_pb2_grpc import AgentServiceStub
from penstock.agent.v1.artifact_service_pb2_grpc import ArtifactServiceStub
from penstock.agent.v1.secret_service_pb2_grpc import SecretServiceStub
from penstock.v1.bundle_service_pb2_grpc import BundleServiceStub

Metadata: TypeAlias = Sequence[tuple[str, str]]


@dataclass(frozen=True, slots=True, eq=False)
class Stubs:
    """Of one channel."""

    agents: AgentServiceStub
    bundles: BundleServiceStub
    artifacts: ArtifactServiceStub
    secrets: SecretServiceStub

    @staticmethod
    def of(channel: grpc.aio.Channel, named: Metadata = ()) -> Stubs:
        """`named`: metadata of each call."""
        through: Any = _Named(channel, named) if named else channel
        return Stubs(
            AgentServiceStub(through),
            BundleServiceStub(through),
            ArtifactServiceStub(through),
            SecretServiceStub(through),
        )


class _Named:
    """A channel whose calls bear metadata. An interceptor would put calls of its own in the place of the library's."""

    def __init__(self, channel: grpc.aio.Channel, metadata: Metadata) -> None:
        self._channel = channel
        self._metadata = tuple(metadata)

    def unary_unary(self, *method: Any, **more: Any) -> Any:
        return functools.partial(self._channel.unary_unary(*method, **more), metadata=self._metadata)

    def unary_stream(self, *method: Any, **more: Any) -> Any:
        return functools.partial(self._channel.unary_stream(*method, **more), metadata=self._metadata)

    def stream_unary(self, *method: Any, **more: Any) -> Any:
        return functools.partial(self._channel.stream_unary(*method, **more), metadata=self._metadata)

    def stream_stream(self, *method: Any, **more: Any) -> Any:
        return functools.partial(self._channel.stream_stream(*method, **more), metadata=self._metadata)


class LeaseStubs:
    """Stubs by lease. `stream_of` gives the welcomed stream by which a lease is held; None: by none now."""

    def __init__(self, stream_of: Callable[[wire.LeaseRef], int | None]) -> None:
        self._stream_of = stream_of
        self._open: dict[int, Stubs] = {}
        self._waiting: list[asyncio.Future[None]] = []

    def use(self, stream: int, stubs: Stubs) -> None:
        """The coordinator of this stream has said welcome."""
        self._open[stream] = stubs
        self.look_again()

    def drop(self, stream: int) -> None:
        """It is over."""
        self._open.pop(stream, None)

    def look_again(self) -> None:
        """Leases may be held by other streams than before."""
        waiting, self._waiting = self._waiting, []
        for future in waiting:
            if not future.done():
                future.set_result(None)

    def now(self, lease: wire.LeaseRef) -> Stubs | None:
        """None: nobody speaks for it now."""
        stream = self._stream_of(lease)
        return None if stream is None else self._open.get(stream)

    async def of(self, lease: wire.LeaseRef) -> Stubs:
        """Waits until somebody speaks for it."""
        while (stubs := self.now(lease)) is None:
            future = asyncio.get_running_loop().create_future()
            self._waiting.append(future)
            await future
        return stubs

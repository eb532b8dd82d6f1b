"""Several coordinators behind one channel: calls go to the one that answers, and to the next when it does not."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import grpc

from penstock.client.channel import open_channel
from penstock.client.status import refusal_of

if TYPE_CHECKING:
    from grpc.aio import AioRpcError

NOT_THE_LEADER = "NOT_THE_LEADER"
OWNER = "penstock-owner"
_ELSEWHERE = frozenset({"", NOT_THE_LEADER, "STOPPING"})
"""Reasons of UNAVAILABLE for which another coordinator may answer; "" is the transport's own."""


class Coordinators:
    """The addresses, and which of them calls go to now."""

    def __init__(self, addresses: str) -> None:
        """host:port of each, separated by commas."""
        self.addresses = addresses.split(",")
        self.current = self.addresses[0]

    @property
    def several(self) -> bool:
        return len(self.addresses) > 1

    def failed(self, address: str, error: AioRpcError) -> bool:
        """A call to the address failed. True: the next one goes elsewhere. Of many calls that fail together the first
        one decides."""
        if error.code() is not grpc.StatusCode.UNAVAILABLE:
            return False
        reason, leader = refusal_of(error)
        if reason not in _ELSEWHERE:
            return False
        if self.current == address:
            self.current = leader or self._after(address)
        return self.current != address

    def answered(self, metadata: Iterable[tuple[str, object]]) -> None:
        """With that metadata. A coordinator that had passed the call on names the one that answered, and the next call
        goes there: if it is among those that were given, as whoever is behind a load balancer may reach nobody else."""
        for key, value in metadata:
            if key == OWNER and value in self.addresses:
                self.current = str(value)

    def _after(self, address: str) -> str:
        at = self.addresses.index(address) + 1 if address in self.addresses else 0
        return self.addresses[at % len(self.addresses)]


class Channels:
    """What stubs use of a channel. Each is opened when the first call goes there."""

    def __init__(self, coordinators: Coordinators) -> None:
        self._coordinators = coordinators
        self._open: dict[str, grpc.aio.Channel] = {}

    def _channel(self) -> grpc.aio.Channel:
        address = self._coordinators.current
        channel = self._open.get(address)
        if channel is None:
            channel = self._open[address] = open_channel(address)
        return channel

    def unary_unary(self, *given: Any, **named: Any) -> Callable[..., Any]:
        return self._callable("unary_unary", given, named)

    def unary_stream(self, *given: Any, **named: Any) -> Callable[..., Any]:
        return self._callable("unary_stream", given, named)

    def stream_unary(self, *given: Any, **named: Any) -> Callable[..., Any]:
        return self._callable("stream_unary", given, named)

    def stream_stream(self, *given: Any, **named: Any) -> Callable[..., Any]:
        return self._callable("stream_stream", given, named)

    def _callable(self, kind: str, given: tuple[Any, ...], named: dict[str, Any]) -> Callable[..., Any]:
        """Of one method. To make one of a channel costs as much as to send a call, so each is made once."""
        made: dict[str, Callable[..., Any]] = {}

        def call(*arguments: Any, **options: Any) -> Any:
            address = self._coordinators.current
            found = made.get(address)
            if found is None:
                found = made[address] = getattr(self._channel(), kind)(*given, **named)
            return found(*arguments, **options)

        return call

    async def close(self) -> None:
        opened, self._open = list(self._open.values()), {}
        for channel in opened:
            await channel.close()

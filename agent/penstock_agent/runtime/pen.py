"""Who writes to the agent's stream: one message at a time, as gRPC has it.

What comes up while nothing is being written, and is urgent, is begun at once, in the callback that it came up in: a
task would begin it when the event loop has come round. The task awaits what was begun, and writes the rest.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Protocol, TypeAlias

from penstock_agent.runtime.begun import Begun
from penstock_agent.runtime.outbox import nobody

if TYPE_CHECKING:
    import grpc.aio

    from penstock.agent.v1 import agent_service_pb2 as wire
    from penstock_agent.core.leases import Handle
    from penstock_agent.runtime.outbox import Outbox

    Call: TypeAlias = grpc.aio.StreamStreamCall[wire.AgentMessage, wire.CoordinatorMessage]
    Drained: TypeAlias = Iterator[tuple[wire.AgentMessage, list[Handle]]]


class Author(Protocol):
    """Whose words they are."""

    def stamp(self) -> int:
        """The number of the message that is about to be written."""

    def written(self, accepted: list[Handle], seq: int) -> None:
        """A message that accepts these is on its way."""


class Pen:
    """Of one call and one outbox. `run` is to be called once."""

    def __init__(self, call: Call, outbox: Outbox, author: Author) -> None:
        self._call = call
        self._outbox = outbox
        self._author = author
        self._rests = False
        """Nothing is being written, and nothing is left to write but what has just come up."""
        self._begun: Begun | None = None
        self._left: Drained = iter(())
        self._failure: Exception | None = None
        outbox.on_urgent = self.hurry

    async def run(self) -> None:
        """Until the outbox closes, and all is written. Raises what the call raises."""
        try:
            while True:
                self._rests = True
                await self._outbox.wait()
                self._rests = False
                await self._write_begun()
                await self._write(self._outbox.drain())
                if self._outbox.closing:
                    await self._call.done_writing()
                    return
        finally:
            self._rests = False
            self._outbox.on_urgent = nobody  # Else either would keep the other until memory is searched for such pairs.
            if self._begun is not None:
                self._begun.close()

    def hurry(self) -> None:
        """Something urgent is in the outbox. What the call raises is raised by `run`."""
        if not self._rests:
            return
        self._rests = False
        self._left = self._outbox.drain()
        try:
            self._rests = not self._begin_next(self._left)
        except Exception as error:
            self._failure = error

    async def _write_begun(self) -> None:
        if self._failure is not None:
            raise self._failure
        if self._begun is not None:
            await self._begun
            self._begun = None
            await self._write(self._left)

    async def _write(self, messages: Drained) -> None:
        while self._begin_next(messages):
            assert self._begun is not None
            await self._begun
            self._begun = None

    def _begin_next(self, messages: Drained) -> bool:
        """False: there is none left. What a message accepts begins once it is on its way, before whatever is said of it
        later. That the library took it is heard of by way of a thread of its own, and says no more of what the
        coordinator has read."""
        message, accepted = next(messages, (None, []))
        if message is None:
            return False
        message.seq = self._author.stamp()
        self._begun = Begun(self._call.write(message))
        if accepted:
            self._author.written(accepted, message.seq)
        return True

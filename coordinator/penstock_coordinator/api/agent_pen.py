"""Who writes to an agent's stream: one message at a time, as gRPC has it.

What is urgent is begun at once, in the callback that it came up in, if nothing is being written: a task would begin it
when the event loop has come round. The task awaits what was begun, and writes the rest.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from penstock_coordinator.runtime.begun import Begun
from penstock_coordinator.runtime.session import nobody

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    import grpc

    from penstock.agent.v1 import agent_service_pb2 as wire
    from penstock_coordinator.runtime.session import AgentSession


class Pen:
    """Of one call and its session. `run` is to be called once."""

    def __init__(self, context: grpc.aio.ServicerContext[Any, Any], session: AgentSession) -> None:
        self._context = context
        self._session = session
        self._rests = False
        """Nothing is being written, and nothing is left to write but what has just come up."""
        self._begun: Begun | None = None
        self._left: Iterator[wire.CoordinatorMessage] = iter(())
        self._failure: Exception | None = None
        session.on_urgent = self.hurry

    async def run(self) -> None:
        """Until the session is closed, and all is written. Raises what the call raises."""
        session = self._session
        try:
            while True:
                self._rests = True
                await session.wait_outgoing()
                self._rests = False
                # Asked before: what is gathered while this is written, a Goaway for example, has another turn.
                ending = session.closed.is_set()
                await self._write_begun()
                await self._write(session.drain())
                if ending:
                    return
        finally:
            self._rests = False
            session.on_urgent = nobody  # Else either would keep the other until memory is searched for such pairs.
            if self._begun is not None:
                self._begun.close()

    def hurry(self) -> None:
        """Something urgent is gathered. What the call raises is raised by `run`."""
        if not self._rests:
            return
        self._rests = False
        self._left = self._session.drain()
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

    async def _write(self, messages: Iterator[wire.CoordinatorMessage]) -> None:
        while self._begin_next(messages):
            assert self._begun is not None
            await self._begun
            self._begun = None

    def _begin_next(self, messages: Iterator[wire.CoordinatorMessage]) -> bool:
        """False: there is none left."""
        message = next(messages, None)
        if message is None:
            return False
        self._begun = Begun(self._context.write(message))
        return True

"""Agents at a coordinator that follows, when they cannot reach the owner: their calls are passed on to it, as bytes.

An agent is sent to the owner. One that could not reach it comes back and says so in the metadata of `Connect`; only
then is its stream passed on, and ends with the connection to either side or with the ownership. Nothing is decoded
here: to the owner it is an agent like any other, whose stream has a mark.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import grpc

from penstock_coordinator.api.errors import exhausted
from penstock_coordinator.api.forwarding import HOP, Forwarder, heads, of_the_call
from penstock_coordinator.api.options import RELAYED_CALLS, RELAYED_SESSIONS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from penstock_coordinator.api.forwarding import Line
    from penstock_coordinator.api.guard import Context, Handler
    from penstock_coordinator.core.fleet.ownership import CoordinatorRow

CONNECT = "/penstock.agent.v1.AgentService/Connect"
UNREACHABLE = "penstock-unreachable"
"""Metadata of an agent's stream: host:port of an owner that it was sent to and could not reach. It may be there several
times."""

_SECOND = 1_000_000


class Relay:
    """One per process. Its channel to the owner is not that of users' calls: neither waits for the other."""

    def __init__(
        self,
        coordinator_id: str,
        owner: Callable[[], CoordinatorRow | None],
        options: Sequence[tuple[str, Any]],
        limit: int = RELAYED_SESSIONS,
    ) -> None:
        """`limit`: of streams at once."""
        self._owner = owner
        self._limit = limit
        self._calls = Forwarder(coordinator_id, owner, options, limit + RELAYED_CALLS)
        self.sessions = 0
        """Streams of agents that are passed on now."""

    def is_needed(self, metadata: Iterable[tuple[str, Any]]) -> bool:
        """Whether a stream with that metadata is of an agent that cannot reach the owner of now. One that took a hop
        takes no other."""
        owner = self._owner()
        given = tuple(metadata or ())
        return owner is not None and (UNREACHABLE, owner.address) in given and not any(key == HOP for key, _ in given)

    def stream(self) -> Handler:
        """For the stream of an agent."""
        return grpc.stream_stream_rpc_method_handler(self._connect, None, None)

    def handler(self, method: str, *, requests: bool, answers: bool) -> Handler:
        """For the other calls of agents. Nobody makes them here but agents whose streams are, or were, passed on."""
        return self._calls.handler(method, requests=requests, answers=answers)

    async def _connect(self, _requests: object, context: Context) -> None:
        metadata = context.invocation_metadata() or ()
        line = self._calls.line(metadata)
        if self.sessions >= self._limit:
            raise exhausted(
                "TOO_MANY_AGENTS",
                f"{self.sessions:,} agents that cannot reach the owner come by this coordinator, and that is all it"
                f" takes: let agents reach the owner at {line.address}, or start another coordinator",
                _SECOND,
            )
        call = line.method("stream_stream", CONNECT)(metadata=self._calls.metadata_of(metadata))
        self.sessions += 1
        try:
            with line.carrying(call):
                await _pass_both_ways(line, call, context)
        finally:
            self.sessions -= 1

    def follow(self) -> None:
        """Somebody was looked for who owns: streams to another one, or to a former incarnation, end."""
        self._calls.follow()

    def hang_up(self) -> None:
        self._calls.hang_up()

    async def close(self) -> None:
        await self._calls.close()


async def _pass_both_ways(line: Line, call: Any, context: Context) -> None:
    """Each message is written before the next is read, so whoever writes faster than the other end reads is held back.
    Returns when the owner has ended the stream; raises what was wrong with the agent's words."""
    connected = asyncio.create_task(call.wait_for_connection())
    hearing = asyncio.create_task(_pass_on(context, call, connected))
    # The transport ends its read when the handler is over: one that is cancelled would end the stream without a word.
    hearing.add_done_callback(_forget)
    begun = False
    try:
        while (answer := await call.read()) is not grpc.aio.EOF:
            if not begun:
                begun = True
                await context.send_initial_metadata(await heads(line, call))
            await context.write(answer)
    except asyncio.CancelledError:
        task = asyncio.current_task()
        ended = not (task is not None and task.cancelling()) and hearing.done() and not hearing.cancelled()
        if ended and (fault := hearing.exception()) is not None:
            raise fault from None
        raise
    finally:
        # Nothing of the transport's. A call that ends before it was connected would be waited for without end.
        connected.cancel()
    context.set_trailing_metadata(tuple(of_the_call(await call.trailing_metadata())))


async def _pass_on(context: Context, call: Any, connected: asyncio.Task[None]) -> None:
    try:
        await connected
        while (word := await context.read()) is not grpc.aio.EOF:
            await call.write(word)
        await call.done_writing()
    except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
        return  # The owner has ended the stream: how, whoever reads it hears.
    except Exception:
        call.cancel()
        raise


def _forget(hearing: asyncio.Task[None]) -> None:
    """Whoever reads when the call has ended is told so in many ways, some of them private."""
    if not hearing.cancelled():
        hearing.exception()

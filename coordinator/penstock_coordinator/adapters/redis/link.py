"""The way to Redis. Every call is bounded, none is repeated, and after a failure a new connection is made.

What redis-py does by itself is switched off: it repeats commands whose answer was lost, so that a count goes up twice,
and its timeouts bound a part of a call alone.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

from redis.asyncio import Redis
from redis.asyncio.connection import ConnectionPool, parse_url
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import MovedError, RedisError

from penstock_coordinator.ports import Unavailable

if TYPE_CHECKING:
    from typing import TypeAlias

    Client: TypeAlias = Redis
    Answer: TypeAlias = Any

ANSWER_SECONDS = 0.5
"""Redis answers in a millisecond. What takes longer is away, for what it is asked here."""
LONGEST_WAIT = 1.0
CONNECTIONS = 8
REDIRECTIONS = 3
# A connection that another call's failure closed while it was being made, or written to, has no stream any more
# (AttributeError in redis-py), or one that is closed (RuntimeError of the event loop).
_FAILURES = (RedisError, OSError, TimeoutError, AttributeError, RuntimeError)


class RedisLink:
    """One node: where it is a cluster, that which has our keys, as all of them share one hash tag."""

    def __init__(self, url: str, name: str, answer_seconds: float = ANSWER_SECONDS) -> None:
        """`name` is told to Redis. Raises `ValueError` for a URL that is none; connects when it is used."""
        self._options: dict[str, Any] = {
            **parse_url(url),
            "socket_timeout": LONGEST_WAIT + answer_seconds,
            "socket_connect_timeout": answer_seconds,
            "retry": Retry(NoBackoff(), 0),
            "health_check_interval": 0,
            "protocol": 2,
            "client_name": "".join(each if each.isalnum() else "-" for each in name),
            "max_connections": CONNECTIONS,
        }
        self._answer_seconds = answer_seconds
        self._client: Client | None = None
        self._moved_to: tuple[str, int] | None = None
        self._closing: set[asyncio.Task[None]] = set()

    async def ask(self, *command: str | bytes | float, wait: float = 0.0) -> Answer:
        """The answer to one command, which may block for `wait` seconds of its own. Raises `Unavailable`."""
        used: list[Client] = []
        try:
            async with asyncio.timeout(self._answer_seconds + wait):
                return await self._ask(command, used)
        except (*_FAILURES, ValueError, IndexError) as error:
            if self._let_go(used[-1] if used else None):
                self._moved_to = None
            raise Unavailable(f"Redis: {type(error).__name__}") from error

    async def _ask(self, command: tuple[str | bytes | float, ...], used: list[Client]) -> Answer:
        """Whoever gives up costs the connection that the answer comes on, and no other: the client sees to that."""
        for _ in range(REDIRECTIONS):
            used.append(self._connected())
            try:
                return await used[-1].execute_command(*command)  # type: ignore[no-untyped-call]  # has no types
            except MovedError as error:
                self._let_go(used[-1])
                self._moved_to = error.host, error.port
        raise OSError("it is redirected without end")

    def _connected(self) -> Client:
        if self._client is None:
            options = dict(self._options)
            if self._moved_to is not None:
                options["host"], options["port"] = self._moved_to
            self._client = Redis(connection_pool=ConnectionPool(**options))
        return self._client

    def _let_go(self, client: Client | None) -> bool:
        """Of all connections: one that failed says nothing good of the others, and names are looked up again. What
        others wait for on them ends too. False: somebody else has done so."""
        if client is None or client is not self._client:
            return False
        self._client = None
        task = asyncio.get_running_loop().create_task(_close(client))
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)
        return True

    async def aclose(self) -> None:
        self._let_go(self._client)
        if self._closing:
            await asyncio.wait(self._closing)


async def _close(client: Client) -> None:
    with contextlib.suppress(*_FAILURES):
        await client.connection_pool.disconnect()

"""The agent's links: one stream to each member that its head names, besides the home stream. A member is reached by its
own address or not at all: nobody passes links on. Which ones there are to be is for the core to say."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from penstock_agent.runtime.stream import KEEPALIVE, MOST_BACKOFF, Streams

if TYPE_CHECKING:
    from penstock.agent.v1 import agent_service_pb2 as wire
    from penstock_agent.core.links import Peer
    from penstock_agent.runtime.stream import Listener

LINK = "penstock-link"
"""Metadata of every call to a member: <coordinator id>@<epoch>. Another incarnation does not serve it."""


class MemberLink(Streams):
    """Keeps a stream to one incarnation of a member open until it is cancelled, or `leave`."""

    def __init__(
        self,
        number: int,
        peer: Peer,
        numbers: Iterator[int],
        listener: Listener,
        chance: Callable[[], float],
        keepalive: float,
    ) -> None:
        super().__init__(number, numbers, listener, chance, keepalive, ((LINK, peer.name),))
        self._address = peer.address

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        while not self._leaving.is_set():
            opened_at = loop.time()
            await self._one_stream(self._address)
            if self._welcomed and loop.time() - opened_at > MOST_BACKOFF:
                self._pauses.all_is_well()
            await self._pauses.take(self._leaving)


class Links:
    """`on_fault` is called with an error that no stream is to end with."""

    def __init__(
        self,
        numbers: Iterator[int],
        listener: Listener,
        on_fault: Callable[[BaseException], None],
        chance: Callable[[], float] = random.random,
        keepalive: float = KEEPALIVE,
    ) -> None:
        self._numbers = numbers
        self._listener = listener
        self._on_fault = on_fault
        self._chance = chance
        self._keepalive = keepalive
        self._links: dict[int, MemberLink] = {}
        self._tasks: dict[int, asyncio.Task[None]] = {}
        """Also of links that are being closed."""
        self._leaving = False

    def keep(self, links: list[tuple[int, Peer]]) -> None:
        """These, by number, and no others, until `leave`. What is open and is not among them ends at once, without a
        last word."""
        if self._leaving:
            return
        wanted = dict(links)
        for number in [number for number in self._links if number not in wanted]:
            del self._links[number]
            if number in self._tasks:
                self._tasks[number].cancel()
        for number, peer in wanted.items():
            if number not in self._links:
                self._open(number, peer)

    def _open(self, number: int, peer: Peer) -> None:
        link = MemberLink(number, peer, self._numbers, self._listener, self._chance, self._keepalive)
        self._links[number] = link
        task = self._tasks[number] = asyncio.get_running_loop().create_task(link.run())
        task.add_done_callback(lambda task: self._ended(number, task))

    def _ended(self, number: int, task: asyncio.Task[None]) -> None:
        del self._tasks[number]
        if not task.cancelled() and (error := task.exception()) is not None:
            self._on_fault(error)

    def close_stream(self, link: int, reconnect_after: float | None) -> None:
        """As `Streams.close_stream`, of this link."""
        if link in self._links:
            self._links[link].close_stream(reconnect_after)

    def leave(self, last_word: Callable[[], wire.AgentMessage]) -> list[asyncio.Task[None]]:
        """Each link ends with this, and none is opened again. The tasks that are over when that is done."""
        self._leaving = True
        for link in self._links.values():
            link.leave(last_word())
        return list(self._tasks.values())

    async def close(self) -> None:
        """Cuts off what is open."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

"""What is to be said on a stream, gathered by kind: one message carries all that came up since the last one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator

from penstock.agent.v1 import agent_service_pb2 as wire
from penstock_agent.core.leases import Handle, Lease, LeaseKey
from penstock_agent.runtime import clock
from penstock_agent.runtime.wire import (
    MAX_ITEMS,
    in_messages,
    ref_of,
    rejected_lease,
    returned_lease,
    step_result,
)

MANY_RESULTS = 64
"""The coordinator acknowledges within 20 ms: so many wait if thousands come in a second, and never of a chain."""
GATHER_SECONDS = 0.002


def nobody() -> None:
    """Waits for what is gathered."""


class Outbox:
    """Of one stream. Its size is bounded by what the agent holds."""

    def __init__(self, is_held: Callable[[Lease], bool]) -> None:
        self._is_held = is_held
        self._wake = asyncio.Event()
        self._hello: Callable[[], Iterator[wire.AgentMessage]] | None = None
        self._first: list[wire.AgentMessage] = []
        self._accepted: list[Lease] = []
        self._rejected: list[tuple[LeaseKey, int, str, str]] = []
        self._returned: list[tuple[LeaseKey, int, bool]] = []
        self._void_credits = 0
        self._results: list[Lease] = []
        self._grant_limit: int | None = None
        self._heartbeat: Callable[[], Iterator[wire.AgentMessage]] | None = None
        self._last: wire.AgentMessage | None = None
        self._gathering: asyncio.TimerHandle | None = None
        self.closing = False
        self.on_urgent: Callable[[], None] = nobody
        """Called when something is in it that somebody waits for."""

    def greet(self, hello: Callable[[], Iterator[wire.AgentMessage]]) -> None:
        """Made when it is written, before everything else, so that it says what is held then."""
        self._hello = hello
        self._wake.set()

    def say(self, message: wire.AgentMessage) -> None:
        """Before everything else but the greeting."""
        self._first.append(message)
        self._wake.set()

    def accept(self, leases: list[Lease]) -> None:
        self._accepted += leases
        self._wake.set()
        self.on_urgent()

    def reject(self, leases: list[tuple[LeaseKey, int, str, str]]) -> None:
        self._rejected += leases
        self._wake.set()

    def give_back(self, leases: list[tuple[LeaseKey, int, bool]], void_credits: int = 0) -> None:
        """`void_credits`: there is no room, and credits up to that limit are none."""
        self._returned += leases
        self._void_credits = max(self._void_credits, void_credits)
        self._wake.set()

    def send_results(self, leases: list[Lease], unacknowledged: int) -> None:
        """While many wait for their acknowledgements, more come in a moment: one message takes them all."""
        self._results += leases
        if unacknowledged < MANY_RESULTS:
            self._wake.set()
            self.on_urgent()
        elif self._gathering is None:
            self._gathering = asyncio.get_running_loop().call_later(GATHER_SECONDS, self._gathered)

    def _gathered(self) -> None:
        self._gathering = None
        self._wake.set()

    def raise_credits(self, grant_limit: int) -> None:
        self._grant_limit = grant_limit
        self._wake.set()

    def beat(self, heartbeat: Callable[[], Iterator[wire.AgentMessage]]) -> None:
        """Made when it is written, so that it says what is held then."""
        self._heartbeat = heartbeat
        self._wake.set()

    def close(self, last: wire.AgentMessage | None = None) -> None:
        """End the stream when all is written, with `last` as the last word."""
        self._last = last
        self.closing = True
        self._wake.set()

    async def wait(self) -> None:
        """Until there is something to write, or the stream is to be closed."""
        await self._wake.wait()
        self._wake.clear()

    def drain(self) -> Iterator[tuple[wire.AgentMessage, list[Handle]]]:
        """Messages without numbers, each with the leases that it accepts."""
        yield from self._before_all()
        yield from self._acceptances()
        # While those were being written, more may have come up: whoever drains says so before what it hands back.
        yield from self._before_all()
        for message in self._news():
            yield message, []
        if self._last is not None:
            # After it nothing is written: what has come up meanwhile goes before it.
            yield from self._before_all()
            for message in self._news():
                yield message, []
            last, self._last = self._last, None
            yield last, []

    def _before_all(self) -> Iterator[tuple[wire.AgentMessage, list[Handle]]]:
        if self._hello is not None:
            hello, self._hello = self._hello, None
            for message in hello():
                yield message, []
        first, self._first = self._first, []
        for message in first:
            yield message, []

    def _acceptances(self) -> Iterator[tuple[wire.AgentMessage, list[Handle]]]:
        accepted, self._accepted = self._accepted, []
        for start in range(0, len(accepted), MAX_ITEMS):
            leases = accepted[start : start + MAX_ITEMS]
            message = wire.AgentMessage()
            message.leases_accepted.leases.extend([ref_of(lease) for lease in leases])
            yield message, [lease.handle for lease in leases]

    def _news(self) -> Iterator[wire.AgentMessage]:
        if self._rejected or self._returned:
            yield from self._given_up()
        if self._results:
            yield from self._ended()
        if self._grant_limit is not None:
            limit, self._grant_limit = self._grant_limit, None
            yield wire.AgentMessage(credits=wire.Credits(grant_limit=limit))
        if self._heartbeat is not None:
            # It does not name what was handed back while the rest was being written: that has to be heard of before.
            while self._rejected or self._returned:
                yield from self._given_up()
            heartbeat, self._heartbeat = self._heartbeat, None
            yield from heartbeat()

    def _given_up(self) -> Iterator[wire.AgentMessage]:
        rejected, self._rejected = self._rejected, []
        for rejections in in_messages(rejected_lease(*each) for each in rejected):
            yield wire.AgentMessage(leases_rejected=wire.LeasesRejected(leases=rejections))
        returned, self._returned = self._returned, []
        void, self._void_credits = self._void_credits, 0
        for returns in in_messages(returned_lease(*each) for each in returned):
            yield wire.AgentMessage(returned=wire.Returned(leases=returns, void_credits=void))

    def _ended(self) -> Iterator[wire.AgentMessage]:
        results, self._results = self._results, []
        now = clock.now()
        message = wire.AgentMessage()
        if len(results) == 1:
            # In place: a result that is put into another message is copied, by way of bytes.
            if self._is_held(results[0]):
                step_result(results[0], now, message.results.results.add())
                yield message
            return
        for part in in_messages(step_result(lease, now) for lease in results if self._is_held(lease)):
            message = wire.AgentMessage()
            message.results.results.extend(part)
            yield message

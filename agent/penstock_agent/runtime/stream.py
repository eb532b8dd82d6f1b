"""The agent's streams: opened, read by one task, written by another, and opened again when they end. The home stream,
with the head, goes to the next coordinator if there are several. If the head cannot be reached, another coordinator
hears of it and passes the stream on, until the direct way is open again.

Only the read and write calls of the library are used, never its iterators, and no read has a timeout: a read that is
cancelled ends the call. What takes too long is ended by cancelling the call itself.
"""

from __future__ import annotations

import asyncio
import functools
import itertools
import random
from collections.abc import Callable, Coroutine, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Protocol

import grpc
import grpc.aio

from penstock.agent.v1 import agent_service_pb2 as wire
from penstock_agent.core.leases import HOME
from penstock_agent.core.rounds import Rounds
from penstock_agent.core.ways import Ways
from penstock_agent.own_log import OwnLog
from penstock_agent.runtime.names import behind
from penstock_agent.runtime.outbox import Outbox
from penstock_agent.runtime.pen import Author, Pen
from penstock_agent.runtime.stubs import Metadata, Stubs
from penstock_agent.runtime.way_back import can_be_reached

if TYPE_CHECKING:
    from penstock_agent.core.leases import Lease
    from penstock_agent.runtime.pen import Call

log = OwnLog(__name__)

KEEPALIVE = 10.0
"""Seconds between two pings of the transport. An answer may take half as long."""


def channel_options(keepalive: float = KEEPALIVE) -> list[tuple[str, int]]:
    """A stopped peer is noticed within 1.5 times `keepalive`: by ping_timeout, without which it takes a minute. A hung
    event loop answers pings; heartbeats notice that."""
    every = int(keepalive * 1_000)
    return [
        ("grpc.keepalive_time_ms", every),
        ("grpc.keepalive_timeout_ms", every // 2),
        ("grpc.http2.ping_timeout_ms", every // 2),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.max_pings_without_data", 0),
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.min_reconnect_backoff_ms", 1_000),
        ("grpc.max_reconnect_backoff_ms", 5_000),
        ("grpc.use_local_subchannel_pool", 1),
        ("grpc.max_receive_message_length", 64 * 1024 * 1024),
        ("grpc.max_send_message_length", 64 * 1024 * 1024),
    ]


FIRST_BACKOFF, MOST_BACKOFF = 0.1, 5.0
SHARE_OF_TTL = 6
"""No pause takes more than such a part of a lease's life: what is held is to live until the agent is back, and tried
again."""
WELCOME_WITHIN = 10.0
WELCOME_OF_SEVERAL_WITHIN = 4.0
"""Whoever is silent is not waited for that long if there are others to ask."""
LAST_WORD_WITHIN = 2.0
UNREACHABLE = "penstock-unreachable"
"""Metadata of a stream: an owner to which the agent was sent, and which it could not reach. Whoever knows no such
metadata sends the agent there again."""
OWNER = "penstock-owner"
"""Initial metadata of a stream that is passed on: where the owner is."""

REFUSED_WITHIN = 20.0
"""An agent that was started again is taken for its own twin until the coordinator has missed the former process."""


class IdInUse(Exception):
    """Another agent with the same id is connected; the text is the coordinator's, with the remedy."""


class OpenStream(Author, Protocol):
    """What is told of a stream, on the loop's thread."""

    def says(self, message: wire.CoordinatorMessage) -> bool:
        """True: with this, the agent is welcome. ValueError: the coordinator contradicts the protocol."""

    def closed(self) -> None: ...


class Listener(Protocol):
    """Hears of streams, on the loop's thread."""

    def stream_opened(self, stream: int, link: int, outbox: Outbox, stubs: Stubs) -> OpenStream: ...

    def is_held(self, lease: Lease) -> bool: ...


class Pauses:
    """Between two streams to the same coordinator, or after a round of several."""

    def __init__(self, chance: Callable[[], float]) -> None:
        self._chance = chance
        self._backoff = FIRST_BACKOFF
        self._most_backoff = MOST_BACKOFF
        self._wait: float | None = None

    def ask(self, seconds: float | None) -> None:
        """Before the next stream, with jitter of up to 100 %; None or 0: as is usual."""
        self._wait = seconds * (1 + self._chance()) if seconds else None

    def welcomed(self, ttl: float) -> None:
        """`ttl`: a lease's life in seconds, as the coordinator says it; 0: it does not."""
        self._wait = None
        self._most_backoff = min(max(ttl / SHARE_OF_TTL, FIRST_BACKOFF), MOST_BACKOFF) if ttl else MOST_BACKOFF

    def all_is_well(self) -> None:
        """The next pause is a short one."""
        self._backoff = FIRST_BACKOFF

    async def take(self, leaving: asyncio.Event) -> None:
        wait, self._wait = self._wait, None
        if wait is None:
            wait = min(self._backoff, self._most_backoff) * self._chance()
            self._backoff = min(self._backoff * 2, MOST_BACKOFF)
        if not leaving.is_set():
            with suppress(TimeoutError):
                await asyncio.wait_for(leaving.wait(), wait)


class Streams:
    """One stream after the other, home's or those of a link, until `leave`."""

    def __init__(
        self,
        link: int,
        numbers: Iterator[int],
        listener: Listener,
        chance: Callable[[], float],
        keepalive: float,
        named: Metadata = (),
    ) -> None:
        """`numbers`: of all streams of the process, each given once. `named`: metadata of every call on this link."""
        self._link = link
        self._named = named
        self._numbers = numbers
        self._options = channel_options(keepalive)
        self._listener = listener
        self._chance = chance
        self._pauses = Pauses(chance)
        self._patience = WELCOME_WITHIN
        """Seconds for the Welcome."""
        self._welcomed = False
        """On the stream that is open, or was last."""
        self._heard = False
        """Any word on it."""
        self._outbox: Outbox | None = None
        self._leaving = asyncio.Event()

    def close_stream(self, reconnect_after: float | None) -> None:
        """End the open stream when all is written; come back after this many seconds, with jitter of up to 100 %."""
        self._pauses.ask(reconnect_after)
        if self._outbox is not None:
            self._outbox.close()

    def leave(self, last_word: wire.AgentMessage) -> None:
        """End the open stream with this, and open no other."""
        self._leaving.set()
        if self._outbox is not None:
            self._outbox.close(last_word)

    async def _one_stream(self, address: str, metadata: Metadata = ()) -> None:
        """`metadata`: of the stream alone."""
        self._welcomed = self._heard = False
        channel = grpc.aio.insecure_channel(address, options=self._options)
        outbox = self._outbox = Outbox(self._listener.is_held)
        stubs = Stubs.of(channel, self._named)
        call = stubs.agents.Connect(metadata=tuple(metadata)) if metadata else stubs.agents.Connect()
        stream = self._listener.stream_opened(next(self._numbers), self._link, outbox, stubs)
        try:
            self._check_end(await talk(call, outbox, stream, self._read(call, stream)))
            self._note_way(address, channel)
        finally:
            self._outbox = None
            stream.closed()
            await channel.close()

    async def _read(self, call: Call, stream: OpenStream) -> None:
        too_late = asyncio.get_running_loop().call_later(self._patience, call.cancel)
        try:
            while (message := await call.read()) is not grpc.aio.EOF:
                assert isinstance(message, wire.CoordinatorMessage)
                self._heard = True
                if stream.says(message):
                    too_late.cancel()
                    self._welcomed = True
                    self._pauses.welcomed(message.welcome.lease_ttl.ToMicroseconds() / 1e6)
                    await self._note_welcome(call, message.welcome)
        finally:
            too_late.cancel()

    def _check_end(self, error: BaseException | None) -> None:
        """`error`: that ended the reading."""

    def _note_way(self, address: str, channel: grpc.aio.Channel) -> None:
        """The stream to this address is over."""

    async def _note_welcome(self, call: Call, welcome: wire.Welcome) -> None: ...


class Connection(Streams):
    """Keeps a stream to a coordinator open until `leave`: to the head, wherever that is."""

    def __init__(
        self,
        address: str,
        listener: Listener,
        chance: Callable[[], float] = random.random,
        keepalive: float = KEEPALIVE,
        numbers: Iterator[int] | None = None,
    ) -> None:
        """`address`: host:port of a coordinator, or of several, separated by commas."""
        super().__init__(HOME, itertools.count(1) if numbers is None else numbers, listener, chance, keepalive)
        self._given = address.split(",")
        self._rounds = Rounds(self._given, chance() if len(self._given) > 1 else 0.0)
        self._ways = Ways()
        self._is_sent = False
        """A coordinator has named where the stream goes as the owner's."""
        self._way_back: asyncio.Task[None] | None = None
        """Is looked for: the stream is passed on by a coordinator that follows."""
        self._refused_at: float | None = None
        """Since then the coordinator has said of each stream that the agent's id is in use."""

    async def run(self) -> None:
        """Raises `IdInUse` if the coordinator goes on to refuse the agent for it."""
        while not self._leaving.is_set():
            self._rounds.known(await behind(self._given))
            opened_at = asyncio.get_running_loop().time()
            self._is_sent = self._rounds.is_sent
            self._patience = WELCOME_OF_SEVERAL_WITHIN if self._rounds.several else WELCOME_WITHIN
            await self._one_stream(self._rounds.next(), self._unreachable())
            if asyncio.get_running_loop().time() - opened_at > MOST_BACKOFF and (
                self._welcomed or not self._rounds.several
            ):
                self._pauses.all_is_well()
            if self._rounds.over(good=self._welcomed):
                await self._pauses.take(self._leaving)

    @property
    def is_relayed(self) -> bool:
        """The stream is passed on by a coordinator that follows."""
        return self._way_back is not None

    def use_address(self, address: str) -> None:
        """For the next stream; if that fails, the one after it goes to one of the usual addresses again."""
        self._rounds.name(address)

    async def _one_stream(self, address: str, metadata: Metadata = ()) -> None:
        try:
            await super()._one_stream(address, metadata)
        finally:
            if self._way_back is not None:
                self._way_back.cancel()
                self._way_back = None

    def _unreachable(self) -> list[tuple[str, str]]:
        return [(UNREACHABLE, each) for each in self._ways.unreachable(asyncio.get_running_loop().time())]

    def _note_way(self, address: str, channel: grpc.aio.Channel) -> None:
        """Whoever says a word was reached, and so was who has a connection, as that begins with a word of the transport
        there: an owner that is slow to welcome agents is no better reached by others."""
        if self._heard:
            self._ways.reached(address)
        elif self._is_sent and not self._leaving.is_set():
            if channel.get_state() is grpc.ChannelConnectivity.READY:
                return
            log.warning(
                "owner_not_reached", address=address, remedy="open the way to it; others pass on to it meanwhile"
            )
            self._ways.failed(address, asyncio.get_running_loop().time(), self._chance())

    async def _look_for_a_way_back(self, owner: str) -> None:
        await can_be_reached(owner, self._ways, self._options, self._chance)
        if self._leaving.is_set() or self._outbox is None or self._outbox.closing:
            return  # The last word is on its way here, and where to go next is said already.
        log.info("owner_reachable_again", address=owner)
        self._rounds.name(owner)
        self.close_stream(None)

    def _check_end(self, error: BaseException | None) -> None:
        """Raises `IdInUse`."""
        if not isinstance(error, grpc.aio.AioRpcError) or error.code() is not grpc.StatusCode.ALREADY_EXISTS:
            return
        now = asyncio.get_running_loop().time()
        self._refused_at = now if self._refused_at is None else self._refused_at
        if now - self._refused_at > REFUSED_WITHIN:
            raise IdInUse(error.details())

    async def _note_welcome(self, call: Call, welcome: wire.Welcome) -> None:
        """Initial metadata are there with the first word."""
        self._refused_at = None
        self._ways.set_pace(welcome.heartbeat_interval.ToMicroseconds() / 1e6)
        if self._ways.all_open:
            return  # It has asked nobody for it.
        owner = next((value for key, value in await call.initial_metadata() if key == OWNER), None)
        if owner is not None:
            log.info("stream_passed_on", address=str(owner))
            self._way_back = asyncio.get_running_loop().create_task(self._look_for_a_way_back(str(owner)))
            self._way_back.add_done_callback(functools.partial(_tell, set()))


async def talk(call: Call, outbox: Outbox, author: Author, reading: Coroutine[Any, Any, None]) -> BaseException | None:
    """Until `reading` ends, the call fails, or all is written to an outbox that closes. What ended the reading; None:
    the other side, or this one."""
    loop = asyncio.get_running_loop()
    reader = loop.create_task(reading)
    writer = loop.create_task(Pen(call, outbox, author).run())
    told = set[str]()
    for task in (reader, writer):
        # Also if nobody waits for them to the end: who is cancelled here does not.
        task.add_done_callback(functools.partial(_tell, told))
    try:
        done, _ = await asyncio.wait({reader, writer}, return_when=asyncio.FIRST_COMPLETED)
        if writer in done and outbox.closing:
            await asyncio.wait({reader}, timeout=LAST_WORD_WITHIN)
    finally:
        writer.cancel()
        call.cancel()
        await asyncio.wait({reader, writer})
    return None if reader.cancelled() else reader.exception()


def _tell(told: set[str], task: asyncio.Task[None]) -> None:
    """How the stream ended, for the operator: once, though reader and writer both hear of it. A stream that ends is
    nothing unusual."""
    if task.cancelled():
        return
    error = task.exception()
    if isinstance(error, grpc.aio.AioRpcError):
        code = error.code().name
        if code not in told:
            log.info("stream_ended", code=code, reason=error.details())
        told.add(code)
    elif error is not None and not isinstance(error, asyncio.InvalidStateError):
        log.error("stream_failed", exc_info=error)

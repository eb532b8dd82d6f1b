"""A link between two processes that can be made worse while they talk: a TCP proxy on a thread of its own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any, Self

_LONGEST_QUEUE = 1 << 20
"""Bytes on their way in one direction; whoever sends more waits."""
_WORDS_OF_WELCOME = 4
"""With which a client of PostgreSQL says who it is."""


class Link:
    """Forwards every connection to its target. All methods may be called from any thread, and take effect at once.

    `host` is the address that it listens on; the port is a free one.
    """

    def __init__(self, target: tuple[str, int], host: str = "127.0.0.1") -> None:
        self._target = target
        self._host = host
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="link", daemon=True)
        self._server: asyncio.Server | None = None
        self._pairs: set[_Pair] = set()
        self.port = 0
        self.refusing = False
        self.delay = 0.0
        self.drop_requests = False
        self.drop_answers = False
        self.words: int | None = None
        self.answers_cut = 0
        """How many answers were lost with their connection since the start."""
        self._cut_at_answer: tuple[bytes, int] | None = None

    def __enter__(self) -> Self:
        self._thread.start()
        self._in_loop(self._listen())
        return self

    def __exit__(self, *_exception: object) -> None:
        self._in_loop(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    # --- what can be done to it

    def aim(self, target: tuple[str, int]) -> None:
        """Where connections from now on go."""
        self._target = target

    def cut(self) -> None:
        """Reset every connection."""
        self._call(self._cut)

    def refuse(self, refusing: bool = True) -> None:
        """Reset every connection, and each new one as soon as it is opened."""
        self.refusing = refusing
        if refusing:
            self.cut()

    def drop(self, *, requests: bool, answers: bool) -> None:
        """What comes from clients, from servers, disappears; connections stay open. Also a connection that is opened
        now comes about, and is mute."""
        self.drop_requests, self.drop_answers = requests, answers

    def cut_at_answer(self, marked: bytes, times: int = 1) -> None:
        """What is asked next with these bytes in it is forwarded, and when the answer comes the connection is reset; so
        often. The few words of a connection's beginning do not count."""
        self._call(lambda: setattr(self, "_cut_at_answer", (marked, times)))

    def drop_after(self, words: int) -> None:
        """Of connections that are made from now on: what comes from the client after so many words disappears, and all
        answers from then on."""
        self.words = words

    def heal(self) -> None:
        """As new. Connections that lost something are cut."""
        self.refusing, self.delay, self.words = False, 0.0, None
        self.drop_requests = self.drop_answers = False
        self._call(self._heal)

    # --- how it works

    def _call(self, function: Callable[[], object]) -> None:
        async def calling() -> None:
            function()

        self._in_loop(calling())

    def _in_loop(self, coroutine: Any) -> None:
        asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(10.0)

    async def _listen(self) -> None:
        self._server = await self._loop.create_server(lambda: _Pair(self, self._loop), self._host, 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _end(self) -> None:
        assert self._server is not None
        self._server.close()
        self._cut()
        await asyncio.sleep(0)

    def _cut(self) -> None:
        for pair in list(self._pairs):
            pair.abort()

    def _heal(self) -> None:
        self._cut_at_answer = None
        for pair in list(self._pairs):
            if pair.lost:
                pair.abort()

    def target(self) -> tuple[str, int]:
        return self._target

    def opened(self, pair: _Pair) -> None:
        self._pairs.add(pair)

    def closed(self, pair: _Pair) -> None:
        self._pairs.discard(pair)

    def marks(self, data: bytes) -> bool:
        """Whether the answer to what is asked here is to be lost."""
        return self._cut_at_answer is not None and self._cut_at_answer[0] in data

    def is_cut_here(self) -> bool:
        """Whether the answer that has come to what was marked is lost."""
        if self._cut_at_answer is None:
            return False
        mark, times = self._cut_at_answer
        self._cut_at_answer = (mark, times - 1) if times > 1 else None
        self.answers_cut += 1
        return True


class _Pair(asyncio.Protocol):
    """The client's end of one forwarded connection."""

    def __init__(self, link: Link, loop: asyncio.AbstractEventLoop) -> None:
        self._link = link
        self._loop = loop
        self._client: asyncio.Transport | None = None
        self._server: asyncio.Transport | None = None
        self._early: list[bytes] = []
        self._opening: asyncio.Task[None] | None = None
        self._asked = 0
        """How often something came from the client."""
        self._marked = False
        self._words = link.words
        self.lost = False

    # --- events

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._client = transport
        if self._link.refusing:
            transport.abort()
            return
        self._link.opened(self)
        self._opening = self._loop.create_task(self._open())

    def data_received(self, data: bytes) -> None:
        self._asked += 1
        self._marked = self._marked or (self._asked > _WORDS_OF_WELCOME and self._link.marks(data))
        if self._link.drop_requests or self._is_mute(self._asked - 1):
            self.lost = True
        else:
            self._later(lambda: self._to_server(data))

    def answered(self, data: bytes) -> None:
        if self._link.drop_answers or self._is_mute(self._asked):
            self.lost = True
        elif self._marked and self._link.is_cut_here():
            self.abort()
        else:
            self._later(lambda: self._to_client(data))

    def eof_received(self) -> bool:
        self._later(self.abort)
        return True

    def connection_lost(self, _error: Exception | None) -> None:
        self.abort()

    def server_lost(self) -> None:
        """What it had said arrives first."""
        self._later(self.abort)

    def _is_mute(self, words: int) -> bool:
        return self._words is not None and words >= self._words

    # --- forwarding

    async def _open(self) -> None:
        try:
            transport, _ = await self._loop.create_connection(lambda: _Answers(self), *self._link.target())
        except OSError:
            self.abort()
            return
        self._server = transport
        if self._client is None or self._client.is_closing():
            transport.abort()
            return
        for data in self._early:
            transport.write(data)
        self._early.clear()

    def _later(self, function: Callable[[], object]) -> None:
        if self._link.delay:
            self._loop.call_later(self._link.delay, function)
        else:
            function()

    def _to_server(self, data: bytes) -> None:
        if self._server is None:
            self._early.append(data)
        elif not self._server.is_closing():
            self._server.write(data)
            self._hold_back(self._client, self._server)

    def _to_client(self, data: bytes) -> None:
        if self._client is not None and not self._client.is_closing():
            self._client.write(data)
            self._hold_back(self._server, self._client)

    def _hold_back(self, source: asyncio.Transport | None, sink: asyncio.Transport) -> None:
        """Do not read faster than the other end does."""
        if source is None or source.is_closing() or sink.get_write_buffer_size() < _LONGEST_QUEUE:
            return
        source.pause_reading()
        self._loop.call_later(0.02, self._go_on, source, sink)

    def _go_on(self, source: asyncio.Transport, sink: asyncio.Transport) -> None:
        if source.is_closing():
            return
        if sink.is_closing() or sink.get_write_buffer_size() < _LONGEST_QUEUE // 2:
            source.resume_reading()
        else:
            self._loop.call_later(0.02, self._go_on, source, sink)

    def abort(self) -> None:
        self._link.closed(self)
        for transport in (self._client, self._server):
            if transport is not None:
                transport.abort()


class _Answers(asyncio.Protocol):
    """The server's end."""

    def __init__(self, pair: _Pair) -> None:
        self._pair = pair

    def data_received(self, data: bytes) -> None:
        self._pair.answered(data)

    def connection_lost(self, _error: Exception | None) -> None:
        self._pair.server_lost()

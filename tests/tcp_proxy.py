"""A TCP proxy on loopback that loses what a test tells it to lose."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from types import TracebackType
from typing import Self


class TcpProxy:
    """Forwards to one address until it is told otherwise. `lost` is set when something was swallowed."""

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._swallow_requests = False
        self._swallow_answers = False
        self.lost = asyncio.Event()

    @property
    def port(self) -> int:
        assert self._server is not None
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    def swallow_requests(self) -> None:
        """What clients send disappears from here on, as behind a dead link."""
        self._swallow_requests = True

    def swallow_answers(self) -> None:
        """What the server sends disappears from here on."""
        self._swallow_answers = True

    def heal(self) -> None:
        """Connections from here on are forwarded; those that lost something are cut."""
        self._swallow_requests = self._swallow_answers = False
        self.lost.clear()
        self.cut()

    def cut(self) -> None:
        """Reset all connections."""
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        self.cut()
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        with contextlib.suppress(OSError):
            async with self._connected() as (server_reader, server_writer):
                await asyncio.gather(
                    self._forward(reader, server_writer, requests=True),
                    self._forward(server_reader, writer, requests=False),
                )
        writer.transport.abort()

    @contextlib.asynccontextmanager
    async def _connected(self) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        reader, writer = await asyncio.open_connection(*self._target)
        self._writers.add(writer)
        try:
            yield reader, writer
        finally:
            writer.transport.abort()

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, requests: bool) -> None:
        while data := await reader.read(1 << 16):
            if self._swallow_requests if requests else self._swallow_answers:
                self.lost.set()
            else:
                writer.write(data)
                await writer.drain()
        writer.transport.abort()

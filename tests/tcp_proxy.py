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
        self._clients: set[asyncio.StreamWriter] = set()
        self._servers: set[asyncio.StreamWriter] = set()
        self._swallow_requests = False
        self._swallow_answers: bytes | None = None
        self._hold: bytes | None = None
        self._hold_connections = False
        self.lost = asyncio.Event()
        self.held: asyncio.Queue[asyncio.Event] = asyncio.Queue()
        """What `hold` holds back, each to be let go by setting its event."""

    @property
    def port(self) -> int:
        assert self._server is not None
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    def swallow_requests(self) -> None:
        """What clients send disappears from here on, as behind a dead link."""
        self._swallow_requests = True

    def swallow_answers(self, since: bytes = b"") -> None:
        """What the server sends disappears, beginning with what contains those bytes."""
        self._swallow_answers = since

    def hold(self, containing: bytes | None) -> None:
        """What clients send from here on waits in `held` if it contains those bytes (None: nothing waits). It arrives
        once it is let go, also if the client is gone by then, as from the buffers of a network."""
        self._hold = containing

    def hold_connections(self) -> None:
        """Who connects from here on waits in `held`: the connection is there, and nobody says anything on it."""
        self._hold_connections = True

    def heal(self) -> None:
        """Connections from here on are forwarded; those that lost something are cut."""
        self._swallow_requests, self._swallow_answers = False, None
        self.lost.clear()
        self.cut()

    def cut(self) -> None:
        """Reset all connections."""
        self.cut_clients()
        for writer in self._servers:
            writer.transport.abort()
        self._servers.clear()

    def cut_clients(self) -> None:
        """Reset the connections of clients; the server does not hear of it while something is held."""
        for writer in self._clients:
            writer.transport.abort()
        self._clients.clear()

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
        self._clients.add(writer)
        if self._hold_connections:
            await self._let_go()
        with contextlib.suppress(OSError):
            async with self._connected() as (server_reader, server_writer):
                await asyncio.gather(
                    self._forward_requests(reader, server_writer), self._forward_answers(server_reader, writer)
                )
        writer.transport.abort()

    @contextlib.asynccontextmanager
    async def _connected(self) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        reader, writer = await asyncio.open_connection(*self._target)
        self._servers.add(writer)
        try:
            yield reader, writer
        finally:
            writer.transport.abort()

    async def _forward_requests(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionResetError):
            while data := await reader.read(1 << 16):
                if self._hold is not None and self._hold in data:
                    await self._let_go()
                if self._swallow_requests:
                    self.lost.set()
                else:
                    writer.write(data)
                    await writer.drain()
        writer.close()

    async def _let_go(self) -> None:
        let_go = asyncio.Event()
        self.held.put_nowait(let_go)
        await let_go.wait()

    async def _forward_answers(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        losing = False
        while data := await reader.read(1 << 16):
            losing = self._swallow_answers is not None and (losing or self._swallow_answers in data)
            if losing:
                self.lost.set()
            elif not writer.is_closing():
                writer.write(data)
                await writer.drain()
        writer.transport.abort()

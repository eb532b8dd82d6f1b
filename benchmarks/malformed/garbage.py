"""Connections that speak no gRPC, or begin to and then do not."""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import struct
from collections.abc import Awaitable, Callable

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
SETTINGS = b"\x00\x00\x00\x04\x00\x00\x00\x00\x00"
ANSWER_SECONDS = 0.5
DRIBBLE_SECONDS = 2.0
MOST_BYTES = 1 << 20

Address = tuple[str, int]
Talk = Callable[[random.Random, asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def _random_bytes(chance: random.Random, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(chance.randbytes(chance.randrange(1, 4_000)))


async def _http1(chance: random.Random, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    path = chance.choice(("/", "/readyz", "/" + "a" * 9_000, "/%00", "/../../etc/passwd"))
    length = chance.choice(("", "content-length: 99999999999\r\n", "transfer-encoding: chunked\r\n"))
    writer.write(f"{chance.choice(('GET', 'POST', 'BREW'))} {path} HTTP/1.1\r\nhost: x\r\n{length}\r\nzz\r\n".encode())


async def _half_tls(chance: random.Random, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    hello = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + chance.randbytes(200)
    writer.write(hello[: chance.randrange(3, len(hello))])


async def _reset(_chance: random.Random, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def _slow(chance: random.Random, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A byte now and then, of what could be a request."""
    end = asyncio.get_running_loop().time() + DRIBBLE_SECONDS
    for byte in PREFACE[:-1] + chance.randbytes(100):
        if asyncio.get_running_loop().time() > end:
            return
        writer.write(bytes([byte]))
        await writer.drain()
        await asyncio.sleep(0.1)


async def _broken_http2(chance: random.Random, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    frames = [PREFACE, SETTINGS]
    for _ in range(chance.randrange(1, 20)):
        size = chance.choice((0, 1, 5, 100, 16_384, 2**24 - 1))
        head = size.to_bytes(3, "big") + bytes([chance.randrange(12), chance.randrange(256)])
        frames.append(head + chance.randrange(2**31).to_bytes(4, "big") + chance.randbytes(min(size, 200)))
    writer.write(b"".join(frames))


async def _settings_flood(_chance: random.Random, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(PREFACE + SETTINGS * 500)


async def _wrong_length(chance: random.Random, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A call whose message says that it has far more bytes than come."""
    path = b"/penstock.v1.RunService/Get"
    headers = b"\x83\x86\x04" + bytes([len(path)]) + path + b"\x5f\x10application/grpc" + b"\x40\x02te\x08trailers"
    writer.write(PREFACE + SETTINGS + _frame(1, 4, headers))
    length = chance.choice((2**32 - 1, 2**31, 100_000_000, 50))
    data = bytes([chance.choice((0, 1, 7))]) + length.to_bytes(4, "big") + b"abc"
    writer.write(_frame(0, chance.choice((0, 1)), data))


def _frame(kind: int, flags: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + (1).to_bytes(4, "big") + payload


TALKS: tuple[Talk, ...] = (
    _random_bytes,
    _http1,
    _half_tls,
    _reset,
    _slow,
    _broken_http2,
    _settings_flood,
    _wrong_length,
)


async def connect(address: Address, number: int, seed: int) -> tuple[str, bytes]:
    """One connection, of the kind whose turn it is; what it is, and what came back."""
    chance = random.Random(f"{seed} connection {number}")  # has to be repeatable
    talk = TALKS[number % len(TALKS)]
    came = b""
    reader, writer = await asyncio.open_connection(*address)
    try:
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(ANSWER_SECONDS + DRIBBLE_SECONDS):
                await talk(chance, reader, writer)
                await writer.drain()
                async with asyncio.timeout(ANSWER_SECONDS):
                    while len(came) < MOST_BYTES and (part := await reader.read(65_536)):
                        came += part
    finally:
        writer.transport.abort()
    return talk.__name__.strip("_"), came

"""Reading and writing of files in threads, piece by piece: memory does not grow with what is brought."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")

PIECE = 1 << 20
THREADS = 4


class FileThreads:
    """Threads of their own: those of the event loop do other things that must not wait."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="penstock-artifacts")

    async def do(self, work: Callable[..., T], *arguments: Any) -> T:
        """Also when the caller is cancelled it is at rest afterwards: it may hold a descriptor that is closed next."""
        future = asyncio.get_running_loop().run_in_executor(self._pool, work, *arguments)
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            await asyncio.wait([future])
            raise

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)

    async def pieces(self, fd: int, offset: int, size: int) -> AsyncIterator[bytes]:
        """A part of a file. EOFError: it is shorter."""
        while size:
            data = await self.do(os.pread, fd, min(PIECE, size), offset)
            if not data:
                raise EOFError("the file has become shorter")
            yield data
            offset, size = offset + len(data), size - len(data)

    async def digest_of(self, path: Path) -> str:
        return await self.do(digest_of, path)


def digest_of(path: Path) -> str:
    with path.open("rb") as file:
        return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"


def hash_range(summed: hashlib._Hash, fd: int, offset: int, size: int) -> None:
    while size:
        data = os.pread(fd, min(PIECE, size), offset)
        if not data:
            raise EOFError("the file has become shorter")
        summed.update(data)
        offset, size = offset + len(data), size - len(data)


def write_all(fd: int, data: bytes, offset: int) -> None:
    written = 0
    while written < len(data):
        written += os.pwrite(fd, memoryview(data)[written:], offset + written)

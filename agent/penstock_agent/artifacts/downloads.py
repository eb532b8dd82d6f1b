"""Artifacts on their way to this machine: each digest once at a time, in parts, and checked before it counts.

Parts are fetched several at once; the digest is taken over the parts in their order while the later ones still come.
After a cut each part goes on where it was.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import yarl

from penstock.agent.v1 import artifact_service_pb2 as wire
from penstock_agent.artifacts.cache import ArtifactCache
from penstock_agent.artifacts.failures import Again, Patience, StoreFailure, asking_store, check_answer, together
from penstock_agent.artifacts.files import PIECE, FileThreads, hash_range, write_all
from penstock_agent.artifacts.service import MOST_DIGESTS, Access, Service
from penstock_agent.executors.references import Reference

PART_BYTES = 16 << 20
PARTS_AT_ONCE = 4
"""Of all artifacts together."""
FILES_AT_ONCE = 8


@dataclass(slots=True, eq=False)
class _Fetch:
    """A download that is under way, and those who wait for it: it goes on in the name of the first of them."""

    task: asyncio.Task[None]
    waiting: list[Access] = field(default_factory=list)


class Downloads:
    """`patience`: seconds without progress until a download is given up."""

    def __init__(
        self,
        service: Service,
        http: aiohttp.ClientSession,
        threads: FileThreads,
        cache: ArtifactCache,
        patience: float,
    ) -> None:
        self._service = service
        self._http = http
        self._threads = threads
        self._cache = cache
        self._patience = patience
        self._files = asyncio.Semaphore(FILES_AT_ONCE)
        self._parts = asyncio.Semaphore(PARTS_AT_ONCE)
        self._fetches: dict[str, _Fetch] = {}
        self.received_bytes = 0

    async def link_all(self, access: Access, wanted: dict[Path, Reference]) -> None:
        """A read-only file at each of these paths. The coordinator is asked for each digest, also for what is cached:
        what a lease may read is its to say. Raises `StoreFailure`."""
        digests = sorted({reference.digest for reference in wanted.values()})
        answers: dict[str, wire.Download] = {}
        for start in range(0, len(digests), MOST_DIGESTS):
            answers |= await self._ask(access, digests[start : start + MOST_DIGESTS])
        await together(
            self._link(access, target, reference, answers[reference.digest]) for target, reference in wanted.items()
        )

    async def _ask(self, access: Access, digests: list[str]) -> dict[str, wire.Download]:
        return await Patience(self._patience).run(
            "the coordinator gave no artifacts", lambda: self._service.downloads(access, digests)
        )

    async def _link(self, access: Access, target: Path, reference: Reference, answer: wire.Download) -> None:
        digest = reference.digest
        if answer.size_bytes != reference.size:
            raise StoreFailure(
                f"the artifact {digest} has {answer.size_bytes:,} bytes, "
                f"and the reference to it says {reference.size:,}"
            )
        self._cache.pin(digest)
        try:
            path = self._cache.find(digest)
            while path is None:
                await self._wait_for(access, answer)
                path = self._cache.find(digest)
            os.link(path, target)
        except OSError as error:
            raise StoreFailure(f"the artifact {digest} cannot be put to {target}: {error}") from error
        finally:
            self._cache.unpin(digest)

    async def _wait_for(self, access: Access, answer: wire.Download) -> None:
        """With the last who waits the download ends, too."""
        digest = answer.digest
        fetch = self._fetches.get(digest)
        if fetch is None:
            task = asyncio.get_running_loop().create_task(self._fetch(answer))
            fetch = self._fetches[digest] = _Fetch(task)
            task.add_done_callback(lambda _: self._fetches.pop(digest, None))
        fetch.waiting.append(access)
        try:
            await asyncio.shield(fetch.task)
        finally:
            fetch.waiting.remove(access)
            if not fetch.waiting and not fetch.task.done():
                # Nobody may join it any more: who comes now begins anew, after it.
                if self._fetches.get(digest) is fetch:
                    del self._fetches[digest]
                fetch.task.cancel()
                await asyncio.wait([fetch.task])

    async def _fetch(self, answer: wire.Download) -> None:
        async with self._files:
            self._cache.make_room(answer.size_bytes)
            part = self._cache.part(answer.digest)
            download = _Download(self, answer, part, Patience(self._patience))
            try:
                await download.run()
                self._cache.keep(answer.digest)
            except OSError as error:
                raise StoreFailure(f"the artifact {answer.digest} cannot be written here: {error}") from error
            finally:
                part.unlink(missing_ok=True)

    async def fresh(self, digest: str) -> wire.Download:
        """In the name of one who waits. Raises `Again`, `StoreFailure`."""
        fetch = self._fetches.get(digest)
        if fetch is None or not fetch.waiting:
            raise StoreFailure("nobody waits for it any more")
        return (await self._service.downloads(fetch.waiting[0], [digest]))[digest]

    async def receive(self, answer: wire.Download, fd: int, at: int, end: int, patience: Patience) -> int:
        """Bytes from `at` on, up to `end`: where it came to. Raises `Again` if that is nowhere."""
        whole = at == 0 and end == answer.size_bytes
        headers = dict(answer.headers) if whole else {**answer.headers, "Range": f"bytes={at}-{end - 1}"}
        start = at
        try:
            async with (
                self._parts,
                asking_store(),
                self._http.get(yarl.URL(answer.url, encoded=True), headers=headers) as reply,
            ):
                await check_answer(reply, 200 if whole else 206)
                async for data in _pieces(reply.content, end - at):
                    await self._write(fd, data, at)
                    at += len(data)
                    self._note(answer.digest, len(data))
                    patience.moved()
        except Again:
            if at == start:
                raise
        return at

    def _note(self, digest: str, size: int) -> None:
        """What several wait for is moved by the first of them."""
        self.received_bytes += size
        fetch = self._fetches.get(digest)
        if fetch is not None and fetch.waiting:
            fetch.waiting[0].moved.bytes += size

    async def _write(self, fd: int, data: bytes, at: int) -> None:
        try:
            await self._threads.do(write_all, fd, data, at)
        except OSError as error:
            raise StoreFailure(f"an artifact cannot be written on this machine: {error.strerror or error}") from error

    async def hash(self, summed: hashlib._Hash, fd: int, offset: int, size: int) -> None:
        await self._threads.do(hash_range, summed, fd, offset, size)


class _Download:
    """Of one artifact into one file."""

    def __init__(self, downloads: Downloads, answer: wire.Download, path: Path, patience: Patience) -> None:
        self._downloads = downloads
        self._answer = answer
        self._path = path
        self._patience = patience
        self._size = answer.size_bytes
        self._at = list(range(0, self._size, PART_BYTES))
        """How far each part has come."""
        self._stale = False
        """The URL is to be asked for anew."""

    async def run(self) -> None:
        """Raises `StoreFailure`, OSError."""
        what = f"the artifact {self._answer.digest} was not fetched"
        fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            os.ftruncate(fd, self._size)
            await self._patience.run(what, lambda: self._try(fd))
        finally:
            os.close(fd)

    async def _try(self, fd: int) -> None:
        if self._stale:
            self._answer = await self._downloads.fresh(self._answer.digest)
        self._stale = True
        summed = hashlib.sha256()
        arrived = asyncio.Condition()
        await together([self._receive(fd, arrived), self._sum_up(fd, summed, arrived)])
        if f"sha256:{summed.hexdigest()}" != self._answer.digest:
            self._at = list(range(0, self._size, PART_BYTES))
            raise self._patience.wasted(f"what came as the artifact {self._answer.digest} has another digest")

    def _end(self, part: int) -> int:
        return min((part + 1) * PART_BYTES, self._size)

    async def _receive(self, fd: int, arrived: asyncio.Condition) -> None:
        queue = [part for part in reversed(range(len(self._at))) if self._at[part] < self._end(part)]

        async def work() -> None:
            while queue:
                part = queue.pop()
                while self._at[part] < self._end(part):
                    self._at[part] = await self._downloads.receive(
                        self._answer, fd, self._at[part], self._end(part), self._patience
                    )
                async with arrived:
                    arrived.notify_all()

        await together(work() for _ in range(min(PARTS_AT_ONCE, len(queue))))

    async def _sum_up(self, fd: int, summed: hashlib._Hash, arrived: asyncio.Condition) -> None:
        for part in range(len(self._at)):
            async with arrived:
                while self._at[part] < self._end(part):
                    await arrived.wait()
            start = part * PART_BYTES
            await self._downloads.hash(summed, fd, start, self._end(part) - start)


async def _pieces(stream: aiohttp.StreamReader, size: int) -> AsyncIterator[bytes]:
    """So many bytes, in pieces that are worth a write. Raises `Again`: fewer came; what did come is given first."""
    while size:
        try:
            data = await stream.readexactly(min(PIECE, size))
        except asyncio.IncompleteReadError as cut:
            if cut.partial:
                yield cut.partial
            raise Again("the store sent less than it said") from None
        yield data
        size -= len(data)

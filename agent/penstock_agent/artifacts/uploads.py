"""Files on their way to the store: in parts, several at once, and after a cut only what is missing."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import aiohttp
import yarl

from penstock.agent.v1 import artifact_service_pb2 as wire
from penstock_agent.artifacts.failures import Again, Patience, StoreFailure, asking_store, check_answer, together
from penstock_agent.artifacts.files import FileThreads, hash_range
from penstock_agent.artifacts.service import Access, Service
from penstock_agent.executors.channel import Produced

PARTS_AT_ONCE = 4
"""Of all files together."""
FILES_AT_ONCE = 8


class Uploads:
    """`patience`: seconds without progress until an upload is given up."""

    def __init__(self, service: Service, http: aiohttp.ClientSession, threads: FileThreads, patience: float) -> None:
        self._service = service
        self._http = http
        self._threads = threads
        self._patience = patience
        self._files = asyncio.Semaphore(FILES_AT_ONCE)
        self._parts = asyncio.Semaphore(PARTS_AT_ONCE)
        self.sent_bytes = 0
        """In all, with what was sent twice."""

    async def put_all(self, access: Access, produced: Sequence[Produced]) -> None:
        """All are in the store, each once, and have receipts. Raises `StoreFailure`; then, and when it is cancelled,
        nothing goes on."""
        files = {each.digest: each for each in produced}
        await together(self._put(access, each) for each in files.values())
        for each in produced:
            each.receipt = files[each.digest].receipt

    async def _put(self, access: Access, file: Produced) -> None:
        async with self._files:
            upload = _Upload(self, access, file, Patience(self._patience))
            await upload.run()

    async def begin(self, access: Access, file: Produced, upload_id: str, proof: str) -> wire.BeginUploadResponse:
        return await self._service.begin(access, file.digest, file.size, file.media_type, upload_id, proof)

    async def complete(self, access: Access, file: Produced, upload_id: str, etags: dict[int, str]) -> str:
        return await self._service.complete(access, file.digest, upload_id, etags)

    async def prove(self, fd: int, challenge: wire.PossessionChallenge) -> str:
        """That the bytes are here. Raises `EOFError`."""
        return await self._threads.do(_proof_of, fd, challenge)

    async def is_whole(self, file: Produced) -> bool:
        """The bytes on this machine are those that were named."""
        with suppress(OSError):
            return await self._threads.digest_of(Path(file.path)) == file.digest
        return False

    async def send_part(self, access: Access, fd: int, part: wire.UploadPart, patience: Patience) -> str:
        """The ETag. Raises `Again`, `EOFError`."""
        async with self._parts, asking_store():
            pieces = self._threads.pieces(fd, part.offset, part.size_bytes)
            async with self._http.put(
                yarl.URL(part.url, encoded=True),
                data=pieces if part.size_bytes else b"",
                headers={**part.headers, "Content-Length": str(part.size_bytes)},
                skip_auto_headers=["Content-Type"],
            ) as answer:
                await check_answer(answer, 200, 201, 204)
                etag = answer.headers.get("ETag", "")
        self.sent_bytes += part.size_bytes
        access.moved.bytes += part.size_bytes
        patience.moved()
        return etag


def _proof_of(fd: int, challenge: wire.PossessionChallenge) -> str:
    summed = hashlib.sha256(challenge.nonce)
    for part in challenge.ranges:
        hash_range(summed, fd, part.offset, part.size_bytes)
    return summed.hexdigest()


class _Upload:
    """Of one file."""

    def __init__(self, uploads: Uploads, access: Access, file: Produced, patience: Patience) -> None:
        self._uploads = uploads
        self._access = access
        self._file = file
        self._patience = patience
        self._id = ""
        self._etags: dict[int, str] = {}

    async def run(self) -> None:
        fd = os.open(self._file.path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            await self._patience.run(f"the artifact {self._file.name!r} was not stored", lambda: self._try(fd))
        except EOFError as error:
            raise StoreFailure(f"the artifact {self._file.name!r} was not stored: {error}") from error
        finally:
            os.close(fd)

    async def _try(self, fd: int) -> None:
        """Once through all that is missing. Raises `Again`, `StoreFailure`."""
        while True:
            begun = await self._begin(fd)
            if begun.present:
                self._file.receipt = begun.receipt
                return
            if begun.upload_id != self._id:
                self._id = begun.upload_id
                self._etags.clear()
            if not begun.missing_parts:
                break
            await self._send(fd, begun.missing_parts)
            if self._covers(begun):
                break
        await self._complete()

    async def _begin(self, fd: int) -> wire.BeginUploadResponse:
        """What there is to do. Where others brought the bytes it is shown that they are here too, and not sent."""
        begun = await self._uploads.begin(self._access, self._file, self._id, "")
        if not begun.HasField("challenge"):
            return begun
        proof = await self._uploads.prove(fd, begun.challenge)
        begun = await self._uploads.begin(self._access, self._file, self._id, proof)
        if begun.HasField("challenge"):
            raise self._patience.wasted("the coordinator asks for another proof")
        return begun

    def _covers(self, begun: wire.BeginUploadResponse) -> bool:
        """The answer named all that was missing: its last part ends where the file ends."""
        last = begun.missing_parts[-1]
        return last.offset + last.size_bytes >= self._file.size

    async def _send(self, fd: int, parts: Sequence[wire.UploadPart]) -> None:
        queue = list(reversed(parts))
        problems: list[Again] = []

        async def work() -> None:
            while queue and not problems:
                part = queue.pop()
                try:
                    self._etags[part.number] = await self._uploads.send_part(self._access, fd, part, self._patience)
                except Again as problem:
                    # What the others are sending is not thrown away for it.
                    problems.append(problem)

        await together(work() for _ in range(min(PARTS_AT_ONCE, len(parts))))
        if problems:
            raise problems[0]

    async def _complete(self) -> None:
        try:
            self._file.receipt = await self._uploads.complete(self._access, self._file, self._id, self._etags)
        except StoreFailure as refused:
            if not await self._uploads.is_whole(self._file):
                raise StoreFailure(
                    f"the artifact {self._file.name!r} was not stored: its file was changed after the step had returned"
                ) from refused
            # The upload may have been forgotten, or parts of it: it is begun anew.
            self._id = ""
            raise self._patience.wasted(str(refused)) from refused

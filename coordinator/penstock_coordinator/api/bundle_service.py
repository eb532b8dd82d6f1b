"""penstock.v1.BundleService."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import grpc

from penstock.v1 import bundle_service_pb2 as pb
from penstock.v1.bundle_service_pb2_grpc import BundleServiceServicer
from penstock_coordinator.api.bundle_archive import ArchiveLimits, HostileArchive, TooLarge, check_archive
from penstock_coordinator.api.errors import CallError, exhausted, invalid, not_found
from penstock_coordinator.api.fields import digest_of
from penstock_coordinator.api.request_ids import check_request_id

if TYPE_CHECKING:
    from penstock_coordinator.api.guard import Context
    from penstock_coordinator.ports import Clock, Stores

MAX_DIGESTS = 1_000
CHUNK_BYTES = 1 << 20
UPLOADS = 4
"""At once: each is held in memory until it is checked."""
UPLOAD_SECONDS = 300.0
_RETRY = 1_000_000


class BundleService(BundleServiceServicer):
    def __init__(
        self, stores: Stores, clock: Clock, limits: ArchiveLimits, upload_seconds: float = UPLOAD_SECONDS
    ) -> None:
        self._stores = stores
        self._clock = clock
        self._limits = limits
        self._upload_seconds = upload_seconds
        self._uploads = 0

    async def Has(self, request: pb.HasBundlesRequest, context: Context) -> pb.HasBundlesResponse:
        if len(request.digests) > MAX_DIGESTS:
            raise invalid("digests", f"has {len(request.digests):,} digests, and {MAX_DIGESTS:,} is the limit")
        for number, digest in enumerate(request.digests):
            digest_of(digest, f"digests[{number}]")
        present = await self._stores.bundles.present(request.digests, self._clock.now())
        return pb.HasBundlesResponse(present_digests=[digest for digest in request.digests if digest in present])

    async def Upload(
        self, request_iterator: AsyncIterator[pb.UploadBundleRequest], context: Context
    ) -> pb.UploadBundleResponse:
        first = await anext(aiter(request_iterator), None)
        if first is None:
            raise invalid("digest", "is required in the first message")
        self._check_first(first)
        if await self._stores.bundles.present([first.digest], self._clock.now()):
            return pb.UploadBundleResponse(digest=first.digest, created=False)
        if self._uploads >= UPLOADS:
            raise exhausted("TOO_MANY_UPLOADS", f"{UPLOADS} uploads are under way: try again soon", _RETRY)
        self._uploads += 1
        try:
            content = await self._receive(first, request_iterator)
            await asyncio.to_thread(_check_content, first.digest, content, self._limits)
            created = await self._stores.bundles.put(first.digest, content, self._clock.now())
        finally:
            self._uploads -= 1
        return pb.UploadBundleResponse(digest=first.digest, created=created)

    async def Get(self, request: pb.GetBundleRequest, context: Context) -> AsyncIterator[pb.GetBundleResponse]:
        digest = digest_of(request.digest, "digest")
        size = await self._stores.bundles.size(digest)
        if size is None:
            raise not_found("digest", "UNKNOWN_BUNDLE", "no such bundle is stored")
        for offset in range(0, size, CHUNK_BYTES):
            chunk = await self._stores.bundles.read(digest, offset, CHUNK_BYTES)
            yield pb.GetBundleResponse(size_bytes=size if offset == 0 else 0, chunk=chunk)

    def _check_first(self, first: pb.UploadBundleRequest) -> None:
        check_request_id(first.request_id)
        digest_of(first.digest, "digest")
        if first.size_bytes <= 0:
            raise invalid("size_bytes", "is required in the first message: the number of bytes of all chunks")
        if first.size_bytes > self._limits.packed_bytes:
            raise exhausted(
                "BUNDLE_TOO_LARGE",
                f"the bundle has {first.size_bytes:,} bytes, and {self._limits.packed_bytes:,} is the limit: leave out"
                " what the steps do not need, or have the operator raise PENSTOCK_MAX_BUNDLE_SIZE",
            )

    async def _receive(self, first: pb.UploadBundleRequest, following: AsyncIterator[pb.UploadBundleRequest]) -> bytes:
        """A read is never cancelled, as that would break more than the stream: when the time is over the call is
        aborted, and that ends the read."""
        reading = asyncio.create_task(_collect(first, following))
        reading.add_done_callback(_retrieve)
        await asyncio.wait({reading}, timeout=self._upload_seconds)
        if not reading.done():
            raise CallError(
                grpc.StatusCode.DEADLINE_EXCEEDED,
                "UPLOAD_TOO_SLOW",
                f"the upload took more than {self._upload_seconds:g} s: send it again",
            )
        return reading.result()


async def _collect(first: pb.UploadBundleRequest, following: AsyncIterator[pb.UploadBundleRequest]) -> bytes:
    content = bytearray()
    _add(content, first, first.size_bytes)
    async for message in following:
        _add(content, message, first.size_bytes)
    if len(content) != first.size_bytes:
        raise invalid("size_bytes", f"says {first.size_bytes:,}, but {len(content):,} bytes came")
    return bytes(content)


def _add(content: bytearray, message: pb.UploadBundleRequest, announced: int) -> None:
    if len(message.chunk) > CHUNK_BYTES:
        raise invalid("chunk", f"has {len(message.chunk):,} bytes: cut it into chunks of at most {CHUNK_BYTES:,}")
    content += message.chunk
    if len(content) > announced:
        raise invalid("size_bytes", f"says {announced:,}, but more bytes came")


def _retrieve(task: asyncio.Task[bytes]) -> None:
    """Of a call that is over already nobody asks how the reading ended."""
    if not task.cancelled():
        task.exception()


def _check_content(digest: str, content: bytes, limits: ArchiveLimits) -> None:
    found = hashlib.sha256(content).hexdigest()
    if found != digest:
        raise invalid("digest", f"is not that of the bytes that came, which is {found}")
    try:
        check_archive(content, limits)
    except HostileArchive as error:
        raise invalid("chunk", str(error)) from None
    except TooLarge as error:
        raise exhausted("BUNDLE_TOO_LARGE", f"{error}: leave out what the steps do not need") from None

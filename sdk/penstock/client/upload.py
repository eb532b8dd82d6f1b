"""Sending a bundle, once."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from penstock.v1 import bundle_service_pb2

if TYPE_CHECKING:
    from penstock.bundle.archive import Bundle
    from penstock.client.calls import Caller
    from penstock.v1.bundle_service_pb2_grpc import BundleServiceStub

CHUNK_BYTES = 2**20
# A bundle gets as much more time as it takes at this pace.
SLOWEST_BYTES_PER_SECOND = 2**20


async def upload_bundle(
    caller: Caller,
    bundles: BundleServiceStub,
    bundle: Bundle,
    metadata: tuple[tuple[str, str], ...],
    request_id: str,
) -> bool:
    """Whether it had to be uploaded. A broken upload is begun again: it is idempotent by its digest."""

    async def has(remaining: float) -> bundle_service_pb2.HasBundlesResponse:
        request = bundle_service_pb2.HasBundlesRequest(digests=[bundle.digest])
        return await bundles.Has(request, timeout=remaining, metadata=metadata)

    async def upload(remaining: float) -> bundle_service_pb2.UploadBundleResponse:
        return await bundles.Upload(chunks(bundle, request_id), timeout=remaining, metadata=metadata)

    if bundle.digest in (await caller.call(has)).present_digests:
        return False
    return (await caller.call(upload, len(bundle.data) / SLOWEST_BYTES_PER_SECOND)).created


def chunks(bundle: Bundle, request_id: str) -> Iterator[bundle_service_pb2.UploadBundleRequest]:
    """The first message names the digest and size and carries the first chunk."""
    for start in range(0, len(bundle.data), CHUNK_BYTES):
        message = bundle_service_pb2.UploadBundleRequest(chunk=bundle.data[start : start + CHUNK_BYTES])
        if start == 0:
            message.digest, message.size_bytes = bundle.digest, len(bundle.data)
            message.request_id = request_id
        yield message

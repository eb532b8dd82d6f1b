"""The artifact service as this agent calls it, of the coordinator that a lease is held by: each call with the lease and
its credential."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TypeVar

from penstock.agent.v1 import agent_service_pb2 as agent_wire
from penstock.agent.v1 import artifact_service_pb2 as wire
from penstock.agent.v1.artifact_service_pb2_grpc import ArtifactServiceStub
from penstock_agent.artifacts.failures import Again, StoreFailure, asking_coordinator
from penstock_agent.runtime.stubs import LeaseStubs

T = TypeVar("T")

CALL_TIMEOUT = 30.0
COMPLETE_TIMEOUT = 600.0
"""The store may read all of it to check the digest."""
MOST_DIGESTS = 1_000


@dataclass(slots=True)
class Moved:
    """What an attempt has moved to and from the artifact store."""

    bytes: int = 0


@dataclass(frozen=True, slots=True)
class Access:
    """In whose name bytes are brought."""

    lease: agent_wire.LeaseRef
    credential: str
    moved: Moved = field(default_factory=Moved, compare=False)


class Service:
    """Raises `Again` and `StoreFailure`. While nobody speaks for its lease, a call waits."""

    def __init__(self, stubs: LeaseStubs) -> None:
        self._stubs = stubs

    async def begin(
        self, access: Access, digest: str, size: int, media_type: str, upload_id: str, proof: str
    ) -> wire.BeginUploadResponse:
        request = wire.BeginUploadRequest(
            lease=access.lease,
            credential=access.credential,
            digest=digest,
            size_bytes=size,
            media_type=media_type,
            upload_id=upload_id,
            proof=proof,
        )
        async with self._asking(access, "the upload is refused") as stub:
            return await stub.BeginUpload(request, timeout=CALL_TIMEOUT)

    async def complete(self, access: Access, digest: str, upload_id: str, etags: dict[int, str]) -> str:
        """The receipt."""
        request = wire.CompleteUploadRequest(
            lease=access.lease,
            credential=access.credential,
            digest=digest,
            upload_id=upload_id,
            parts=[wire.UploadedPart(number=number, etag=etag) for number, etag in sorted(etags.items())],
        )
        async with self._asking(access, "the upload cannot be completed") as stub:
            return (await stub.CompleteUpload(request, timeout=COMPLETE_TIMEOUT)).receipt

    async def downloads(self, access: Access, digests: list[str]) -> dict[str, wire.Download]:
        """At most `MOST_DIGESTS`."""
        request = wire.GetDownloadsRequest(lease=access.lease, credential=access.credential, digests=digests)
        async with self._asking(access, "an input is refused") as stub:
            answer = await stub.GetDownloads(request, timeout=CALL_TIMEOUT)
        found = {download.digest: download for download in answer.downloads}
        if any(digest not in found for digest in digests):
            raise Again("the coordinator left out some of the artifacts")
        return found

    @asynccontextmanager
    async def _asking(self, access: Access, what: str) -> AsyncIterator[ArtifactServiceStub]:
        """What is refused by one that the lease is not held by any more is asked again, of the next."""
        stubs = await self._stubs.of(access.lease)
        try:
            async with asking_coordinator(what):
                yield stubs.artifacts
        except StoreFailure as refusal:
            if self._stubs.now(access.lease) is stubs:
                raise
            raise Again(str(refusal)) from refusal

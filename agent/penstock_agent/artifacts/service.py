"""The coordinator's artifact service as this agent calls it: each call with a lease and its credential."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TypeVar

from penstock.agent.v1 import agent_service_pb2 as agent_wire
from penstock.agent.v1 import artifact_service_pb2 as wire
from penstock.agent.v1.artifact_service_pb2_grpc import ArtifactServiceStub
from penstock_agent.artifacts.failures import Again, asking_coordinator

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
    """Raises `Again` and `StoreFailure`. Without a connection calls wait for the next one."""

    def __init__(self) -> None:
        self._stub: ArtifactServiceStub | None = None
        self._connected = asyncio.Event()

    def use(self, stub: ArtifactServiceStub | None) -> None:
        """What to call from now on; None: nothing for now."""
        self._stub = stub
        if stub is None:
            self._connected.clear()
        else:
            self._connected.set()

    async def begin(
        self, access: Access, digest: str, size: int, media_type: str, upload_id: str, proof: str
    ) -> wire.BeginUploadResponse:
        stub = await self._connection()
        request = wire.BeginUploadRequest(
            lease=access.lease,
            credential=access.credential,
            digest=digest,
            size_bytes=size,
            media_type=media_type,
            upload_id=upload_id,
            proof=proof,
        )
        async with asking_coordinator("the upload is refused"):
            return await stub.BeginUpload(request, timeout=CALL_TIMEOUT)

    async def complete(self, access: Access, digest: str, upload_id: str, etags: dict[int, str]) -> str:
        """The receipt."""
        stub = await self._connection()
        request = wire.CompleteUploadRequest(
            lease=access.lease,
            credential=access.credential,
            digest=digest,
            upload_id=upload_id,
            parts=[wire.UploadedPart(number=number, etag=etag) for number, etag in sorted(etags.items())],
        )
        async with asking_coordinator("the upload cannot be completed"):
            return (await stub.CompleteUpload(request, timeout=COMPLETE_TIMEOUT)).receipt

    async def downloads(self, access: Access, digests: list[str]) -> dict[str, wire.Download]:
        """At most `MOST_DIGESTS`."""
        stub = await self._connection()
        request = wire.GetDownloadsRequest(lease=access.lease, credential=access.credential, digests=digests)
        async with asking_coordinator("an input is refused"):
            answer = await stub.GetDownloads(request, timeout=CALL_TIMEOUT)
        found = {download.digest: download for download in answer.downloads}
        if any(digest not in found for digest in digests):
            raise Again("the coordinator left out some of the artifacts")
        return found

    async def _connection(self) -> ArtifactServiceStub:
        await self._connected.wait()
        if self._stub is None:
            raise Again("the connection to the coordinator was lost")
        return self._stub

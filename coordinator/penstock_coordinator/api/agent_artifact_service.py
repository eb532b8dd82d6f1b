"""penstock.agent.v1.ArtifactService: agents bring bytes to the artifact store, and get them from there."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import grpc

from penstock.agent.v1 import artifact_service_pb2 as pb
from penstock.agent.v1.artifact_service_pb2_grpc import ArtifactServiceServicer
from penstock_coordinator.api.artifact_fields import digest_of
from penstock_coordinator.api.errors import CallError, failed_precondition, invalid, not_found
from penstock_coordinator.core.plan.references import is_media_type
from penstock_coordinator.ports.artifacts import AlreadyThere, PartsMissing, UnknownUpload, WrongDigest
from penstock_coordinator.runtime.credentials import LeaseOver, WrongCredential
from penstock_coordinator.runtime.possession import nonce_of, ranges_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from penstock.agent.v1 import agent_service_pb2 as wire
    from penstock_coordinator.api.guard import Context
    from penstock_coordinator.ports.artifacts import Digest, StoredObject, Upload
    from penstock_coordinator.runtime.supervisor import Supervisor

DEFAULT_ARTIFACT_BYTES = 100 << 30
MOST_DOWNLOADS = 1_000
LONGEST_UPLOAD_ID = 1_024
LOOKS_AT_ONCE = 32
FRESH = 12 * 3_600 * 1_000_000
"""Microseconds. Younger bytes are safe from removal for long enough that a result may name them."""


class AgentArtifactService(ArtifactServiceServicer):
    def __init__(self, supervisor: Supervisor, max_bytes: int) -> None:
        self._supervisor = supervisor
        self._store = supervisor.stores.objects
        self._index = supervisor.stores.artifacts
        self._max_bytes = max_bytes
        self._looks = asyncio.Semaphore(LOOKS_AT_ONCE)

    async def BeginUpload(self, request: pb.BeginUploadRequest, context: Context) -> pb.BeginUploadResponse:
        run_id = await self._check_lease(request)
        digest = digest_of(request.digest, "digest")
        self._check_upload(request)
        if await self._is_safe(digest, request.size_bytes):
            return await self._there(run_id, digest, request)
        upload = await self._store.begin(digest, request.size_bytes, request.media_type, request.upload_id)
        return _begun(upload)

    async def _there(self, run_id: bytes, digest: Digest, request: pb.BeginUploadRequest) -> pb.BeginUploadResponse:
        """The store has the bytes: does the caller?"""
        possession = self._supervisor.possession
        if not await possession.is_known(run_id, digest):
            nonce = nonce_of(request.credential, digest)
            ranges = ranges_of(nonce, request.size_bytes)
            if not request.proof:
                asked = [pb.ByteRange(offset=offset, size_bytes=size) for offset, size in ranges]
                return pb.BeginUploadResponse(challenge=pb.PossessionChallenge(nonce=nonce, ranges=asked))
            if not await possession.is_proof(request.proof, nonce, digest, ranges):
                raise CallError(
                    grpc.StatusCode.PERMISSION_DENIED,
                    "WRONG_PROOF",
                    f"the proof is not made of the bytes of {digest}, which others brought: they changed since their"
                    " digest was made, or were never here",
                )
        return pb.BeginUploadResponse(present=True, receipt=possession.receipt(run_id, digest))

    def _check_upload(self, request: pb.BeginUploadRequest) -> None:
        if not 0 <= request.size_bytes <= self._max_bytes:
            raise invalid(
                "size_bytes",
                f"must be between 0 and the {self._max_bytes:,} of PENSTOCK_MAX_ARTIFACT_SIZE: cut it into several"
                " artifacts, or have the operator raise that",
            )
        if not is_media_type(request.media_type):
            raise invalid("media_type", "must be at most 255 printable ASCII characters")
        _check_upload_id(request.upload_id)

    async def _is_safe(self, digest: Digest, size: int) -> bool:
        """Whether the bytes are there and will be until a result names them."""
        stored = await self._store.find(digest)
        if stored is None:
            return False
        if stored.size != size:
            raise invalid("size_bytes", f"the bytes of this digest are {stored.size:,}")
        now = self._supervisor.clock.now()
        if now - stored.modify_time > FRESH and not await self._index.known([digest]):
            return False
        self._supervisor.confirmed.note(digest, now)
        return True

    async def CompleteUpload(self, request: pb.CompleteUploadRequest, context: Context) -> pb.CompleteUploadResponse:
        run_id = await self._check_lease(request)
        digest = digest_of(request.digest, "digest")
        _check_upload_id(request.upload_id)
        try:
            size = await self._store.complete(digest, request.upload_id, _first_etag(request))
        except AlreadyThere:
            raise failed_precondition(
                "upload_id",
                "ALREADY_THERE",
                "somebody else brought these bytes meanwhile: BeginUpload asks for a proof",
            ) from None
        except UnknownUpload:
            raise not_found("upload_id", "UNKNOWN_UPLOAD", "there is no such upload: begin it again") from None
        except PartsMissing:
            raise failed_precondition(
                "upload_id", "PARTS_MISSING", "not all parts are there: BeginUpload with this id names the others"
            ) from None
        except WrongDigest:
            raise CallError(
                grpc.StatusCode.DATA_LOSS,
                "WRONG_DIGEST",
                "the bytes that came are not those of the digest, and were removed: they changed while they were read,"
                " or on the way; send them again",
            ) from None
        self._supervisor.confirmed.note(digest, self._supervisor.clock.now())
        self._supervisor.counts.moved.artifacts_up += size
        return pb.CompleteUploadResponse(size_bytes=size, receipt=self._supervisor.possession.receipt(run_id, digest))

    async def AbortUpload(self, request: pb.AbortUploadRequest, context: Context) -> pb.AbortUploadResponse:
        await self._check_lease(request)
        _check_upload_id(request.upload_id)
        await self._store.abort(digest_of(request.digest, "digest"), request.upload_id)
        return pb.AbortUploadResponse()

    async def GetDownloads(self, request: pb.GetDownloadsRequest, context: Context) -> pb.GetDownloadsResponse:
        run_id = await self._check_lease(request)
        if len(request.digests) > MOST_DOWNLOADS:
            raise invalid("digests", f"has {len(request.digests):,} digests, and {MOST_DOWNLOADS:,} is the limit")
        digests = [digest_of(each, f"digests[{number}]") for number, each in enumerate(request.digests)]
        foreign = set(digests) - await self._index.of_run(run_id, digests)
        if foreign:
            raise CallError(
                grpc.StatusCode.PERMISSION_DENIED,
                "ANOTHER_RUNS_ARTIFACT",
                f"{min(foreign)} was neither made by this run nor given to it: take it as an input",
            )
        downloads = await asyncio.gather(*(self._download(each) for each in digests))
        return pb.GetDownloadsResponse(downloads=downloads)

    async def _download(self, digest: Digest) -> pb.Download:
        async with self._looks:
            stored: StoredObject | None = await self._store.find(digest)
            if stored is None:
                raise not_found("digests", "REMOVED_ARTIFACT", f"{digest} was removed: run the step that made it again")
            signed = await self._store.sign_download(digest)
        self._supervisor.counts.moved.artifacts_down += stored.size
        return pb.Download(digest=digest, size_bytes=stored.size, url=signed.url, headers=dict(signed.headers))

    async def _check_lease(self, request: Any) -> bytes:
        """The run of the live lease that the request names."""
        ref: wire.LeaseRef = request.lease
        key = (ref.run_id, ref.step, ref.item)
        try:
            await self._supervisor.credentials.require_live(key, ref.token, request.credential)
        except WrongCredential:
            raise CallError(
                grpc.StatusCode.PERMISSION_DENIED,
                "WRONG_CREDENTIAL",
                "the credential is not that of this lease: send LeaseGrant.credential with the lease that came with it",
            ) from None
        except LeaseOver:
            raise failed_precondition("lease", "LEASE_OVER", "the lease is over: stop its attempt") from None
        return ref.run_id


def _check_upload_id(upload_id: str) -> None:
    if len(upload_id) > LONGEST_UPLOAD_ID or not upload_id.isprintable():
        raise invalid("upload_id", "is none that BeginUpload gave")


def _first_etag(request: pb.CompleteUploadRequest) -> str:
    return next((part.etag for part in request.parts if part.number == 1), "")


def _begun(upload: Upload) -> pb.BeginUploadResponse:
    parts: Sequence[pb.UploadPart] = [
        pb.UploadPart(
            number=part.number,
            offset=part.offset,
            size_bytes=part.size,
            url=part.url.url,
            headers=dict(part.url.headers),
        )
        for part in upload.missing
    ]
    return pb.BeginUploadResponse(upload_id=upload.upload_id, part_size_bytes=upload.part_size, missing_parts=parts)

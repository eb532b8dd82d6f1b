"""penstock.v1.ArtifactService: what steps made, for users."""

from __future__ import annotations

from typing import TYPE_CHECKING

from penstock.v1 import artifact_service_pb2 as pb
from penstock.v1.artifact_service_pb2_grpc import ArtifactServiceServicer
from penstock_coordinator.api.artifact_fields import artifact_filter, artifact_id_of
from penstock_coordinator.api.encoding import artifacts as encode
from penstock_coordinator.api.encoding.values import instant
from penstock_coordinator.api.errors import CallError, invalid, not_found
from penstock_coordinator.api.paging import PageTokens, page_size
from penstock_coordinator.ports import Artifact
from penstock_coordinator.runtime.lineage import Lineage, Tracer

if TYPE_CHECKING:
    from penstock_coordinator.api.guard import Context
    from penstock_coordinator.ports import Clock, Stores

URL_VALID = 15 * 60 * 1_000_000
"""Microseconds: as long as the stores make them for."""
DEPTH, MAX_DEPTH = 10, 100


class ArtifactService(ArtifactServiceServicer):
    def __init__(self, stores: Stores, clock: Clock) -> None:
        self._index = stores.artifacts
        self._store = stores.objects
        self._tracer = Tracer(stores.artifacts)
        self._clock = clock

    async def List(self, request: pb.ListArtifactsRequest, context: Context) -> pb.ListArtifactsResponse:
        where = artifact_filter(request.selection, "selection")
        size, tokens = page_size(request.page_size), PageTokens(request, tuple[int, bytes, int, int])
        found = await self._index.list_artifacts(where, size + 1, tokens.read(request.page_token))
        return pb.ListArtifactsResponse(
            artifacts=[encode.artifact(each) for each in found[:size]],
            next_page_token=tokens.write(found[size - 1].place) if len(found) > size else "",
        )

    async def Get(self, request: pb.GetArtifactRequest, context: Context) -> pb.GetArtifactResponse:
        return pb.GetArtifactResponse(artifact=encode.artifact(await self._find(request.id)))

    async def GetDownload(self, request: pb.GetDownloadRequest, context: Context) -> pb.GetDownloadResponse:
        found = await self._find(request.id)
        if await self._store.find(found.row.digest) is None:
            raise not_found(
                "id", "REMOVED_ARTIFACT", "its bytes are not in the store any more: run the step that made it again"
            )
        signed = await self._store.sign_download(found.row.digest)
        return pb.GetDownloadResponse(
            artifact=encode.artifact(found),
            url=signed.url,
            headers=dict(signed.headers),
            expire_time=instant(self._clock.now() + URL_VALID),
        )

    async def GetLineage(self, request: pb.GetLineageRequest, context: Context) -> pb.GetLineageResponse:
        if request.direction not in pb.LineageDirection.values():
            raise invalid("direction", "must be UP, DOWN, or left out for both")
        if not 0 <= request.depth <= MAX_DEPTH:
            raise invalid("depth", f"must be between 0 (for {DEPTH}) and {MAX_DEPTH}")
        found = await self._find(request.id)
        depth = request.depth or DEPTH
        up = down = Lineage()
        if request.direction != pb.LINEAGE_DIRECTION_DOWN:
            up = await self._tracer.up(found, depth)
        if request.direction != pb.LINEAGE_DIRECTION_UP:
            down = await self._tracer.down(found, depth)
        return pb.GetLineageResponse(
            artifact=encode.artifact(found),
            up=[encode.lineage_step(each) for each in up.steps],
            down=[encode.lineage_step(each) for each in down.steps],
            truncated=up.truncated or down.truncated,
        )

    async def _find(self, text: str) -> Artifact:
        wanted = artifact_id_of(text)
        if isinstance(wanted, str):
            newest = await self._index.makers_of([wanted], 1)
            found = newest[0] if newest else None
        else:
            found = await self._index.get(*wanted)
        if found is None:
            raise _unknown()
        return found


def _unknown() -> CallError:
    return not_found(
        "id",
        "UNKNOWN_ARTIFACT",
        "there is no such artifact, or it was removed: `penstock artifacts list` (List) shows those that there are",
    )

"""Artifacts: what steps made that was too large to be inline, files and folders."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import http.client
import os
import secrets
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import IO, Any, TypedDict, Unpack

from penstock.client.stored_values import MOST_BYTES, with_values
from penstock.errors import ArtifactError
from penstock.v1 import artifact_service_pb2
from penstock.v1.artifact_service_pb2_grpc import ArtifactServiceStub

CHUNK_BYTES = 1 << 20
SILENT_SECONDS = 60.0
ATTEMPTS = 5
"""That a download has. Each goes on where the last one was cut."""


class ArtifactFilters(TypedDict, total=False):
    """Artifacts that match all that is given."""

    run_id: str
    step: str
    """Its name: of a mapped step all items."""
    digest: str
    """"sha256:" and 64 hex digits."""
    pipeline: str
    name: str
    """As the step named it."""


class Artifacts:
    """What `client.artifacts` is. An id is "<run id>:<number>:<place>"; in its place a digest, "sha256:…", means the
    newest artifact with these bytes."""

    def __init__(
        self,
        artifacts: ArtifactServiceStub,
        call: Callable[[Any, Any], Awaitable[Any]],
        pages: Callable[[Any, Any], AsyncIterator[Any]],
    ) -> None:
        self._artifacts = artifacts
        self._call = call
        self._pages = pages

    async def list(self, **filters: Unpack[ArtifactFilters]) -> AsyncIterator[artifact_service_pb2.Artifact]:
        """The newest first."""
        request = artifact_service_pb2.ListArtifactsRequest(selection=artifact_service_pb2.ArtifactSelection(**filters))
        async for page in self._pages(self._artifacts.List, request):
            for artifact in page.artifacts:
                yield artifact

    async def get(self, artifact_id: str) -> artifact_service_pb2.Artifact:
        """Raises NotFoundError, also if it was removed."""
        request = artifact_service_pb2.GetArtifactRequest(id=artifact_id)
        response: artifact_service_pb2.GetArtifactResponse = await self._call(self._artifacts.Get, request)
        return response.artifact

    async def lineage(
        self,
        artifact_id: str,
        *,
        direction: artifact_service_pb2.LineageDirection.ValueType = (
            artifact_service_pb2.LINEAGE_DIRECTION_UNSPECIFIED
        ),
        depth: int = 0,
    ) -> artifact_service_pb2.GetLineageResponse:
        """What it was made from and what was made of it, up to `depth` steps away (0: 10)."""
        request = artifact_service_pb2.GetLineageRequest(id=artifact_id, direction=direction, depth=depth)
        response: artifact_service_pb2.GetLineageResponse = await self._call(self._artifacts.GetLineage, request)
        return response

    async def download(self, artifact_id: str, path: str | os.PathLike[str]) -> artifact_service_pb2.Artifact:
        """Its bytes into the file, which is there when they are whole and have its digest, in place of a former one; of
        a folder a tar archive. Memory is a chunk, whatever the size.

        Raises NotFoundError, ArtifactError if the bytes cannot be had or are others, and OSError.
        """
        target = Path(path)
        with _beside(target) as file:
            artifact = await self._read(artifact_id, file)
            await asyncio.to_thread(_publish, file, target)
        return artifact

    async def value_of(self, output: Any, *, allow_pickle: bool = False, max_bytes: int = MOST_BYTES) -> Any:
        """An output with the values in it that are in the store, each read once and decoded by its codec. Files and
        folders stay references, and so do pickles, which run code when they are read, unless they are allowed.

        Raises as `download`; ArtifactError also if they have more than `max_bytes` together, or if their codec or its
        library is not here.
        """
        return await with_values(output, self._read, allow_pickle=allow_pickle, max_bytes=max_bytes)

    async def _read(self, artifact_id: str, file: IO[bytes]) -> artifact_service_pb2.Artifact:
        """All of its bytes into the file, from its begin."""
        request = artifact_service_pb2.GetDownloadRequest(id=artifact_id)
        reading = _Reading(file)
        for left in reversed(range(ATTEMPTS)):
            found: artifact_service_pb2.GetDownloadResponse = await self._call(self._artifacts.GetDownload, request)
            if await asyncio.to_thread(reading.go_on, found, last=not left):
                break
        # Bytes that came later of another artifact with that digest would be the same.
        reading.check(found.artifact)
        return found.artifact


class _Reading:
    """A download that may be cut."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._digest = hashlib.sha256()
        self._size = 0

    def go_on(self, found: artifact_service_pb2.GetDownloadResponse, *, last: bool) -> bool:
        """Whether all of it is there. Raises ArtifactError, for what breaks off only if it was the last attempt."""
        if self._size == found.artifact.size_bytes:
            return True
        headers = {**found.headers, **({"Range": f"bytes={self._size}-"} if self._size else {})}
        if not found.url.startswith(("http://", "https://")):
            raise ArtifactError("this coordinator's store cannot be read from here")
        asking = urllib.request.Request(found.url, headers=headers)  # noqa: S310  # it was looked at
        try:
            with urllib.request.urlopen(asking, timeout=SILENT_SECONDS) as answer:  # noqa: S310  # as above
                if self._size and answer.status != 206:
                    raise ArtifactError("the store does not go on where a download was cut: try again")
                self._take(answer, found.artifact.size_bytes)
        except urllib.error.HTTPError as error:
            if last or (error.code < 500 and error.code not in (403, 408, 429)):
                raise ArtifactError(f"the store answered {error.code} {error.reason}") from None
        except (OSError, http.client.HTTPException) as error:
            if last:
                raise ArtifactError(f"the artifact's bytes cannot be had: {error}") from None
        return self._size >= found.artifact.size_bytes

    def _take(self, answer: http.client.HTTPResponse, most: int) -> None:
        while chunk := answer.read(CHUNK_BYTES):
            if self._size + len(chunk) > most:
                raise ArtifactError(f"the store sends more than the {most:,} bytes that the artifact has")
            self._file.write(chunk)
            self._digest.update(chunk)
            self._size += len(chunk)

    def check(self, artifact: artifact_service_pb2.Artifact) -> None:
        if f"sha256:{self._digest.hexdigest()}" != artifact.digest:
            raise ArtifactError(f"the bytes that came are not those of {artifact.digest}: download it again")


@contextlib.contextmanager
def _beside(target: Path) -> Iterator[IO[bytes]]:
    """A file that is gone in the end, unless it became the target."""
    path = target.absolute().with_name(f".{target.name[:50]}.{secrets.token_hex(8)}")
    try:
        with path.open("xb") as file:
            yield file
    finally:
        path.unlink(missing_ok=True)


def _publish(file: IO[bytes], target: Path) -> None:
    file.flush()
    os.fsync(file.fileno())
    Path(file.name).replace(target)

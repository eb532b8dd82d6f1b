"""Port `ArtifactStore` in memory: for what the coordinator itself puts there. Nobody can upload to it."""

from __future__ import annotations

import hashlib

from penstock_coordinator.ports import Dependency, DependencyState
from penstock_coordinator.ports.artifacts import (
    Digest,
    PartsMissing,
    SignedUrl,
    StoredObject,
    TooLarge,
    UnknownUpload,
    Upload,
    checked_name,
    hex_of,
    part_size_of,
)


class MemoryArtifactStore:
    def __init__(self) -> None:
        self.contents: dict[Digest, bytes] = {}
        self.times: dict[Digest, int] = {}
        self.blobs: dict[str, bytes] = {}
        self._uploads: dict[str, Digest] = {}

    async def find(self, digest: Digest) -> StoredObject | None:
        hex_of(digest)
        content = self.contents.get(digest)
        return None if content is None else StoredObject(digest, len(content), self.times.get(digest, 0))

    async def begin(self, digest: Digest, size: int, media_type: str, upload_id: str = "") -> Upload:
        if self._uploads.get(upload_id) != digest:
            upload_id = f"upload-{len(self._uploads)}"
            self._uploads[upload_id] = digest
        return Upload(upload_id, part_size_of(size, 1 << 24), ())

    async def complete(self, digest: Digest, upload_id: str, etag: str | None = None) -> int:
        if digest in self.contents:
            return len(self.contents[digest])
        if self._uploads.get(upload_id) != digest:
            raise UnknownUpload
        raise PartsMissing

    async def abort(self, digest: Digest, upload_id: str) -> None:
        if self._uploads.get(upload_id) == digest:
            del self._uploads[upload_id]

    async def sign_download(self, digest: Digest) -> SignedUrl:
        return SignedUrl(f"memory:///{hex_of(digest)}")

    async def get(self, digest: Digest, limit: int) -> bytes | None:
        return _bounded(self.contents.get(digest), limit)

    async def read(self, digest: Digest, offset: int, size: int) -> bytes | None:
        content = self.contents.get(digest)
        return None if content is None else content[offset : offset + size]

    async def put(self, content: bytes, media_type: str = "application/octet-stream") -> Digest:
        digest = "sha256:" + hashlib.sha256(content).hexdigest()
        self.contents[digest] = content
        return digest

    async def objects(self, after: Digest | None, limit: int) -> list[StoredObject]:
        names = sorted(digest for digest in self.contents if after is None or digest > after)
        return [StoredObject(name, len(self.contents[name]), self.times.get(name, 0)) for name in names[:limit]]

    async def delete(self, digest: Digest) -> None:
        self.contents.pop(digest, None)

    async def remove_uploads(self, before: int) -> int:
        return 0

    async def write_blob(self, name: str, content: bytes) -> None:
        self.blobs[checked_name(name)] = content

    async def read_blob(self, name: str, limit: int) -> bytes | None:
        return _bounded(self.blobs.get(checked_name(name)), limit)

    async def delete_blob(self, name: str) -> None:
        self.blobs.pop(checked_name(name), None)

    async def probe(self) -> None:
        """It answers."""

    def dependency(self) -> Dependency:
        return Dependency("artifacts", DependencyState.CLOSED)

    async def aclose(self) -> None:
        """There is nothing to close."""


def _bounded(content: bytes | None, limit: int) -> bytes | None:
    if content is not None and len(content) > limit:
        raise TooLarge
    return content

"""A circuit breaker around a store: while it is known to be away, whoever asks is told so at once."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import replace
from typing import TYPE_CHECKING

from penstock_coordinator.adapters.breaker import FAILURES, Breaker, Refused
from penstock_coordinator.ports import Dependency, DependencyState, StoreUnavailable, Unavailable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from penstock_coordinator.ports.artifacts import ArtifactStore, Digest, SignedUrl, StoredObject, Upload

LONGEST_PAUSE = 5.0
PROBE_SECONDS = 5.0
PROBE_BLOB = "probe-of-writes"
PROBE_BYTES = 1024


class StoreRefused(Refused, StoreUnavailable):
    """The breaker of the store is open: nothing was tried."""

    def __init__(self, refused: Refused) -> None:
        Exception.__init__(self, str(refused))
        self.retry_after = refused.retry_after


class GuardedArtifactStore:
    def __init__(
        self, store: ArtifactStore, breaker: Breaker | None = None, probe_seconds: float = PROBE_SECONDS
    ) -> None:
        self._store = store
        self._probe_seconds = probe_seconds
        self._breaker = breaker or Breaker("the artifact store", longest_pause=LONGEST_PAUSE)
        self._failed_writes = 0
        """Since something was written: reads may go well all the while, as with a full disk or a quota."""
        self._why_not_written = ""

    async def find(self, digest: Digest) -> StoredObject | None:
        with self._watching():
            return await self._store.find(digest)

    async def begin(self, digest: Digest, size: int, media_type: str, upload_id: str = "") -> Upload:
        with self._writing():
            return await self._store.begin(digest, size, media_type, upload_id)

    async def complete(self, digest: Digest, upload_id: str, etag: str | None = None) -> int:
        with self._writing():
            return await self._store.complete(digest, upload_id, etag)

    async def abort(self, digest: Digest, upload_id: str) -> None:
        with self._watching():
            await self._store.abort(digest, upload_id)

    async def sign_download(self, digest: Digest) -> SignedUrl:
        """Nothing is asked of the store for it."""
        return await self._store.sign_download(digest)

    async def get(self, digest: Digest, limit: int) -> bytes | None:
        with self._watching():
            return await self._store.get(digest, limit)

    async def read(self, digest: Digest, offset: int, size: int) -> bytes | None:
        with self._watching():
            return await self._store.read(digest, offset, size)

    async def put(self, content: bytes, media_type: str = "application/octet-stream") -> Digest:
        with self._writing():
            return await self._store.put(content, media_type)

    async def objects(self, after: Digest | None, limit: int) -> list[StoredObject]:
        with self._watching():
            return await self._store.objects(after, limit)

    async def delete(self, digest: Digest) -> None:
        with self._watching():
            await self._store.delete(digest)

    async def remove_uploads(self, before: int) -> int:
        with self._watching():
            return await self._store.remove_uploads(before)

    async def write_blob(self, name: str, content: bytes) -> None:
        with self._writing():
            await self._store.write_blob(name, content)
        self._failed_writes = 0

    async def read_blob(self, name: str, limit: int) -> bytes | None:
        with self._watching():
            return await self._store.read_blob(name, limit)

    async def delete_blob(self, name: str) -> None:
        with self._watching():
            await self._store.delete_blob(name)

    async def probe(self) -> None:
        """One that has not answered by then is away. After a write that failed it has to take one, too."""
        with self._writing() if self._failed_writes else self._watching():
            try:
                async with asyncio.timeout(self._probe_seconds):
                    await self._store.probe()
                    if self._failed_writes:
                        await self._try_to_write()
            except TimeoutError as error:
                raise Unavailable(f"artifacts: no answer within {self._probe_seconds:g} s") from error

    async def _try_to_write(self) -> None:
        await self._store.write_blob(PROBE_BLOB, bytes(PROBE_BYTES))
        self._failed_writes = 0
        with contextlib.suppress(Unavailable):  # who may write need not be allowed to delete
            await self._store.delete_blob(PROBE_BLOB)

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        """As `_watching`. That one goes well proves nothing, as what is there already is not written again."""
        with self._watching():
            try:
                yield
            except Unavailable as error:
                self._failed_writes += 1
                self._why_not_written = type(error.__cause__ or error).__name__
                raise

    @contextlib.contextmanager
    def _watching(self) -> Iterator[None]:
        """Raises `StoreUnavailable`, so that nobody is told that the database is away."""
        try:
            with self._breaker.watching():
                yield
        except Refused as refused:
            raise StoreRefused(refused) from None
        except Unavailable as error:
            raise StoreUnavailable(str(error)) from error

    def dependency(self) -> Dependency:
        """Away is also one that is read and cannot be written to."""
        found = self._breaker.dependency("artifacts")
        if found.state is not DependencyState.CLOSED or self._failed_writes < FAILURES:
            return found
        return replace(found, state=DependencyState.OPEN, failures=self._failed_writes, reason=self._why_not_written)

    async def aclose(self) -> None:
        await self._store.aclose()

"""The removal of old artifacts, and of bytes that are no artifact: the janitor's part that looks at the artifact store.

Rows go first, by their own retention and with their runs. Bytes go when no row has their digest, no live run was given
them, and they are older than the grace: between an upload and the result that names it they have no row either.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from penstock_coordinator.ports import OldArtifacts

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

    from penstock_coordinator.ports import ArtifactIndex, ArtifactStore
    from penstock_coordinator.runtime.removal import Breath
    from penstock_coordinator.runtime.retention import Report, Retention


class ArtifactRemoval:
    def __init__(
        self,
        index: ArtifactIndex,
        store: ArtifactStore,
        retention: Retention,
        batch: int,
        breath: Breath,
        report: Report,
        now: int,
        promised: Callable[[str, int], bool],
    ) -> None:
        """`promised` says whether somebody was told, since an instant, that the bytes of a digest are there."""
        self._index = index
        self._store = store
        self._retention = retention
        self._batch = batch
        self._breath = breath
        self._report = report
        self._now = now
        self._promised = promised

    async def old_artifacts(self) -> None:
        for which in self._which():
            await self._remove(which)

    def _which(self) -> Iterator[OldArtifacts]:
        retention = self._retention
        own = tuple(pipeline for pipeline, _ in retention.artifacts_of)
        if retention.artifacts:
            yield OldArtifacts(self._now - retention.artifacts, other_than=own)
        for pipeline, span in retention.artifacts_of:
            if span:
                yield OldArtifacts(self._now - span, pipeline)
        if retention.artifacts_kept:
            yield OldArtifacts(beyond=retention.artifacts_kept)

    async def _remove(self, which: OldArtifacts) -> None:
        if self._report.dry_run:
            self._report.artifacts += await self._index.count_old(which)
            return
        while due := await self._index.old(which, self._batch):
            self._report.artifacts += await self._index.remove(due)
            await self._breath.take()

    async def unpublished(self) -> None:
        """Bytes without a row. Raises `Unavailable` if the store cannot be reached."""
        before = self._now - self._retention.unpublished
        if not self._report.dry_run:
            self._report.uploads += await self._store.remove_uploads(before)
        after: str | None = None
        while found := await self._store.objects(after, self._batch):
            after = found[-1].digest
            old = [each.digest for each in found if each.modify_time < before]
            await self._delete(old, before)

    async def _delete(self, digests: Collection[str], before: int) -> None:
        if not digests:
            return
        needed = await self._index.needed(digests)
        due = [digest for digest in digests if digest not in needed and not self._promised(digest, before)]
        self._report.objects += len(due)
        if self._report.dry_run:
            return
        for digest in due:
            await self._store.delete(digest)
        await self._breath.take()

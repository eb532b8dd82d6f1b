"""One pass over what is old: short transactions with pauses between them, so that commits hardly notice.

A pass may end anywhere: what a run leaves behind when its row is gone is noted in the same transaction as that, and the
next pass begins with the notes. Two passes at once do nothing that one would not.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from penstock.v1.pipeline_pb2 import PipelineSpec
from penstock_coordinator.ports import EndedRuns, OldRows, RunRows

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

    from penstock_coordinator.ports import CacheStore, PipelineStore, RetentionStore, RunId
    from penstock_coordinator.runtime.retention import Pace, Report, Retention

FIRST: RunId = bytes(16)
"""Below every id."""
THREAD_BYTES = 64 << 10
"""A larger specification is read in a thread."""

_SECOND = 1_000_000
CHARGES_KEPT = 40 * 86_400 * _SECOND
"""Longer than the longest window of a budget."""


class Breath:
    """The pauses between two transactions of a pass."""

    def __init__(self, pace: Pace) -> None:
        self._pause = pace.pause / _SECOND
        self._since = asyncio.get_running_loop().time()

    async def take(self) -> None:
        """As long as the work since the last one took, and never shorter than the pace says."""
        loop = asyncio.get_running_loop()
        await asyncio.sleep(max(self._pause, loop.time() - self._since))
        self._since = loop.time()


class Places:
    """Where the search for strays goes on: it looks at every run, and one pass looks at a part of them."""

    def __init__(self) -> None:
        self._after: dict[RunRows, RunId] = {}

    def of(self, rows: RunRows) -> RunId:
        return self._after.get(rows, FIRST)

    def keep(self, rows: RunRows, after: RunId | None) -> None:
        self._after[rows] = after or FIRST


class Removal:
    """One pass at the instant `now`. In a dry run nothing is changed, and what would go is counted."""

    def __init__(self, store: RetentionStore, retention: Retention, pace: Pace, report: Report, now: int) -> None:
        self._store = store
        self._retention = retention
        self._batch = pace.batch
        self._breath = Breath(pace)
        self._report = report
        self._now = now
        self._counted: set[RunId] = set()
        """In a dry run: the runs that would be gone by now."""

    # --- runs

    async def finish_noted(self) -> None:
        """What passes left that ended early, and children of removed runs that were live then."""
        after = FIRST
        while noted := await self._store.noted(after, self._batch):
            await self._finish(noted)
            after = noted[-1]

    async def old_runs(self) -> None:
        before = self._retention.kept_since(self._now)
        if before is not None:
            await self._runs(EndedRuns(ended_before=before), await self._store.held_from_below())

    async def surplus_runs(self) -> None:
        """Those that are not among the newest of their pipelines."""
        number, after = self._retention.runs_of_pipeline, ""
        if not number:
            return
        held = await self._store.held_from_below()
        while names := await self._store.pipelines_of_runs(after, self._batch):
            for name in names:
                oldest = await self._store.nth_newest(name, number)
                if oldest is not None:
                    await self._runs(self._surplus(name, oldest), held)
            after = names[-1]

    def _surplus(self, pipeline: str, below: RunId) -> EndedRuns:
        since = self._retention.kept_since(self._now)
        return EndedRuns(self._now - self._retention.requests, since, pipeline, below)

    async def _runs(self, which: EndedRuns, held: frozenset[RunId]) -> None:
        after: RunId | None = FIRST
        while after is not None:
            found = await self._store.ended_runs(which, after, self._batch)
            await self._remove_runs([run_id for run_id in found if run_id not in held], which)
            after = found[-1] if len(found) == self._batch else None

    async def _remove_runs(self, run_ids: Sequence[RunId], which: EndedRuns) -> bool:
        """With all that is stored of them and below them. False if none could go."""
        if not run_ids:
            return False
        if self._report.dry_run:
            removed: Sequence[RunId] = [run_id for run_id in run_ids if run_id not in self._counted]
            self._counted.update(removed)
        else:
            removed = await self._store.remove_runs(run_ids, which, self._now)
        self._report.runs += len(removed)
        await self._breath.take()
        await self._finish(removed)
        return bool(removed)

    async def _finish(self, run_ids: Sequence[RunId]) -> None:
        """What is left of runs whose rows are gone."""
        if not run_ids:
            return
        await self._children(run_ids)
        for rows in RunRows:
            await self._rows(rows, run_ids)
        if not self._report.dry_run:
            self._report.run_keys += await self._store.free_run_keys(run_ids)
            await self._store.all_gone(run_ids)
            await self._breath.take()

    async def _children(self, parents: Sequence[RunId]) -> None:
        after: RunId | None = FIRST
        while after is not None:
            found = await self._store.children(parents, after, self._batch)
            await self._remove_runs(found, EndedRuns())
            after = found[-1] if len(found) == self._batch else None

    async def _rows(self, rows: RunRows, run_ids: Sequence[RunId]) -> None:
        if self._report.dry_run:
            self._report.count(rows.value, await self._store.count_rows(rows, run_ids))
            return
        await self._until_none(rows.value, lambda: self._store.remove_rows(rows, run_ids, self._batch))

    async def _until_none(self, what: str, remove: Callable[[], Awaitable[int]]) -> None:
        while count := await remove():
            self._report.count(what, count)
            await self._breath.take()
            if count < self._batch:
                return

    # --- parts of runs

    async def old_logs(self) -> None:
        if not self._retention.logs:
            return
        after: RunId | None = FIRST
        while after is not None:
            found, after = await self._store.runs_with_logs(self._now - self._retention.logs, after, self._batch)
            left = [run_id for run_id in found if run_id not in self._counted]
            if left:
                await self._rows(RunRows.LOGS, left)
                await self._rows(RunRows.LOG_PACKS, left)

    async def strays(self, places: Places, pages: int | None) -> None:
        """Rows of runs that are not there: at most so many pages of ids in each table, from where the last pass
        ended; None: all of them."""
        for rows in RunRows:
            left = pages
            after: RunId | None = places.of(rows)
            while after is not None and left != 0:
                found, after = await self._store.strays(rows, self._now - self._retention.strays, after, self._batch)
                await self._remove_strays(found)
                left = None if left is None else left - 1
            places.keep(rows, after)

    async def _remove_strays(self, run_ids: Sequence[RunId]) -> None:
        if not run_ids:
            return
        if self._report.dry_run:
            run_ids = [run_id for run_id in run_ids if run_id not in self._counted]
            self._counted.update(run_ids)
            self._report.strays += len(run_ids)
        else:
            self._report.strays += await self._store.note_strays(run_ids, self._now)
        await self._finish(run_ids)

    # --- what goes by its age alone

    async def old_rows(self) -> None:
        retention = self._retention
        await self._old(OldRows.REQUESTS, self._now - retention.requests)
        spans = {
            OldRows.BULK_JOBS: retention.bulk_jobs,
            OldRows.CLOSED_LETTERS: retention.closed_letters,
            OldRows.NOTES: retention.notes,
            OldRows.PIPELINES: retention.deleted_pipelines,
        }
        for rows in (OldRows.CHARGES, OldRows.BUDGET_RAISES):
            await self._old(rows, self._now - CHARGES_KEPT)
        for rows, span in spans.items():
            if span:
                # The answer to a repeated request names what it made.
                await self._old(rows, self._now - max(span, retention.requests))

    async def old_values(self, cache: CacheStore) -> None:
        """Of the cache: those that have expired, those that are old, and those that are too many."""
        await self._old(OldRows.EXPIRED_ENTRIES, self._now)
        retention, before = self._retention, 0
        if retention.cache_entries:
            before = self._now - retention.cache_entries
        if retention.cache_entries_kept:
            last_kept = await cache.nth_newest(retention.cache_entries_kept)
            before = max(before, last_kept or 0)
        if before:
            await self._old(OldRows.CACHE_ENTRIES, before)

    async def _old(self, rows: OldRows, before: int, among: Sequence[str] = ()) -> None:
        if self._report.dry_run:
            self._report.count(rows.value, await self._store.count_old(rows, before, among))
            return
        await self._until_none(rows.value, lambda: self._store.remove_old(rows, before, self._batch, among))

    async def unused_bundles(self, named: Callable[[], Awaitable[frozenset[str]]]) -> None:
        """Those that nobody has asked for lately and no version names."""
        if not self._retention.unused_bundles:
            return
        before, after = self._now - self._retention.unused_bundles, ""
        used: frozenset[str] | None = None
        while found := await self._store.old_bundles(before, after, self._batch):
            used = await named() if used is None else used
            due = [digest for digest in found if digest not in used]
            if due:
                await self._old(OldRows.BUNDLES, before, due)
            after = found[-1]


class NamedBundles:
    """The bundles that versions name. A version never changes, so each is read once."""

    def __init__(self, store: RetentionStore, pipelines: PipelineStore, page: int) -> None:
        self._store = store
        self._pipelines = pipelines
        self._page = page
        self._of: dict[str, str] = {}

    async def __call__(self) -> frozenset[str]:
        known: dict[str, str] = {}
        async for digest in self._digests():
            known[digest] = self._of[digest] if digest in self._of else await self._bundle(digest)
        self._of = known
        return frozenset(known.values())

    async def _digests(self) -> AsyncIterator[str]:
        after = ("", 0)
        while rows := await self._store.versions(after, self._page):
            for _, _, digest in rows:
                yield digest
            after = rows[-1][:2]

    async def _bundle(self, digest: str) -> str:
        row = await self._pipelines.version_by_digest(digest)
        if row is None:
            return ""
        read = PipelineSpec.FromString
        spec = read(row.spec) if len(row.spec) < THREAD_BYTES else await asyncio.to_thread(read, row.spec)
        return spec.bundle_digest

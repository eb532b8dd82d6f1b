"""Looks after what no live actor and no session looks after: live runs without an actor, and everything that is old."""

from __future__ import annotations

import asyncio
import uuid
from typing import TYPE_CHECKING

import structlog

from penstock_coordinator.ports import EndedRuns, Unavailable
from penstock_coordinator.runtime.artifact_removal import ArtifactRemoval
from penstock_coordinator.runtime.recovery import adopt_runs
from penstock_coordinator.runtime.removal import FIRST, Breath, NamedBundles, Places, Removal
from penstock_coordinator.runtime.retention import Pace, Report, Retention

if TYPE_CHECKING:
    from collections.abc import Sequence

    from penstock_coordinator.ports import RunId
    from penstock_coordinator.runtime.supervisor import Supervisor

log = structlog.get_logger(__name__)

FIRST_AFTER = 30.0
"""Seconds after the start, if the interval is not shorter."""
JITTER = 0.1
"""Coordinators that were started together do not go on together."""
LIVE_PAGE = 5_000
STRAY_PAGES = 20
"""Of a pass that is not thorough, in each table."""
MOST_UNRECOVERABLE = 100
OVERDUE_LOOKED_AT = 100
"""Of runs that should be gone, at once; the oldest ones first."""

_SECOND = 1_000_000


class Busy(Exception):
    """Another coordinator's janitor is at work on the same database."""


class Janitor:
    """One per coordinator, and one at work per database."""

    def __init__(self, supervisor: Supervisor, retention: Retention | None = None, pace: Pace | None = None) -> None:
        self._supervisor = supervisor
        self._store = supervisor.stores.retention
        self._retention = retention or Retention()
        self._pace = pace or Pace()
        self._named = NamedBundles(self._store, supervisor.stores.pipelines, self._pace.batch)
        self._places = Places()
        self._turn = asyncio.Lock()

    @property
    def interval(self) -> int:
        """Microseconds between two passes; 0: there are none but those that are asked for."""
        return self._pace.interval

    async def overdue(self) -> int:
        """For how many microseconds the run at rest should have been gone that has stayed longest past its span; 0:
        none has. What has to stay because of a live run below it is not overdue. Raises `Unavailable`."""
        before = self._retention.kept_since(self._supervisor.clock.now())
        found = [] if before is None else await self._store.ended_runs(EndedRuns(before), FIRST, OVERDUE_LOOKED_AT)
        if not found or before is None:
            return 0
        held = await self._store.held_from_below()
        while found and held.issuperset(found):
            found = await self._store.ended_runs(EndedRuns(before), found[-1], OVERDUE_LOOKED_AT)
        rows = await self._supervisor.stores.runs.get_many([each for each in found if each not in held])
        return max((before - row.end_time for row in rows if row.end_time is not None), default=0)

    async def run(self) -> None:
        """For ever. What goes wrong is logged, and tried again the next time."""
        if not self._pace.interval:
            await asyncio.Event().wait()
        seconds = self._pace.interval / _SECOND
        delay = min(seconds, FIRST_AFTER)
        while True:
            await asyncio.sleep(delay * (1 + JITTER * (2 * self._supervisor.ids.jitter() - 1)))
            delay = seconds
            try:
                await self.run_once()
            except (Unavailable, Busy) as error:
                self._supervisor.counts.janitor.failures += isinstance(error, Unavailable)
                log.warning("janitor_postponed", reason=str(error))
            except Exception:
                self._supervisor.counts.janitor.failures += 1
                log.exception("janitor_failed")

    async def run_once(self, *, dry_run: bool = False, thorough: bool = False) -> Report:
        """One pass. A dry run changes nothing and tells what a pass would do, but for what only becomes free by it;
        it is thorough always. One that is not looks for strays in a part of the runs only, each time in another.

        Raises `Unavailable`, then the next pass goes on; `Busy`.
        """
        report = Report(dry_run=dry_run, start_time=self._supervisor.clock.now())
        if dry_run:
            await self._pass(report, Places(), None)
            return report
        async with self._turn, self._store.alone() as mine:
            if not mine:
                raise Busy("another coordinator's janitor is at work on this database")
            try:
                await self._pass(report, Places() if thorough else self._places, None if thorough else STRAY_PAGES)
            finally:
                _tell(report)
        self._supervisor.counts.janitor.ended_at = report.end_time
        return report

    async def _pass(self, report: Report, places: Places, pages: int | None) -> None:
        await self._lost_runs(report)
        removal = Removal(self._store, self._retention, self._pace, report, report.start_time)
        await removal.finish_noted()
        await removal.old_runs()
        await removal.surplus_runs()
        await removal.old_logs()
        await removal.strays(places, pages)
        await removal.old_rows()
        await removal.old_values(self._supervisor.stores.cache)
        await removal.unused_bundles(self._named)
        await self._artifacts(report)
        report.end_time = self._supervisor.clock.now()

    async def _artifacts(self, report: Report) -> None:
        supervisor, stores = self._supervisor, self._supervisor.stores
        removal = ArtifactRemoval(
            stores.artifacts,
            stores.objects,
            self._retention,
            self._pace.batch,
            Breath(self._pace),
            report,
            report.start_time,
            supervisor.confirmed.since,
        )
        await removal.old_artifacts()
        try:
            await self._log_blobs(report)
            await removal.unpublished()
        except Unavailable as error:
            # All else has been done, and the store is its own matter.
            log.warning("artifact_store_not_cleaned", reason=str(error))

    async def _log_blobs(self, report: Report) -> None:
        """Lines that no pack has any more, and what never became a pack. Raises `Unavailable` if the artifact store
        cannot be reached."""
        stores, breath = self._supervisor.stores, Breath(self._pace)
        if report.dry_run:
            return
        before = report.start_time - self._retention.unpublished
        while names := await stores.log_packs.unused_names(before, self._pace.batch):
            for name in names:
                await stores.objects.delete_blob(name)
            await stores.log_packs.forget_names(names)
            report.log_blobs += len(names)
            await breath.take()

    # --- runs without an owner

    async def _lost_runs(self, report: Report) -> None:
        supervisor, after = self._supervisor, FIRST
        while page := await self._store.live_ids(supervisor.coordinator_id, after, LIVE_PAGE):
            lost = [run_id for run_id in page if supervisor.lost(run_id)]
            if report.dry_run:
                report.adopted += await self._count_lost(lost)
            elif lost:
                await self._adopt(lost, report)
            after = page[-1]
        report.live_of_others = await self._store.live_of_others(supervisor.coordinator_id)

    async def _count_lost(self, run_ids: Sequence[RunId]) -> int:
        """A run may have come to rest since it was listed."""
        if not run_ids:
            return 0
        rows = await self._supervisor.stores.runs.get_many(run_ids)
        return sum(1 for row in rows if row.summary is None and self._supervisor.lost(row.run_id))

    async def _adopt(self, lost: Sequence[RunId], report: Report) -> None:
        for run_id in await adopt_runs(self._supervisor, lost):
            report.adopted += 1
            log.warning("run_adopted", run=run_id.hex())
        aside = [run_id for run_id in lost if run_id in self._supervisor.set_aside]
        report.unrecoverable += aside[: MOST_UNRECOVERABLE - len(report.unrecoverable)]


def _tell(report: Report) -> None:
    done = {name: count for name, count in report.counts().items() if count}
    if done:
        log.info("janitor", **done)
    if report.unrecoverable:
        log.error("live_runs_without_recovery", runs=[str(uuid.UUID(bytes=each)) for each in report.unrecoverable])
    if report.live_of_others:
        log.warning("live_runs_of_other_coordinators", by_coordinator=report.live_of_others)

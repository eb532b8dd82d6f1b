"""Port `RetentionStore` in memory."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

from penstock_coordinator.adapters.memory.cost_store import DAY, costs_of_row
from penstock_coordinator.adapters.memory.database import FIRST_STATE_AT_REST, MemoryDatabase, RemovedRun
from penstock_coordinator.adapters.memory.reaching import reached
from penstock_coordinator.core.fleet.ownership import OwnershipState
from penstock_coordinator.ports import AttemptRow, BulkState, Costs, EndedRuns, OldRows, RunId, RunRow, RunRows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence


class MemoryRetentionStore:
    def __init__(self, database: MemoryDatabase) -> None:
        self._database = database

    async def bytes_taken(self) -> int:
        """By events: the rest is objects."""
        await reached(self._database)
        return sum(len(each.payload) for records in self._database.records.values() for each in records.values())

    async def ended_runs(self, which: EndedRuns, after: RunId, limit: int) -> list[RunId]:
        await reached(self._database)
        return [i for i, row in sorted(self._database.runs.items()) if i > after and self._is(row, which)][:limit]

    def _is(self, row: RunRow, which: EndedRuns) -> bool:
        if _live(row) or (row.origin.parent is not None and row.origin.parent.run_id in self._database.runs):
            return False
        old = which.ended_before is None or (row.end_time is not None and row.end_time < which.ended_before)
        below = which.below is None or row.run_id < which.below
        since = which.ended_from is None or (row.end_time is not None and row.end_time >= which.ended_from)
        return old and since and below and which.pipeline in ("", row.pipeline)

    async def held_from_below(self) -> frozenset[RunId]:
        await reached(self._database)
        held: set[RunId] = set()
        for row in self._database.runs.values():
            above = row if _live(row) else None
            while above is not None and above.origin.parent is not None:
                above = self._database.runs.get(above.origin.parent.run_id)
                if above is not None and not _live(above):
                    held.add(above.run_id)
        return frozenset(held)

    async def nth_newest(self, pipeline: str, number: int) -> RunId | None:
        await reached(self._database)
        rows = sorted(self._database.runs.items(), reverse=True)
        ended = [i for i, r in rows if r.pipeline == pipeline and not _live(r) and r.origin.parent is None]
        return ended[number - 1] if len(ended) >= number else None

    async def pipelines_of_runs(self, after: str, limit: int) -> list[str]:
        await reached(self._database)
        return sorted(name for name in self._database.pipelines if name > after)[:limit]

    async def children(self, parents: Sequence[RunId], after: RunId, limit: int) -> list[RunId]:
        await reached(self._database)
        found = [i for i in self._below(parents) if not _live(self._database.runs[i]) and not self._has_live_child(i)]
        return [run_id for run_id in found if run_id > after][:limit]

    def _below(self, parents: Sequence[RunId]) -> list[RunId]:
        rows = sorted(self._database.runs.items())
        return [i for i, row in rows if row.origin.parent is not None and row.origin.parent.run_id in parents]

    def _has_live_child(self, run_id: RunId) -> bool:
        return any(_live(self._database.runs[child]) for child in self._below([run_id]))

    async def remove_runs(self, run_ids: Sequence[RunId], which: EndedRuns, now: int) -> list[RunId]:
        await reached(self._database)
        runs = self._database.runs
        due = sorted(i for i in run_ids if i in runs and self._is(runs[i], which) and not self._has_live_child(i))
        for run_id in due:
            row = runs.pop(run_id)
            self._database.removed_runs[run_id] = RemovedRun(now, False, row.pipeline, row.labels, row.create_time)
        return due

    async def noted(self, after: RunId, limit: int) -> list[RunId]:
        await reached(self._database)
        return sorted(i for i, note in self._database.removed_runs.items() if i > after and not note.gone)[:limit]

    async def count_rows(self, rows: RunRows, run_ids: Sequence[RunId]) -> int:
        await reached(self._database)
        table = self._table(rows)
        return sum(len(table.get(run_id, ())) for run_id in set(run_ids))

    async def remove_rows(self, rows: RunRows, run_ids: Sequence[RunId], limit: int) -> int:
        await reached(self._database)
        table = self._table(rows)
        ended = [i for i in sorted(set(run_ids)) if i not in self._database.runs or not _live(self._database.runs[i])]
        due = [(i, key) for i in ended for key in sorted(table.get(i, ()))][:limit]
        for run_id, key in due:
            if rows is RunRows.ATTEMPTS:
                self._keep_cost(run_id, table[run_id][key])
            if rows is RunRows.LOG_PACKS:
                self._database.log_names[table[run_id][key].pack.name] = 0
            del table[run_id][key]
            if not table[run_id]:
                del table[run_id]
        return len(due)

    def _keep_cost(self, run_id: RunId, row: AttemptRow) -> None:
        note = self._database.removed_runs.get(run_id)
        if note is not None and note.pipeline:
            day = (note.create_time // DAY, note.pipeline, note.labels)
            kept = self._database.cost_days
            kept[day] = kept.get(day, Costs()) + costs_of_row(row)

    def _table(self, rows: RunRows) -> dict[RunId, dict[Any, Any]]:
        tables: dict[RunRows, Any] = {
            RunRows.EVENTS: self._database.records,
            RunRows.STEP_RUNS: self._database.step_runs,
            RunRows.ATTEMPTS: self._database.attempts,
            RunRows.LOGS: self._database.logs,
            RunRows.LOG_PACKS: self._database.log_packs,
            RunRows.LETTERS: self._database.dead_letters,
            RunRows.ARTIFACTS: self._database.artifacts,
            RunRows.USES: self._database.artifact_uses,
        }
        table: dict[RunId, dict[Any, Any]] = tables[rows]
        return table

    async def free_run_keys(self, run_ids: Sequence[RunId]) -> int:
        await reached(self._database)
        return _drop(self._database.run_keys, lambda _, run_id: run_id in run_ids and run_id not in self._database.runs)

    async def all_gone(self, run_ids: Sequence[RunId]) -> None:
        await reached(self._database)
        for run_id in run_ids:
            held = run_id in self._database.run_keys.values() or self._below([run_id])
            if run_id in self._database.removed_runs and not held:
                self._database.removed_runs[run_id].gone = True

    async def runs_with_logs(self, ended_before: int, after: RunId, limit: int) -> tuple[list[RunId], RunId | None]:
        await reached(self._database)
        found = {i for table in (self._database.logs, self._database.log_packs) for i, kept in table.items() if kept}
        ids = sorted(run_id for run_id in found if after < run_id < _bound(ended_before))
        return _among(ids, limit, lambda run_id: self._ended(run_id, ended_before))

    def _ended(self, run_id: RunId, before: int) -> bool:
        row = self._database.runs.get(run_id)
        return row is not None and not _live(row) and row.end_time is not None and row.end_time < before

    async def strays(self, rows: RunRows, before: int, after: RunId, limit: int) -> tuple[list[RunId], RunId | None]:
        await reached(self._database)
        ids = sorted(i for i, found in self._table(rows).items() if found and after < i < _bound(before))
        return _among(ids, limit, self._is_stray)

    def _is_stray(self, run_id: RunId) -> bool:
        note = self._database.removed_runs.get(run_id)
        return run_id not in self._database.runs and (note is None or note.gone)

    async def note_strays(self, run_ids: Sequence[RunId], now: int) -> int:
        await reached(self._database)
        strays = [run_id for run_id in run_ids if run_id not in self._database.runs]
        for run_id in strays:
            self._database.removed_runs.setdefault(run_id, RemovedRun(now)).gone = False
        return len(strays)

    async def count_old(self, rows: OldRows, before: int, among: Sequence[str] = ()) -> int:
        await reached(self._database)
        return len(self._old(rows, before, among))

    async def remove_old(self, rows: OldRows, before: int, limit: int, among: Sequence[str] = ()) -> int:
        await reached(self._database)
        due = self._old(rows, before, among)[:limit]
        for key in due:
            if rows is OldRows.PIPELINES:
                self._database.pipelines[key].versions.clear()
            elif rows is OldRows.CLOSED_LETTERS:
                run_id, seq = key
                del self._database.dead_letters[run_id][seq]
            else:
                del self._old_table(rows)[key]
        return len(due)

    def _old_table(self, rows: OldRows) -> dict[Any, Any]:
        tables: dict[OldRows, Any] = {
            OldRows.REQUESTS: self._database.requests,
            OldRows.BULK_JOBS: self._database.bulk_jobs,
            OldRows.CLOSED_LETTERS: {
                (run_id, seq): letter
                for run_id, kept in self._database.dead_letters.items()
                for seq, letter in kept.items()
            },
            OldRows.CACHE_ENTRIES: self._database.cache_entries,
            OldRows.EXPIRED_ENTRIES: self._database.cache_entries,
            OldRows.NOTES: self._database.removed_runs,
            OldRows.PIPELINES: self._database.pipelines,
            OldRows.CHARGES: self._database.charges,
            OldRows.BUDGET_RAISES: self._database.raised_budgets,
            OldRows.BUNDLES: self._database.bundles,
        }
        table: dict[Any, Any] = tables[rows]
        return table

    def _old(self, rows: OldRows, before: int, among: Sequence[str]) -> list[Any]:
        database, runs = self._database, self._database.runs
        of_runs = {row.pipeline for row in runs.values()}
        old: dict[OldRows, Callable[[Any, Any], bool]] = {
            OldRows.REQUESTS: lambda _, kept: (
                kept.create_time < before and not (kept.run_id in runs and _live(runs[kept.run_id]))
            ),
            OldRows.CACHE_ENTRIES: lambda _, entry: entry.row.at < before,
            OldRows.EXPIRED_ENTRIES: lambda _, entry: (
                entry.row.expire_time is not None and entry.row.expire_time < before
            ),
            OldRows.BULK_JOBS: lambda _, job: (
                job.state is not BulkState.RUNNING and job.end_time is not None and job.end_time < before
            ),
            OldRows.CLOSED_LETTERS: lambda _, found: found.close_time is not None and found.close_time < before,
            OldRows.NOTES: lambda _, note: note.gone and note.remove_time < before,
            OldRows.PIPELINES: lambda name, kept: (
                kept.versions and kept.delete_time is not None and kept.delete_time < before and name not in of_runs
            ),
            OldRows.CHARGES: lambda _, found: found[1] < before,
            OldRows.BUDGET_RAISES: lambda key, _: key[1] < before,
            OldRows.BUNDLES: lambda digest, _: digest in among and database.bundle_times[digest] < before,
        }
        return [key for key, value in self._old_table(rows).items() if old[rows](key, value)]

    async def versions(self, after: tuple[str, int], limit: int) -> list[tuple[str, int, str]]:
        await reached(self._database)
        every = (version for kept in self._database.pipelines.values() for version in kept.versions)
        return sorted((v.pipeline, v.number, v.digest) for v in every if (v.pipeline, v.number) > after)[:limit]

    async def old_bundles(self, before: int, after: str, limit: int) -> list[str]:
        await reached(self._database)
        times = self._database.bundle_times
        return sorted(digest for digest in self._database.bundles if digest > after and times[digest] < before)[:limit]

    async def live_ids(self, owner: str, after: RunId, limit: int) -> list[RunId]:
        await reached(self._database)
        rows = sorted(self._database.runs.items())
        return [i for i, row in rows if row.owner == owner and _live(row) and i > after][:limit]

    async def live_of_others(self, owner: str) -> dict[str, int]:
        await reached(self._database)
        members = {
            row.coordinator_id for row in self._database.coordinators.values() if row.state is OwnershipState.MEMBER
        }
        others = (row.owner for row in self._database.runs.values() if _live(row) and row.owner != owner)
        return dict(Counter(sorted(each for each in others if each not in members)))

    async def removed_at(self, run_id: RunId) -> int | None:
        await reached(self._database)
        note = self._database.removed_runs.get(run_id)
        return None if note is None else note.remove_time

    @contextlib.asynccontextmanager
    async def alone(self) -> AsyncIterator[bool]:
        await reached(self._database)
        mine, self._database.janitor_at_work = not self._database.janitor_at_work, True
        try:
            yield mine
        finally:
            if mine:
                self._database.janitor_at_work = False


def _live(row: RunRow) -> bool:
    return row.state < FIRST_STATE_AT_REST


def _bound(instant: int) -> RunId:
    """Above the ids of all runs that were created at the instant or before."""
    return (instant // 1_000 + 1).to_bytes(6, "big") + bytes(10)


def _among(ids: list[RunId], limit: int, wanted: Callable[[RunId], bool]) -> tuple[list[RunId], RunId | None]:
    seen = ids[:limit]
    return [run_id for run_id in seen if wanted(run_id)], seen[-1] if len(seen) == limit else None


def _drop(table: dict[Any, Any], wanted: Callable[[Any, Any], bool]) -> int:
    due: Iterable[Any] = [key for key, value in table.items() if wanted(key, value)]
    for key in due:
        del table[key]
    return len(list(due))

"""What the removal of old data asks of the database.

A run goes in two parts. First its row, alone and only if nothing stands against it; in the same transaction its id is
noted as removed. From then on there is no such run. Then, in as many batches as it takes, all other rows of noted ids,
until none is left. So whoever stops between two batches leaves notes behind, and the next one goes on from them.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol

from penstock_coordinator.ports.common import RunId


class RunRows(enum.Enum):
    """The tables that hold rows of runs beside the runs' own."""

    EVENTS = "events"
    STEP_RUNS = "step_runs"
    ATTEMPTS = "attempts"
    LOGS = "logs"
    LOG_PACKS = "log_packs"
    """Of lines that are in the artifact store. What is stored under their names goes after them."""
    LETTERS = "dead_letters"
    ARTIFACTS = "artifacts"
    USES = "artifact_uses"
    """That artifacts were given to steps of the run."""


class OldRows(enum.Enum):
    """What goes by its age alone."""

    REQUESTS = "requests"
    """Not while their run is live."""
    BULK_JOBS = "bulk_jobs"
    """Those that ended."""
    CLOSED_LETTERS = "closed_letters"
    """Dead letters that are not open any more, by when they were closed."""
    CACHE_ENTRIES = "cache_entries"
    """Values of the cache, by when they were made."""
    EXPIRED_ENTRIES = "expired_entries"
    """Those that have expired, by their own policies."""
    NOTES = "notes"
    """Of runs of which nothing is left."""
    PIPELINES = "pipelines"
    """The versions of deleted ones that no run is of, counted by pipeline. A pipeline that comes back counts on."""
    CHARGES = "budget_charges"
    """To budgets of pipelines."""
    BUDGET_RAISES = "budget_raises"
    """Of windows that began before."""
    BUNDLES = "bundles"
    """Among those that are named."""


@dataclass(frozen=True, slots=True)
class EndedRuns:
    """Runs at rest that are no step of another run that is there; of these, those that meet all that is given."""

    ended_before: int | None = None
    ended_from: int | None = None
    pipeline: str = ""
    below: RunId | None = None
    """Older than this one."""


class RetentionStore(Protocol):
    """Each method is one short transaction that looks at, or removes, at most `limit` of something, and waits for no
    lock that a commit holds. All raise `Unavailable`."""

    async def bytes_taken(self) -> int:
        """By the whole database, with what is free within its files."""

    async def ended_runs(self, which: EndedRuns, after: RunId, limit: int) -> list[RunId]:
        """Oldest first, above `after`."""

    async def held_from_below(self) -> frozenset[RunId]:
        """Runs at rest below which a run is live, however far down."""

    async def nth_newest(self, pipeline: str, number: int) -> RunId | None:
        """The pipeline's run at rest that is no step of another one and that has `number` - 1 newer ones."""

    async def pipelines_of_runs(self, after: str, limit: int) -> list[str]:
        """Names in order, above `after`, of pipelines that may have runs, deleted ones too."""

    async def children(self, parents: Sequence[RunId], after: RunId, limit: int) -> list[RunId]:
        """Runs at rest that are steps of the given ones, and of which no step is a live run; above `after`."""

    async def remove_runs(self, run_ids: Sequence[RunId], which: EndedRuns, now: int) -> list[RunId]:
        """Of those runs the ones that are `which` still, and of which no step is a live run: their rows are gone, and
        their ids are noted. A run that somebody changes at this moment is left as it is."""

    async def noted(self, after: RunId, limit: int) -> list[RunId]:
        """Ids of removed runs of which something may be left, in order, above `after`."""

    async def count_rows(self, rows: RunRows, run_ids: Sequence[RunId]) -> int: ...

    async def remove_rows(self, rows: RunRows, run_ids: Sequence[RunId], limit: int) -> int:
        """Of runs that are not live; of a run's events the oldest first. How many: fewer than `limit` if none is
        left."""

    async def free_run_keys(self, run_ids: Sequence[RunId]) -> int:
        """Run keys whose newest run is one of these removed ones are nobody's now."""

    async def all_gone(self, run_ids: Sequence[RunId]) -> None:
        """Of these noted runs nothing is left, but for children of some that are there still."""

    async def runs_with_logs(self, ended_before: int, after: RunId, limit: int) -> tuple[list[RunId], RunId | None]:
        """Among the next `limit` ids above `after` of runs that have logs: those of runs that ended before the instant;
        and the last id that was looked at, None at the end."""

    async def strays(self, rows: RunRows, before: int, after: RunId, limit: int) -> tuple[list[RunId], RunId | None]:
        """Among the next `limit` ids above `after` of runs from before the instant that have such rows: those of which
        there is no run and no note that something is left; and the last id that was looked at, None at the end."""

    async def note_strays(self, run_ids: Sequence[RunId], now: int) -> int:
        """Note as removed those of them of which there is no run. How many."""

    async def count_old(self, rows: OldRows, before: int, among: Sequence[str] = ()) -> int:
        """How many `remove_old` would remove in all."""

    async def remove_old(self, rows: OldRows, before: int, limit: int, among: Sequence[str] = ()) -> int:
        """How many: fewer than `limit` if none is left."""

    async def versions(self, after: tuple[str, int], limit: int) -> list[tuple[str, int, str]]:
        """(pipeline, number, digest) in order, those of deleted pipelines too."""

    async def old_bundles(self, before: int, after: str, limit: int) -> list[str]:
        """Digests in order, above `after`, of bundles that nobody has asked for since the instant."""

    async def live_ids(self, owner: str, after: RunId, limit: int) -> list[RunId]:
        """Oldest first, above `after`."""

    async def live_of_others(self, owner: str) -> dict[str, int]:
        """How many live runs each other coordinator has that is no member of a head: nobody looks after them."""

    async def removed_at(self, run_id: RunId) -> int | None:
        """None if it is not noted; notes go after a while."""

    def alone(self) -> AbstractAsyncContextManager[bool]:
        """False if another coordinator is in such a context on the same database; else none comes in while this one is
        open, unless the database goes away meanwhile."""

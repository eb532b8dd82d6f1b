"""How long what is at rest is kept, and what a pass of the janitor has to tell.

Spans and instants are microseconds.
"""

from __future__ import annotations

from dataclasses import dataclass, field

_HOUR = 3_600 * 1_000_000
_DAY = 24 * _HOUR


@dataclass(frozen=True, slots=True)
class Retention:
    """Spans of 0, and the number 0, are no bound: what they are of is kept for ever."""

    runs: int = 90 * _DAY
    """Since a run's end, with all that is stored of it."""
    runs_of_pipeline: int = 0
    """So many of the newest runs at rest of each pipeline are kept."""
    logs: int = 30 * _DAY
    """Since the run's end."""
    requests: int = 7 * _DAY
    """A repeated call is answered for so long. Nothing that a call made goes before: its repetition would be answered
    with nothing, or make it again. Never 0."""
    bulk_jobs: int = 30 * _DAY
    """Since a job's end."""
    closed_letters: int = 30 * _DAY
    """Since a dead letter was requeued or purged. An open one stays as long as its run."""
    cache_entries: int = 90 * _DAY
    """Since a value of the cache was computed."""
    cache_entries_kept: int = 100_000
    """So many of the newest values are kept."""
    deleted_pipelines: int = 30 * _DAY
    """Since the deletion of a pipeline, if no run is of it: then its versions go."""
    unused_bundles: int = 7 * _DAY
    """Since somebody last asked for a bundle that no version names."""
    notes: int = 90 * _DAY
    """Since a run's removal: so long its id is answered with that it was removed."""
    artifacts: int = 0
    """Since an artifact was made."""
    artifacts_of: tuple[tuple[str, int], ...] = ()
    """The same for pipelines of their own."""
    artifacts_kept: int = 0
    """So many of the newest artifacts of each name of a step of a pipeline are kept."""
    unpublished: int = _DAY
    """Since bytes came to the artifact store that are no artifact, or none any more. Never 0."""
    strays: int = _HOUR
    """Rows of runs that are not there are left alone if they are younger."""

    def kept_since(self, now: int) -> int | None:
        """Runs that ended before this instant go by their age."""
        return now - max(self.runs, self.requests) if self.runs else None


@dataclass(frozen=True, slots=True)
class Pace:
    """How much the janitor asks of the database."""

    interval: int = 600 * 1_000_000
    """Between two passes; 0: none by itself."""
    batch: int = 500
    """Rows that one transaction removes at most."""
    pause: int = 50_000
    """Between two transactions, and never less than the last one took."""


@dataclass(slots=True)
class Report:
    """What one pass removed, or would have; rows of tables, but for runs."""

    dry_run: bool = False
    start_time: int = 0
    end_time: int = 0
    runs: int = 0
    """Also those below."""
    events: int = 0
    """Rows of journals, each the events of one turn."""
    step_runs: int = 0
    attempts: int = 0
    logs: int = 0
    """Rows of lines."""
    log_packs: int = 0
    """Of lines in the artifact store."""
    log_blobs: int = 0
    """Of the artifact store: what no pack has any more, and what never became one."""
    dead_letters: int = 0
    """With their runs."""
    artifacts: int = 0
    """Rows: what steps made."""
    artifact_uses: int = 0
    """Rows: what steps were given."""
    objects: int = 0
    """Of the artifact store."""
    uploads: int = 0
    """That were begun and never completed."""
    run_keys: int = 0
    requests: int = 0
    bulk_jobs: int = 0
    closed_letters: int = 0
    cache_entries: int = 0
    expired_entries: int = 0
    pipelines: int = 0
    bundles: int = 0
    notes: int = 0
    budget_charges: int = 0
    """Of windows that are long over: housekeeping that no report tells."""
    budget_raises: int = 0
    strays: int = 0
    """Ids of which there were rows and no run."""
    adopted: int = 0
    """Live runs that nobody looked after, and that go on now."""
    unrecoverable: list[bytes] = field(default_factory=list)
    """Live runs that cannot be made again from their journals and stay set aside; the first ones."""
    live_of_others: dict[str, int] = field(default_factory=dict)
    """How many live runs each other coordinator has: they go on only when that one runs."""

    COUNTS = (
        "runs",
        "events",
        "step_runs",
        "attempts",
        "logs",
        "log_packs",
        "log_blobs",
        "dead_letters",
        "artifacts",
        "artifact_uses",
        "objects",
        "uploads",
        "run_keys",
        "requests",
        "bulk_jobs",
        "closed_letters",
        "cache_entries",
        "expired_entries",
        "pipelines",
        "bundles",
        "notes",
        "strays",
        "adopted",
    )

    def count(self, what: str, number: int) -> None:
        setattr(self, what, getattr(self, what) + number)

    def counts(self) -> dict[str, int]:
        """By name, those that are 0 too."""
        return {name: getattr(self, name) for name in self.COUNTS}

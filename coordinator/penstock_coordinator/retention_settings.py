"""Settings of what is kept for how long, and how what is old is removed."""

from __future__ import annotations

from datetime import timedelta

from pydantic import BaseModel, Field

from penstock_coordinator.setting_kinds import LONGEST, KeptFor, Span


class RetentionSettings(BaseModel):
    """A part of the coordinator's settings."""

    # The defaults are those of `Retention` and `Pace`: what is kept for how long.
    run_retention: KeptFor = Field(
        default=timedelta(days=90),
        ge=timedelta(0),
        le=LONGEST,
        description="how long a run is kept after its end, with all that is stored of it; 1s to 3650d, 0s: for ever",
    )
    runs_kept_per_pipeline: int = Field(
        default=0, ge=0, le=10_000_000, description="newest runs at rest of each pipeline that are kept; 0: all"
    )
    log_retention: KeptFor = Field(
        default=timedelta(days=30),
        ge=timedelta(0),
        le=LONGEST,
        description="how long logs are kept after the end of their run; 1s to 3650d, 0s: as long as the run",
    )
    request_retention: Span = Field(
        default=timedelta(days=7),
        ge=timedelta(seconds=1),
        le=timedelta(days=90),
        description="how long a repeated call is answered as the first time; no run goes sooner; 1s to 90d",
    )
    bulk_job_retention: KeptFor = Field(
        default=timedelta(days=30),
        ge=timedelta(0),
        le=LONGEST,
        description="how long a bulk job is kept after its end; 1s to 3650d, 0s: for ever",
    )
    closed_letter_retention: KeptFor = Field(
        default=timedelta(days=30),
        ge=timedelta(0),
        le=LONGEST,
        description="how long a dead letter is kept after it was requeued or purged; 1s to 3650d, 0s: as long as its"
        " run",
    )
    cache_retention: KeptFor = Field(
        default=timedelta(days=90),
        ge=timedelta(0),
        le=LONGEST,
        description="how long a value of the cache is kept; 1s to 3650d, 0s: for ever",
    )
    cache_entries_kept: int = Field(
        default=100_000, ge=0, le=100_000_000, description="newest values of the cache that are kept; 0: all"
    )
    cache_patience: Span = Field(
        default=timedelta(seconds=5),
        ge=timedelta(milliseconds=100),
        le=timedelta(minutes=10),
        description="how long a step waits for the cache to answer before it is run without it; 100ms to 10m",
    )
    cache_reservation_ttl: Span = Field(
        default=timedelta(seconds=60),
        ge=timedelta(seconds=1),
        le=timedelta(hours=1),
        description="how long a coordinator may be silent before others compute the values that its runs compute;"
        " 1s to 1h",
    )
    deleted_pipeline_retention: KeptFor = Field(
        default=timedelta(days=30),
        ge=timedelta(0),
        le=LONGEST,
        description="how long versions of a deleted pipeline are kept if no run is of it; 1s to 3650d, 0s: for ever",
    )
    unused_bundle_retention: KeptFor = Field(
        default=timedelta(days=7),
        ge=timedelta(0),
        le=LONGEST,
        description="how long a code bundle that no version names is kept; 2h to 3650d, 0s: for ever",
    )
    removed_run_retention: KeptFor = Field(
        default=timedelta(days=90),
        ge=timedelta(0),
        le=LONGEST,
        description="how long it is remembered that a run was removed; 1s to 3650d, 0s: for ever",
    )
    janitor_interval: KeptFor = Field(
        default=timedelta(minutes=10),
        ge=timedelta(0),
        le=timedelta(days=7),
        description="between two passes that remove what is old; 1s to 7d, 0s: only when `penstock janitor run` asks",
    )
    janitor_batch: int = Field(
        default=500, ge=10, le=10_000, description="rows that the janitor removes in one transaction; 10 to 10,000"
    )
    janitor_pause: Span = Field(
        default=timedelta(milliseconds=50),
        ge=timedelta(0),
        le=timedelta(minutes=1),
        description="between two transactions of the janitor, and never less than the last one took; 0s to 1m",
    )

"""What a database is to the memory stores: the tables, shared by the coordinators that work on it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from penstock_coordinator.core.plan.budget import Amounts
from penstock_coordinator.ports import (
    AgentRow,
    Artifact,
    ArtifactUse,
    AttemptRow,
    BulkJobRow,
    CacheEntry,
    ChargeRow,
    Costs,
    DeadLetter,
    LinkRow,
    LogChunk,
    RequestRow,
    RunId,
    RunRow,
    SecretRow,
    SigningKey,
    StepRunRow,
    StoredRecord,
    VersionRow,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from penstock_coordinator.adapters.memory.cache_store import KeptReservation
    from penstock_coordinator.adapters.memory.log_pack_store import KeptPack
    from penstock_coordinator.core.fleet.ownership import CoordinatorRow


def _none_at_all() -> float:
    return 0.0


def _set_event() -> asyncio.Event:
    event = asyncio.Event()
    event.set()
    return event


FIRST_STATE_AT_REST = 6


@dataclass(slots=True)
class KeptRequest:
    row: RequestRow
    run_id: RunId | None
    create_time: int


@dataclass(slots=True)
class KeptPipeline:
    create_time: int
    versions: list[VersionRow] = field(default_factory=list)
    latest: int = 0
    """The greatest number that a version had."""
    delete_time: int | None = None

    @property
    def deleted(self) -> bool:
        return self.delete_time is not None


@dataclass(slots=True)
class RemovedRun:
    remove_time: int
    gone: bool = False
    pipeline: str = ""
    labels: tuple[tuple[str, str], ...] = ()
    create_time: int = 0


@dataclass(slots=True)
class MemoryDatabase:
    """All of it is committed: nothing here awaits, so whatever changes it does so at once."""

    fences: dict[tuple[str, int], int] = field(default_factory=dict)
    last_epoch: int = 0
    coordinators: dict[str, CoordinatorRow] = field(default_factory=dict)
    records: dict[RunId, dict[int, StoredRecord]] = field(default_factory=dict)
    """Of each run by first number."""
    runs: dict[RunId, RunRow] = field(default_factory=dict)
    charges: dict[tuple[RunId, int], tuple[ChargeRow, int]] = field(default_factory=dict)
    """To budgets of pipelines, with their instants, by record."""
    raised_budgets: dict[tuple[str, int], Amounts] = field(default_factory=dict)
    """By pipeline and the start of the window."""
    step_runs: dict[RunId, dict[tuple[int, int, int], StepRunRow]] = field(default_factory=dict)
    """Of each run by (step, item, generation)."""
    attempts: dict[RunId, dict[tuple[int, int, int, int], AttemptRow]] = field(default_factory=dict)
    """Of each run by (step, item, number, token)."""
    requests: dict[tuple[str, str, str], KeptRequest] = field(default_factory=dict)
    run_keys: dict[tuple[str, str], RunId] = field(default_factory=dict)
    """By pipeline and run key."""
    pipelines: dict[str, KeptPipeline] = field(default_factory=dict)
    bundles: dict[str, bytes] = field(default_factory=dict)
    bundle_times: dict[str, int] = field(default_factory=dict)
    """When somebody last asked for each."""
    agents: dict[str, AgentRow] = field(default_factory=dict)
    agent_links: dict[tuple[str, str], LinkRow] = field(default_factory=dict)
    """By agent and coordinator."""
    last_session_epoch: int = 0
    logs: dict[RunId, dict[tuple[int, int, int, int], LogChunk]] = field(default_factory=dict)
    log_packs: dict[RunId, dict[int, KeptPack]] = field(default_factory=dict)
    """By last position."""
    log_names: dict[str, int] = field(default_factory=dict)
    """When each was claimed; 0: its pack was removed."""
    """Of each run by (step, item, attempt, first line)."""
    last_position: int = 0
    dead_letters: dict[RunId, dict[int, DeadLetter]] = field(default_factory=dict)
    """Of each run by number."""
    cache_entries: dict[int, CacheEntry] = field(default_factory=dict)
    cache_reservations: dict[bytes, KeptReservation] = field(default_factory=dict)
    """By key."""
    artifacts: dict[RunId, dict[tuple[int, int], Artifact]] = field(default_factory=dict)
    """Of each run by (number, position)."""
    artifact_uses: dict[RunId, dict[tuple[int, int, int, str, str], ArtifactUse]] = field(default_factory=dict)
    """Of each run by (step, item, token, input, digest)."""
    bulk_jobs: dict[bytes, BulkJobRow] = field(default_factory=dict)
    removed_runs: dict[RunId, RemovedRun] = field(default_factory=dict)
    cost_days: dict[tuple[int, str, tuple[tuple[str, str], ...]], Costs] = field(default_factory=dict)
    """By day (since 1970), pipeline and labels, of removed runs."""
    signing_keys: list[SigningKey] = field(default_factory=list)
    secrets: dict[str, SecretRow] = field(default_factory=dict)
    last_signing_key: int = 0
    janitor_at_work: bool = False
    there: asyncio.Event = field(default_factory=_set_event)
    """While it is not set the database is away: what is asked is answered with `Unavailable`, and commits wait."""
    distance: Callable[[], float] = _none_at_all
    """Draws the seconds that a question is under way."""

"""The events of all runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeAlias

import msgspec

from penstock_coordinator.ports.artifact_index import ArtifactRow
from penstock_coordinator.ports.budgets import ChargeRow
from penstock_coordinator.ports.cache import CacheEntryRow
from penstock_coordinator.ports.common import RunId
from penstock_coordinator.ports.dead_letters import LetterClosing, LetterRow
from penstock_coordinator.ports.requests import Repeated, RequestRow
from penstock_coordinator.ports.rows import AttemptRow, NewRun, RunChange, StepRunRow
from penstock_coordinator.ports.run_keys import KeyClaim


class Record(msgspec.Struct, frozen=True, gc=False):
    """One append to the journal of one run, with the rows that go with it: all or nothing."""

    run_id: RunId
    first_seq: int
    last_seq: int
    payload: bytes
    at: int
    new_run: NewRun | None = None
    change: RunChange | None = None
    step_runs: tuple[StepRunRow, ...] = ()
    attempts: tuple[AttemptRow, ...] = ()
    request: RequestRow | None = None
    claim: KeyClaim | None = None
    letters: tuple[LetterRow, ...] = ()
    """That it opens."""
    closings: tuple[LetterClosing, ...] = ()
    """Of letters that were open before, or that it opens itself."""
    entries: tuple[CacheEntryRow, ...] = ()
    """Values that the cache gains."""
    answered: tuple[StepRunRow, ...] = ()
    """Step runs that were answered from the cache, apart from `step_runs`: each has a source."""
    artifacts: tuple[ArtifactRow, ...] = ()
    charge: ChargeRow | None = None
    """To the budget of its pipeline."""

    @property
    def reopens(self) -> bool:
        """It opens a new generation of a run at rest, which may have been removed by now."""
        return self.change is not None and self.change.generation is not None


class Committed(msgspec.Struct, frozen=True, gc=False):
    """The record is durable."""


class KeyTaken(msgspec.Struct, frozen=True, gc=False):
    """Another run has the run key: nothing of the record is stored. A request that was answered before comes first."""

    run_id: RunId
    state: int
    """Of that run, when the record was refused."""


class NotNewest(msgspec.Struct, frozen=True, gc=False):
    """The new run's version is not the newest of its pipeline any more, or the pipeline is deleted: nothing of the
    record is stored. A request that was answered before comes first."""


class Unstorable(msgspec.Struct, frozen=True, gc=False):
    """The store refuses the record for its content, for ever. Nothing of it is stored."""

    reason: str


class OutOfSequence(msgspec.Struct, frozen=True, gc=False):
    """Another record of the run has that number: the writer's state is not the journal's. Nothing of it is stored."""


class Removed(msgspec.Struct, frozen=True, gc=False):
    """The record opens a new generation of a run that was removed. Nothing of it is stored."""


AppendOutcome: TypeAlias = Committed | Repeated | KeyTaken | NotNewest | Unstorable | OutOfSequence | Removed


class StoredRecord(msgspec.Struct, frozen=True, gc=False):
    first_seq: int
    last_seq: int
    payload: bytes
    at: int


class Journal(Protocol):
    """The append-only events of all runs. The only truth."""

    async def commit(self, lane: int, records: Sequence[Record]) -> list[AppendOutcome]:
        """Make the records durable in one transaction of the lane, in their order; one outcome per record.

        Calls for one lane must not overlap. If a record is not stored, records of the same run that follow it in the
        batch are not stored either (OutOfSequence). Returns only when the fate of all is known: an unknown commit is
        looked up, an absent database is waited for. Raises `Fenced`; after it nothing of the batch is stored.
        """

    async def read(self, run_id: RunId, from_seq: int = 1, limit: int = 1000) -> list[StoredRecord]:
        """Committed records that hold events numbered `from_seq` and later, in order, at most `limit` records.
        Raises `Unavailable`."""

    async def read_many(
        self, run_ids: Sequence[RunId], after: tuple[RunId, int] | None = None, limit: int = 1000
    ) -> list[tuple[RunId, StoredRecord]]:
        """Committed records of all these runs, run by run in the order of their ids and in each in order, at most
        `limit`: the first ones, or those that follow the record of the run `after[0]` that begins with the number
        `after[1]`. Raises `Unavailable`."""

    async def read_since(
        self, known: Sequence[tuple[RunId, int]], limit: int = 1000
    ) -> list[tuple[RunId, StoredRecord]]:
        """Committed records of these runs whose events have greater numbers than those that come with the runs: the
        first ones, at most `limit`, in the order of `read_many`. Raises `Unavailable`."""

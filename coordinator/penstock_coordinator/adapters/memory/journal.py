"""Ports `Journal` and `Incarnations` in memory."""

from __future__ import annotations

import asyncio
import dataclasses
import sys
from typing import TYPE_CHECKING

import msgspec

from penstock_coordinator.adapters.memory.artifact_index import project_artifacts
from penstock_coordinator.adapters.memory.budget_store import project_charges
from penstock_coordinator.adapters.memory.cache_store import project_values
from penstock_coordinator.adapters.memory.database import FIRST_STATE_AT_REST, KeptRequest, MemoryDatabase
from penstock_coordinator.adapters.memory.dead_letter_store import project_letters
from penstock_coordinator.adapters.memory.faults import CommitUnknown, Faults
from penstock_coordinator.adapters.memory.reaching import reached
from penstock_coordinator.core.fleet.ownership import OwnershipState
from penstock_coordinator.ports import (
    AppendOutcome,
    Committed,
    Fenced,
    KeyTaken,
    NewRun,
    NotNewest,
    OutOfSequence,
    Record,
    Removed,
    Repeated,
    RunChange,
    RunId,
    RunRow,
    StoredRecord,
    Unstorable,
    gives_free,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


class MemoryJournal:
    """`epoch` is that of the coordinator's incarnation; 0 until it has one, and nothing can be committed."""

    def __init__(self, database: MemoryDatabase, coordinator_id: str, lanes: int, faults: Faults) -> None:
        self.epoch = 0
        self.available = True
        self._database = database
        self._coordinator_id = coordinator_id
        self._faults = faults
        self._busy = [False] * lanes

    async def commit(self, lane: int, records: Sequence[Record]) -> list[AppendOutcome]:
        if not self.epoch:
            raise Fenced("this coordinator has no incarnation yet")
        if self._busy[lane]:
            raise RuntimeError("two commits of one lane overlap")
        self._busy[lane] = True
        try:
            return await self._commit(lane, records) if records else []
        finally:
            self._busy[lane] = False
            self.available = True

    async def _commit(self, lane: int, records: Sequence[Record]) -> list[AppendOutcome]:
        while True:
            await self._held()
            before, after = (0.0, 0.0) if self._faults.slow is None else self._faults.slow()
            if before:
                await asyncio.sleep(before)
            if self._faults.on_attempt is not None:
                self._faults.on_attempt(records)
            failure = self._faults.failures.popleft() if self._faults.failures else None
            if failure is None and self._database.there.is_set():
                stored = self._store(lane, records)
                if after:
                    await asyncio.sleep(after)
                return stored
            self.available = False
            # Of an unknown commit the outcomes are found out once the database is back.
            outcomes = self._store(lane, records) if isinstance(failure, CommitUnknown) else None
            await asyncio.sleep(0)
            await self._database.there.wait()
            if outcomes is not None:
                return outcomes

    async def _held(self) -> None:
        self._faults.entered.set()
        if self._faults.hold is not None:
            await self._faults.hold.wait()
        await asyncio.sleep(0)

    def _store(self, lane: int, records: Sequence[Record]) -> list[AppendOutcome]:
        if self._database.fences.get((self._coordinator_id, lane)) != self.epoch:
            raise Fenced(f"epoch {self.epoch} of {self._coordinator_id} is over")
        broken: set[RunId] = set()
        outcomes: list[AppendOutcome] = []
        for record in records:
            outcome = OutOfSequence() if record.run_id in broken else _append(self._database, record, self._faults)
            if not isinstance(outcome, Committed):
                broken.add(record.run_id)
            outcomes.append(outcome)
        return outcomes

    async def read(self, run_id: RunId, from_seq: int = 1, limit: int = 1000) -> list[StoredRecord]:
        await reached(self._database)
        kept = sorted(self._database.records.get(run_id, {}).items())
        return [stored for _, stored in kept if stored.last_seq >= from_seq][:limit]

    async def read_many(
        self, run_ids: Sequence[RunId], after: tuple[RunId, int] | None = None, limit: int = 1000
    ) -> list[tuple[RunId, StoredRecord]]:
        await reached(self._database)
        kept = [
            (run_id, stored)
            for run_id in sorted(set(run_ids))
            for _, stored in sorted(self._database.records.get(run_id, {}).items())
        ]
        return [(run, stored) for run, stored in kept if after is None or (run, stored.first_seq) > after][:limit]

    async def read_since(
        self, known: Sequence[tuple[RunId, int]], limit: int = 1000
    ) -> list[tuple[RunId, StoredRecord]]:
        numbers = dict(known)
        kept = await self.read_many(list(numbers), None, sys.maxsize)
        return [(run, stored) for run, stored in kept if stored.first_seq > numbers[run]][:limit]


def _append(database: MemoryDatabase, record: Record, faults: Faults) -> AppendOutcome:
    if (refusal := _refusal(record, faults)) is not None:
        return Unstorable(refusal)
    if record.request is not None:
        key = record.request.key
        if (kept := database.requests.get((key.scope, key.method, key.id))) is not None:
            return Repeated(same=kept.row.key.digest == key.digest, answer=kept.row.answer)
    if record.new_run is not None and record.new_run.only_if_newest and not _is_newest(database, record.new_run):
        return NotNewest()
    if (taken := _taken(database, record)) is not None:
        return taken
    if record.reopens and record.run_id not in database.runs:
        return Removed()
    records = database.records.setdefault(record.run_id, {})
    if record.first_seq in records:
        return OutOfSequence()
    if (clash := _clash(database, record)) is not None:
        return Unstorable(clash)
    # What it also holds is in rows; whoever wrote it lets go of it.
    records[record.first_seq] = StoredRecord(record.first_seq, record.last_seq, record.payload, record.at)
    _project(database, record)
    return Committed()


def _is_newest(database: MemoryDatabase, new: NewRun) -> bool:
    kept = database.pipelines.get(new.pipeline)
    return kept is not None and not kept.deleted and kept.versions[-1].number == new.version_number


def _taken(database: MemoryDatabase, record: Record) -> KeyTaken | None:
    claim = record.claim
    holder = None if claim is None else database.run_keys.get((claim.pipeline, claim.run_key))
    if claim is None or holder is None or holder == record.run_id:
        return None
    if holder not in database.runs:
        return None
    state = database.runs[holder].state
    return None if gives_free(state, claim.reuse) else KeyTaken(holder, state)


_LARGEST = (1 << 63) - 1


def _refusal(record: Record, faults: Faults) -> str | None:
    """Of what PostgreSQL refuses, that which can happen: names that are no text, numbers too large."""
    texts = [row.agent for row in record.step_runs] + [row.agent for row in record.attempts]
    if record.new_run is not None:
        new = record.new_run
        texts += [new.pipeline, new.version_digest, new.owner, *(x for pair in new.labels for x in pair)]
        texts.append(new.origin.run_key)
    works = [row.work for row in record.artifacts]
    texts += [text for work in works for text in (work.pipeline, work.step_name, work.display_name, work.code_digest)]
    texts += [text for letter in record.letters for text in (letter.pipeline, letter.step_name, letter.display_name)]
    texts += [text for entry in record.entries for text in (entry.pipeline, entry.step_name, entry.display_name)]
    if not all(storable(text) for text in texts):
        return "a name that is no text"
    if record.last_seq > _LARGEST:
        return "a number that is too large"
    return None if faults.refuse is None else faults.refuse(record)


def storable(text: str) -> bool:
    """What a text column can hold."""
    return "\0" not in text and not any("\ud800" <= character <= "\udfff" for character in text)


def _clash(database: MemoryDatabase, record: Record) -> str | None:
    steps = database.step_runs.get(record.run_id, {})
    attempts = database.attempts.get(record.run_id, {})
    if any((s.step, s.item, s.generation) in steps for s in (*record.step_runs, *record.answered)):
        return "a step run that is there already"
    if any((a.step, a.item, a.number, a.token) in attempts for a in record.attempts):
        return "an attempt that is there already"
    if record.new_run is not None and record.run_id in database.runs:
        return "a run that is there already"
    return None


def _project(database: MemoryDatabase, record: Record) -> None:
    if record.request is not None:
        key = record.request.key
        database.requests[key.scope, key.method, key.id] = KeptRequest(record.request, record.run_id, record.at)
    if record.claim is not None:
        database.run_keys[record.claim.pipeline, record.claim.run_key] = record.run_id
    if record.new_run is not None:
        database.runs[record.run_id] = _new_row(record.run_id, record.new_run)
    if record.change is not None and record.run_id in database.runs:
        database.runs[record.run_id] = _changed(database.runs[record.run_id], record.change)
    steps = database.step_runs.setdefault(record.run_id, {})
    steps.update({(s.step, s.item, s.generation): s for s in (*record.step_runs, *record.answered)})
    project_values(database, record)
    project_letters(database, record)
    project_artifacts(database, record)
    project_charges(database, record)
    attempts = database.attempts.setdefault(record.run_id, {})
    attempts.update({(a.step, a.item, a.number, a.token): a for a in record.attempts})


def _new_row(run_id: RunId, new: NewRun) -> RunRow:
    return RunRow(
        run_id=run_id,
        pipeline=new.pipeline,
        version_number=new.version_number,
        version_digest=new.version_digest,
        parameters=new.parameters,
        labels=new.labels,
        trace_context=new.trace_context,
        owner=new.owner,
        state=new.state,
        reason=new.reason,
        create_time=new.create_time,
        start_time=new.start_time,
        end_time=new.end_time,
        summary=new.summary,
        origin=new.origin,
        output=new.output,
    )


def _changed(row: RunRow, change: RunChange) -> RunRow:
    fields = (field.name for field in msgspec.structs.fields(change))
    given = {name: value for name in fields if (value := getattr(change, name)) is not None}
    if change.generation is not None:
        row = dataclasses.replace(row, end_time=None, summary=None, output=None)
    return dataclasses.replace(row, **given)


class MemoryIncarnations:
    def __init__(self, database: MemoryDatabase, coordinator_id: str, on_own_epoch: Callable[[int], None]) -> None:
        self._database = database
        self._coordinator_id = coordinator_id
        self._on_own_epoch = on_own_epoch

    async def incarnate(self, coordinator_id: str, lanes: int) -> int:
        await reached(self._database)
        self._database.last_epoch += 1
        epoch = self._database.last_epoch
        fences = self._database.fences
        known = {lane for owner, lane in fences if owner == coordinator_id}
        for lane in known | set(range(lanes)):
            fences[coordinator_id, lane] = epoch
        if coordinator_id == self._coordinator_id:
            self._on_own_epoch(epoch)
        return epoch

    async def is_current(self, coordinator_id: str, epoch: int) -> bool:
        await reached(self._database)
        return all(fence <= epoch for (owner, _), fence in self._database.fences.items() if owner == coordinator_id)

    def speak_as(self, epoch: int) -> None:
        self._on_own_epoch(epoch)

    async def take_over_run(self, run_id: RunId, epoch: int) -> bool:
        await reached(self._database)
        row = self._database.runs.get(run_id)
        if row is None or row.state < FIRST_STATE_AT_REST:
            return False
        owner = self._database.coordinators.get(row.owner)
        fenced = self._database.fences.get((self._coordinator_id, 0)) != epoch
        if fenced or owner is None or owner.state is OwnershipState.OWNER:
            return False
        self._database.runs[run_id] = dataclasses.replace(row, owner=self._coordinator_id)
        return True

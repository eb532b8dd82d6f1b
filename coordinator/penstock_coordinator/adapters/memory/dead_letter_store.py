"""Port `DeadLetterStore` in memory."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from penstock_coordinator.adapters.memory.reaching import reached
from penstock_coordinator.ports import DeadLetter, LetterFilter, LetterPlace, LetterRow, LetterState, RunId

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from penstock_coordinator.adapters.memory.database import MemoryDatabase
    from penstock_coordinator.ports import LetterClosing, Record


class MemoryDeadLetterStore:
    def __init__(self, database: MemoryDatabase) -> None:
        self._database = database

    async def list_letters(self, where: LetterFilter, limit: int, after: LetterPlace | None = None) -> list[DeadLetter]:
        await reached(self._database)
        found = sorted(self._all(where), key=lambda each: each.place, reverse=True)
        return [each for each in found if each.state in where.states and (after is None or each.place < after)][:limit]

    async def get(self, run_id: RunId, seq: int) -> DeadLetter | None:
        await reached(self._database)
        return self._database.dead_letters.get(run_id, {}).get(seq)

    async def runs(self, where: LetterFilter, limit: int, below: RunId) -> list[RunId]:
        await reached(self._database)
        return sorted({each.run_id for each in self._open(where) if each.run_id < below}, reverse=True)[:limit]

    async def of_run(self, where: LetterFilter, run_id: RunId) -> list[LetterRow]:
        await reached(self._database)
        found = [each.letter for each in self._open(where) if each.run_id == run_id]
        return sorted(found, key=lambda letter: letter.seq)

    async def count(self, where: LetterFilter) -> tuple[int, int]:
        await reached(self._database)
        found = list(self._open(where))
        return len(found), len({each.run_id for each in found})

    async def count_open(self, most: int) -> int:
        await reached(self._database)
        return min(len(list(self._open(LetterFilter()))), most)

    async def purge(self, run_id: RunId, seqs: Sequence[int], now: int, requested_by: str) -> int:
        await reached(self._database)
        kept = self._database.dead_letters.get(run_id, {})
        due = [seq for seq in set(seqs) if seq in kept and kept[seq].state is LetterState.OPEN]
        for seq in due:
            kept[seq] = _closed(kept[seq], LetterState.PURGED, now, requested_by)
        return len(due)

    def _open(self, where: LetterFilter) -> Iterator[DeadLetter]:
        return (each for each in self._all(where) if each.state is LetterState.OPEN)

    def _all(self, where: LetterFilter) -> Iterator[DeadLetter]:
        """In any state."""
        every = (each for kept in self._database.dead_letters.values() for each in kept.values())
        return (each for each in every if _matches(each, where) and self._labelled(each, where))

    def _labelled(self, found: DeadLetter, where: LetterFilter) -> bool:
        if not where.labels:
            return True
        row = self._database.runs.get(found.run_id)
        return row is not None and set(where.labels) <= set(row.labels)


def _matches(found: DeadLetter, where: LetterFilter) -> bool:
    letter = found.letter
    wanted = (
        (where.pipeline, letter.pipeline),
        (where.run_id, found.run_id),
        (where.step, letter.step_name),
        (where.reason, letter.reason),
    )
    if any(want and want != has for want, has in wanted):
        return False
    if where.error_class and not _is_class(letter.error_class, where.error_class):
        return False
    since, before = where.since, where.before
    inside = (since is None or letter.at >= since) and (before is None or letter.at < before)
    return inside and (not where.budgets or letter.budget in where.budgets)


def _is_class(full: str, named: str) -> bool:
    """By its full name, or without its modules."""
    return full == named or full.endswith(f".{named}")


def _closed(found: DeadLetter, state: LetterState, now: int, by: str) -> DeadLetter:
    return dataclasses.replace(found, state=state, close_time=now, closed_by=by)


def project_letters(database: MemoryDatabase, record: Record) -> None:
    """What a stored record says of letters."""
    if not record.letters and not record.closings:
        return
    kept = database.dead_letters.setdefault(record.run_id, {})
    for letter in record.letters:
        kept[letter.seq] = DeadLetter(record.run_id, letter, LetterState.OPEN, None, "")
    for closing in record.closings:
        for seq, found in kept.items():
            if found.state is LetterState.OPEN and seq < closing.seq and _resets(closing, found.letter):
                kept[seq] = _closed(found, LetterState.REQUEUED, closing.at, closing.requested_by)


def _resets(closing: LetterClosing, letter: LetterRow) -> bool:
    if any(first <= letter.step < stop for first, stop in closing.steps):
        return True
    items = dict(closing.items).get(letter.step, ())
    return any(first <= letter.item < stop for first, stop in items)

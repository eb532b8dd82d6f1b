"""Port `DeadLetterStore`, and the part of a commit that letters are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from penstock_coordinator.adapters.postgres.batch import label_terms, packed_text, unpacked_text
from penstock_coordinator.adapters.postgres.queries import load
from penstock_coordinator.adapters.postgres.text import storable
from penstock_coordinator.ports import DeadLetter, LetterFilter, LetterPlace, LetterRow, LetterState, RunId

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import asyncpg

    from penstock_coordinator.adapters.postgres.connections import Connection, Database
    from penstock_coordinator.ports import LetterClosing, Record

_QUERIES = load("dead_letters")


class PostgresDeadLetterStore:
    def __init__(self, database: Database, reads: Database | None = None) -> None:
        """`reads`: the share of the pool that lists take."""
        self._database = database
        self._reads = reads or database

    async def list_letters(self, where: LetterFilter, limit: int, after: LetterPlace | None = None) -> list[DeadLetter]:
        if not _askable(where):
            return []
        arguments = (*_arguments(where), list(where.states), *(after or (None, None, None)), limit)
        return [_dead_letter(row) for row in await self._reads.fetch(_QUERIES["list"], *arguments)]

    async def get(self, run_id: RunId, seq: int) -> DeadLetter | None:
        row = await self._database.fetch_row(_QUERIES["get"], run_id, seq)
        return None if row is None else _dead_letter(row)

    async def runs(self, where: LetterFilter, limit: int, below: RunId) -> list[RunId]:
        if not _askable(where):
            return []
        rows = await self._database.fetch(_QUERIES["runs"], *_arguments(where), below, limit)
        return [row["run_id"] for row in rows]

    async def of_run(self, where: LetterFilter, run_id: RunId) -> list[LetterRow]:
        if not _askable(where) or where.run_id not in (None, run_id):
            return []
        pipeline, _, *others = _arguments(where)
        rows = await self._database.fetch(_QUERIES["of_run"], pipeline, run_id, *others)
        return [_letter(row) for row in rows]

    async def count(self, where: LetterFilter) -> tuple[int, int]:
        if not _askable(where):
            return 0, 0
        row = await self._reads.fetch_row(_QUERIES["count"], *_arguments(where))
        assert row is not None
        return row["letters"], row["runs"]

    async def count_open(self, most: int) -> int:
        count: int = await self._reads.fetch_value(_QUERIES["count_open"], most)
        return count

    async def purge(self, run_id: RunId, seqs: Sequence[int], now: int, requested_by: str) -> int:
        arguments = (run_id, list(seqs), now, packed_text(requested_by))
        count: int = await self._database.fetch_value(_QUERIES["purge"], *arguments)
        return count


def _askable(where: LetterFilter) -> bool:
    """What no text column can hold is of no letter."""
    return storable(where.pipeline, where.step, *label_terms(where.labels))


def _arguments(where: LetterFilter) -> tuple[Any, ...]:
    return (
        where.pipeline or None,
        where.run_id,
        where.step or None,
        packed_text(where.reason) if where.reason else None,
        list(where.budgets) or None,
        label_terms(where.labels) or None,
        where.since,
        where.before,
        packed_text(where.error_class) if where.error_class else None,
    )


def _dead_letter(row: asyncpg.Record) -> DeadLetter:
    return DeadLetter(
        run_id=row["run_id"],
        letter=_letter(row),
        state=LetterState(row["state"]),
        close_time=row["close_time"],
        closed_by=unpacked_text(row["closed_by"]),
    )


def _letter(row: asyncpg.Record) -> LetterRow:
    return LetterRow(
        seq=row["seq"],
        step=row["step"],
        item=row["item"],
        generation=row["generation"],
        budget=row["budget"],
        attempts=row["attempts"],
        at=row["at"],
        pipeline=row["pipeline"],
        step_name=row["step_name"],
        display_name=row["display_name"],
        reason=unpacked_text(row["reason"]),
        message=unpacked_text(row["message"]),
        error_class=unpacked_text(row["error_class"]),
    )


# --- with the commit


def has_letters(records: Iterable[Record]) -> bool:
    """Whether the records open or close any: nothing is asked for the others."""
    return any(record.letters or record.closings for record in records)


async def write_letters(connection: Connection, records: Iterable[Record]) -> None:
    """What stored records say of letters, in order: first all that they open, which their closings may close again."""
    records = list(records)
    rows = [_row(record.run_id, letter) for record in records for letter in record.letters]
    if rows:
        await connection.execute(_QUERIES["insert"], *(list(column) for column in zip(*rows, strict=True)))
    for record in records:
        for closing in record.closings:
            await connection.execute(_QUERIES["close"], record.run_id, *_closing(closing))


def _row(run_id: RunId, letter: LetterRow) -> list[Any]:
    return [
        *(run_id, letter.seq, letter.step, letter.item, letter.generation, letter.budget, letter.attempts, letter.at),
        *(letter.pipeline, letter.step_name, letter.display_name),
        *(packed_text(letter.reason), packed_text(letter.message), packed_text(letter.error_class)),
    ]


def _closing(closing: LetterClosing) -> list[Any]:
    items = [(step, first, stop) for step, ranges in closing.items for first, stop in ranges]
    return [
        *(closing.seq, closing.at, packed_text(closing.requested_by)),
        *([first for first, _ in closing.steps], [stop for _, stop in closing.steps]),
        *([step for step, _, _ in items], [first for _, first, _ in items], [stop for _, _, stop in items]),
    ]

"""Port `CacheStore`, and the part of a commit that values of the cache are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from penstock_coordinator.adapters.postgres.batch import array_text
from penstock_coordinator.adapters.postgres.queries import load
from penstock_coordinator.adapters.postgres.text import storable
from penstock_coordinator.ports import (
    CacheEntry,
    CacheEntryRow,
    CacheFilter,
    CacheQuestion,
    CacheReply,
    Found,
    HeldBy,
    Reserved,
    Reserver,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import asyncpg

    from penstock_coordinator.adapters.postgres.connections import Connection, Database
    from penstock_coordinator.ports import Record

_QUERIES = load("cache")
_KEY_BYTES = 32


class PostgresCacheStore:
    """The time of reservations is the database's: whoever shares it agrees on who has which."""

    def __init__(self, database: Database, reads: Database | None = None) -> None:
        """`database`: a share of the pool of its own. `reads`: the share that lists take."""
        self._database = database
        self._reads = reads or database

    async def ask(self, questions: Sequence[CacheQuestion], now: int, ttl: int) -> list[CacheReply | None]:
        replies: list[CacheReply | None] = [None] * len(questions)
        await self._find(questions, range(len(questions)), now, replies)
        left = _first_of_each_key(questions, [at for at, reply in enumerate(replies) if reply is None])
        if not left:
            return replies
        held = [(questions[at].key, questions[at].reserver) for at in left]
        gained = await self._reserve(held, ttl)
        mine = [at for at in left if questions[at].key in gained]
        # Whoever had the key before may have come to its value between the two statements.
        await self._find(questions, mine, now, replies)
        found = [at for at in mine if replies[at] is not None]
        if found:
            await self.release([(questions[at].key, questions[at].reserver) for at in found])
        for at in mine:
            replies[at] = replies[at] or Reserved()
        await self._name_holders(questions, replies)
        return replies

    async def _find(
        self, questions: Sequence[CacheQuestion], places: Iterable[int], now: int, replies: list[CacheReply | None]
    ) -> None:
        """Write what is there at the places of the questions."""
        asked = list(places)
        if not asked:
            return
        keys, since = [questions[at].key for at in asked], [questions[at].since for at in asked]
        for row in await self._database.fetch(_QUERIES["find"], keys, since, now):
            replies[asked[row["position"] - 1]] = Found(_entry(row))

    async def _reserve(self, held: Sequence[tuple[bytes, Reserver]], ttl: int) -> set[bytes]:
        return {row["key"] for row in await self._database.fetch(_QUERIES["reserve"], *_columns(held), ttl)}

    async def _name_holders(self, questions: Sequence[CacheQuestion], replies: list[CacheReply | None]) -> None:
        left = [at for at, reply in enumerate(replies) if reply is None]
        if not left:
            return
        rows = await self._database.fetch(_QUERIES["holders"], [questions[at].key for at in left])
        holders = {row["key"]: _reserver(row) for row in rows}
        for at in left:
            holder = holders.get(questions[at].key)
            if holder is not None:
                replies[at] = HeldBy(holder)

    async def renew(self, held: Sequence[tuple[bytes, Reserver]], ttl: int) -> list[bool]:
        if not held:
            return []
        gained = await self._reserve(list({key: (key, reserver) for key, reserver in held}.values()), ttl)
        return [key in gained for key, _ in held]

    async def release(self, held: Sequence[tuple[bytes, Reserver]]) -> None:
        if held:
            await self._database.fetch(_QUERIES["release"], *_columns(held)[:-1])

    async def list_entries(self, where: CacheFilter, limit: int, before: int | None = None) -> list[CacheEntry]:
        if not storable(where.pipeline, where.step_name):
            return []
        rows = await self._reads.fetch(_QUERIES["list"], *_arguments(where), before, limit)
        return [_entry(row) for row in rows]

    async def get(self, entry_id: int) -> CacheEntry | None:
        row = await self._reads.fetch_row(_QUERIES["get"], entry_id)
        return None if row is None else _entry(row)

    async def delete(self, where: CacheFilter, entry_id: int | None, limit: int) -> int:
        if not storable(where.pipeline, where.step_name):
            return 0
        count: int = await self._reads.fetch_value(_QUERIES["delete"], *_arguments(where), entry_id, limit)
        return count

    async def nth_newest(self, number: int) -> int | None:
        found: int | None = await self._reads.fetch_value(_QUERIES["nth_newest"], number - 1)
        return found


def _first_of_each_key(questions: Sequence[CacheQuestion], places: Iterable[int]) -> list[int]:
    first: dict[bytes, int] = {}
    for at in places:
        first.setdefault(questions[at].key, at)
    return list(first.values())


def _columns(held: Sequence[tuple[bytes, Reserver]]) -> list[list[Any]]:
    rows = [(key, r.run_id, r.step, r.item, r.token, r.display_name) for key, r in held]
    return [list(column) for column in zip(*rows, strict=True)]


def _arguments(where: CacheFilter) -> tuple[Any, ...]:
    first, stop = key_bounds(where)
    return where.pipeline or None, where.step_name or None, first, stop, where.run_id


def key_bounds(where: CacheFilter) -> tuple[bytes | None, bytes | None]:
    """The keys that begin so are those from the first bound on and below the second one, if there is one."""
    if not where.key_prefix and where.key_odd is None:
        return None, None
    digits = where.key_prefix.hex() + ("" if where.key_odd is None else f"{where.key_odd:x}")
    first = bytes.fromhex(digits.ljust(2 * _KEY_BYTES, "0"))
    after = int(digits, 16) + 1
    if after >= 16 ** len(digits):
        return first, None
    return first, bytes.fromhex(f"{after:0{len(digits)}x}".ljust(2 * _KEY_BYTES, "0"))


def _entry(row: asyncpg.Record) -> CacheEntry:
    return CacheEntry(
        entry_id=row["id"],
        run_id=row["run_id"],
        row=CacheEntryRow(
            key=row["key"],
            step=row["step"],
            item=row["item"],
            attempt=row["attempt"],
            at=row["create_time"],
            expire_time=row["expire_time"],
            pipeline=row["pipeline"],
            step_name=row["step_name"],
            display_name=row["display_name"],
            output=row["output"],
            artifacts=tuple(row["artifacts"]),
        ),
        size=row["size"],
    )


def _reserver(row: asyncpg.Record) -> Reserver:
    return Reserver(row["run_id"], row["step"], row["item"], row["token"], row["display_name"])


# --- with the commit


def has_values(records: Iterable[Record]) -> bool:
    """Whether the records fill the cache, or hold what was answered from it: nothing is asked for the others."""
    return any(record.entries or record.answered for record in records)


async def write_values(connection: Connection, records: Iterable[Record]) -> None:
    """What stored records say of the cache."""
    records = list(records)
    entries = [_entry_row(record, entry) for record in records for entry in record.entries]
    if entries:
        await connection.execute(_QUERIES["insert"], *(list(column) for column in zip(*entries, strict=True)))
    answered = [
        (
            *(r.run_id, s.step, s.item, s.generation, s.state, s.attempts),
            *(s.ready_time, s.start_time, s.end_time, s.agent, s.output, s.failure, s.source),
        )
        for r in records
        for s in r.answered
    ]
    if answered:
        await connection.execute(_QUERIES["insert_answered"], *(list(column) for column in zip(*answered, strict=True)))


def _entry_row(record: Record, entry: CacheEntryRow) -> tuple[Any, ...]:
    return (
        *(entry.key, record.run_id, entry.step, entry.item, entry.attempt, entry.at, entry.expire_time),
        *(entry.pipeline, entry.step_name, entry.display_name, array_text(entry.artifacts), entry.output),
    )

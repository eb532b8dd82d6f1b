"""Run keys: whose they are, while a batch that claims some is stored.

The rows are locked in one order before anything of the batch is stored, and until it is committed: of two starts with
one key in two lanes the second sees what became of the first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from penstock_coordinator.adapters.postgres.queries import load
from penstock_coordinator.adapters.postgres.requests import find
from penstock_coordinator.ports import AppendOutcome, Committed, KeyTaken, RunId, gives_free

if TYPE_CHECKING:
    from collections.abc import Sequence

    from penstock_coordinator.adapters.postgres.connections import Connection
    from penstock_coordinator.ports import KeyClaim, Record

_QUERIES = load("run_keys")
_Name = tuple[str, str]


class Claims:
    """The run keys that one batch claims, locked by its transaction."""

    def __init__(self, connection: Connection, holders: dict[_Name, tuple[RunId, int] | None]) -> None:
        self._connection = connection
        self._holders = holders
        """The run that has the key, and its state; None if none has."""
        self._before = dict(holders)

    @classmethod
    async def lock(cls, connection: Connection, records: Sequence[Record]) -> Claims:
        """To be called first in a transaction. What cannot be a text is nobody's key: the record is refused for it."""
        names = sorted({_name(record.claim) for record in records if record.claim is not None and _is_text(record)})
        if not names:
            return cls(connection, {})
        wanted = [pipeline for pipeline, _ in names], [run_key for _, run_key in names]
        held: dict[_Name, RunId] = {}
        while len(held) < len(names):
            # A row that was there for `occupy` may be gone for `lock`: then it is to be made again.
            await connection.execute(_QUERIES["occupy"], *wanted)
            held = {(row[0], row[1]): row[2] for row in await connection.fetch(_QUERIES["lock"], *wanted)}
        states = {row[0]: row[1] for row in await connection.fetch(_QUERIES["states"], list(held.values()))}
        found = {name: (run, states[run]) if run in states else None for name, run in held.items()}
        return cls(connection, found)

    async def refusal(self, record: Record) -> AppendOutcome | None:
        """None if nothing stands against the record."""
        claim = record.claim
        holder = None if claim is None else self._holders.get(_name(claim))
        if claim is None or holder is None or holder[0] == record.run_id or gives_free(holder[1], claim.reuse):
            return None
        repeated = None if record.request is None else await find(self._connection, record.request.key)
        return repeated or KeyTaken(*holder)

    def note(self, record: Record, outcome: AppendOutcome) -> None:
        """What became of the record."""
        if record.claim is not None and isinstance(outcome, Committed):
            state = record.new_run.state if record.new_run is not None else 1
            self._holders[_name(record.claim)] = (record.run_id, state)

    async def keep(self) -> None:
        """The rows are as the batch left them; of what nobody has none is left."""
        changed = [(name, holder) for name, holder in self._holders.items() if holder != self._before.get(name)]
        if changed:
            columns = [name[0] for name, _ in changed], [name[1] for name, _ in changed]
            await self._connection.execute(_QUERIES["keep"], *columns, [holder[0] for _, holder in changed if holder])
        idle = [name for name, holder in self._holders.items() if holder is None]
        if idle:
            await self._connection.execute(_QUERIES["free"], [name[0] for name in idle], [name[1] for name in idle])


def _name(claim: KeyClaim) -> _Name:
    return claim.pipeline, claim.run_key


def _is_text(record: Record) -> bool:
    claim = record.claim
    assert claim is not None
    return not any("\0" in text or any("\ud800" <= one <= "\udfff" for one in text) for text in _name(claim))

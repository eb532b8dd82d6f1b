"""Port `Journal`: group commits, fenced, each with its fate known when it returns.

Common case: one statement in one round trip. If the database refuses something of it, the same records go again in one
transaction with savepoints, in halves and halves of halves, until what is refused stands alone; what is left commits as
a whole. If the connection breaks, nobody knows whether the statement was committed; then, on a new connection, the
lane's fence row is locked, which waits for the former transaction if it still runs, and the journal is asked: a batch
is there as a whole or not at all. What if the former statement had not yet begun when we looked? Then it and its
repetition meet at the primary key, one of them stores, and the other finds the very same record there. And if a
take-over fences the repetition, it fences the former statement too, so the journal is asked once more, for good.

If the database ends a statement because it and another one waited for each other, nothing of the batch is stored, and
the connection is as good as before: the same is sent again at once. The other one has what it waited for by then.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import asyncpg
import structlog

from penstock_coordinator.adapters.postgres import batch as batches
from penstock_coordinator.adapters.postgres.alone import values_alone
from penstock_coordinator.adapters.postgres.artifact_index import has_artifacts, write_artifacts
from penstock_coordinator.adapters.postgres.budget_store import has_charges, write_charges
from penstock_coordinator.adapters.postgres.cache_store import has_values, write_values
from penstock_coordinator.adapters.postgres.connections import answering_within, close, connect_lane, in_words, is_away
from penstock_coordinator.adapters.postgres.dead_letter_store import has_letters, write_letters
from penstock_coordinator.adapters.postgres.queries import load
from penstock_coordinator.adapters.postgres.requests import repetition
from penstock_coordinator.adapters.postgres.run_keys import Claims
from penstock_coordinator.core.counts.commits import CommitCounts
from penstock_coordinator.ports import (
    AppendOutcome,
    Committed,
    Fenced,
    NotNewest,
    OutOfSequence,
    Record,
    Removed,
    RunId,
    StoredRecord,
    Unstorable,
)

if TYPE_CHECKING:
    from asyncpg.prepared_stmt import PreparedStatement

    from penstock_coordinator.adapters.postgres.connections import Connection, Database

_T = TypeVar("_T")
_log = structlog.get_logger(__name__)
_QUERIES = load("journal")
_SIZES = (
    *("commit_step_alone", "commit_start_alone"),
    *("commit_events", "commit_steps", "commit_ends", "commit_starts", "commit_all"),
)
_GAVE_WAY = asyncpg.DeadlockDetectedError, asyncpg.SerializationError
"""The transaction was rolled back for the sake of another one."""
_WITH_REQUESTS = frozenset({"commit_start_alone", "commit_starts", "commit_all"})
_FIRST_DELAY = 0.05
_LONGEST_DELAY = 2.0
_COMMITTED = Committed()
_OUT_OF_SEQUENCE = OutOfSequence()
_NOT_NEWEST = NotNewest()


class PostgresJournal:
    """`epoch` is that of the coordinator's incarnation; 0 until it has one, and nothing can be committed.

    `on_availability` hears False when the database is away and commits wait for it, True when it is back.
    """

    def __init__(
        self,
        dsn: str,
        database: Database,
        coordinator_id: str,
        lanes: int,
        answer_timeout: float,
        on_availability: Callable[[bool], None] | None = None,
        reads: Database | None = None,
        counts: CommitCounts | None = None,
    ) -> None:
        self.epoch = 0
        self._counts = counts or CommitCounts()
        self._database = database
        self._reads = reads or database
        self._on_availability = on_availability
        self._away: set[int] = set()
        self.trouble = ""
        """In words, why the last commit that waits has to; empty while none does."""
        self._lanes = [_Lane(dsn, coordinator_id, number, answer_timeout, self._note_lane) for number in range(lanes)]

    @property
    def available(self) -> bool:
        """False while a commit waits for the database."""
        return not self._away

    async def commit(self, lane: int, records: Sequence[Record]) -> list[AppendOutcome]:
        if not self.epoch:
            raise Fenced("this coordinator has no incarnation yet")
        return await self._lanes[lane].commit(records, self.epoch) if records else []

    async def read(self, run_id: RunId, from_seq: int = 1, limit: int = 1000) -> list[StoredRecord]:
        rows = await self._reads.fetch(_QUERIES["read"], run_id, from_seq, limit)
        return [StoredRecord(row["first_seq"], row["last_seq"], row["payload"], row["at"]) for row in rows]

    async def read_many(
        self, run_ids: Sequence[RunId], after: tuple[RunId, int] | None = None, limit: int = 1000
    ) -> list[tuple[RunId, StoredRecord]]:
        run_id, first_seq = after or (None, None)
        rows = await self._database.fetch(_QUERIES["read_many"], list(run_ids), run_id, first_seq, limit)
        return [(run_id, StoredRecord(*record)) for run_id, *record in rows]

    async def read_since(
        self, known: Sequence[tuple[RunId, int]], limit: int = 1000
    ) -> list[tuple[RunId, StoredRecord]]:
        runs, numbers = [run_id for run_id, _ in known], [number for _, number in known]
        rows = await self._database.fetch(_QUERIES["read_since"], runs, numbers, limit)
        return [(run_id, StoredRecord(*record)) for run_id, *record in rows]

    def try_now(self) -> None:
        """The database was seen to answer after a silence. What was sent during it may have been lost: its lane asks on
        another connection what became of it."""
        for lane in self._lanes:
            lane.try_now()

    async def aclose(self) -> None:
        """Not to be called while a commit is under way."""
        for lane in self._lanes:
            await lane.aclose()

    def _note_lane(self, lane: int, trouble: str) -> None:
        """`trouble`: why its commit waits, or empty: it is done."""
        available = not trouble
        if not available:
            self._counts.failures += 1
            self.trouble = trouble
        if available and not self._away:
            return
        before = self.available
        self._away = self._away - {lane} if available else self._away | {lane}
        if not self._away:
            self.trouble = ""
        if self.available is not before and self._on_availability is not None:
            self._on_availability(self.available)


class _Refused(Exception):
    """The database refuses the statement for what is in it."""


class _NothingStored(Exception):
    """The whole transaction was rolled back; its cause says why."""


class _Lane:
    """One connection, and the batches of one lane on it, one at a time."""

    def __init__(
        self, dsn: str, coordinator_id: str, number: int, answer_timeout: float, note: Callable[[int, str], None]
    ) -> None:
        self._answer_timeout = answer_timeout
        self._dsn = dsn
        self._coordinator_id = coordinator_id
        self._number = number
        self._note = note
        self._connection: Connection | None = None
        self._statements: dict[str, PreparedStatement[asyncpg.Record]] = {}
        self._busy = False
        self._connecting: asyncio.Task[Connection] | None = None
        self._nudged = asyncio.Event()

    async def aclose(self) -> None:
        if self._connection is not None:
            await close(self._connection)
            self._connection = None

    def try_now(self) -> None:
        """Whatever it waits for is given up, and the next try comes at once."""
        if not self._busy:
            return
        self._nudged.set()
        if self._connecting is not None:
            self._connecting.cancel()
        elif self._connection is not None:
            self._connection.terminate()

    async def commit(self, records: Sequence[Record], epoch: int) -> list[AppendOutcome]:
        if self._busy:
            raise RuntimeError("two commits of one lane overlap")
        self._busy = True
        try:
            return await self._commit(records, epoch)
        finally:
            self._busy = False

    async def _commit(self, records: Sequence[Record], epoch: int) -> list[AppendOutcome]:
        sent = False
        last: type[Exception] | None = None
        for longest in _delays():
            try:
                connection = await self._connected()
                writer = _Writer(connection, self._statements, (self._coordinator_id, self._number, epoch))
                sent, settles = True, sent  # from here on the database may have it
                outcomes = await self._settled(connection, writer, records, settles)
            except Exception as error:
                if not is_away(error):
                    raise
                self._note(self._number, in_words(error))
                if last is not type(error):
                    last = type(error)
                    _log.warning("lane_waits", lane=self._number, reason=in_words(error))
                await self._pause(longest)
            else:
                self._note(self._number, "")
                if last is not None:
                    _log.warning("lane_commits_again", lane=self._number)
                return outcomes
        raise AssertionError("there is always another delay")

    async def _settled(
        self, connection: Connection, writer: _Writer, records: Sequence[Record], settles: bool
    ) -> list[AppendOutcome]:
        """`settles`: the database may have the records."""
        while True:
            doing = writer.settle(records) if settles else writer.write(records)
            try:
                return await self._watched(connection, doing)
            except _NothingStored as error:
                _log.warning("commit_sent_again", lane=self._number, reason=in_words(error.__cause__ or error))

    async def _pause(self, longest: float) -> None:
        """Before the next try. Returns at once if the database was seen since the last one."""
        spread = random.uniform(_FIRST_DELAY, longest)  # noqa: S311  # spreads attempts, guards nothing
        # Not `wait_for`: a commit begins in the task of whoever hurried, and from Python 3.12 on that one would be
        # cancelled when the time is over.
        timer = asyncio.get_running_loop().call_later(spread, self._nudged.set)
        try:
            await self._nudged.wait()
        finally:
            timer.cancel()
        self._nudged.clear()

    async def _connected(self) -> Connection:
        """The lane's connection, a new one if the last was lost."""
        connection = self._connection
        if connection is not None and not connection.is_closed():
            return connection
        self._connecting = asyncio.create_task(self._connect())
        try:
            await asyncio.wait({self._connecting})
            if self._connecting.cancelled():
                raise ConnectionAbortedError("the database is there again: the next connection will come about sooner")
            return self._connecting.result()
        finally:
            self._connecting.cancel()
            self._connecting = None

    async def _watched(self, connection: Connection, doing: Awaitable[_T]) -> _T:
        """What is done on the connection, which is cut if it does not answer. Raises `_NothingStored`."""
        try:
            with answering_within(self._answer_timeout, connection):
                return await doing
        except Fenced:
            raise
        except BaseException as error:
            if isinstance(error, _GAVE_WAY):
                raise _NothingStored from error
            # Also if we are cancelled: what is under way on it is nobody's any more.
            connection.terminate()
            self._connection = None
            raise

    async def _connect(self) -> Connection:
        connection = await connect_lane(self._dsn, f"penstock {self._coordinator_id} lane {self._number}")
        try:
            with answering_within(self._answer_timeout, connection):
                self._statements = {size: await connection.prepare(_QUERIES[size]) for size in _SIZES}
        except BaseException:
            connection.terminate()
            raise
        self._connection = connection
        return connection


class _Writer:
    """One batch on one connection. What it raises but `Fenced` says nothing of the batch's fate."""

    def __init__(
        self,
        connection: Connection,
        statements: dict[str, PreparedStatement[asyncpg.Record]],
        fence: tuple[str, int, int],
    ) -> None:
        self._connection = connection
        self._statements = statements
        self._fence = fence

    async def write(self, records: Sequence[Record]) -> list[AppendOutcome]:
        """Store them for the first time."""
        plain = batches.is_plain(records)
        if self._is_simple(records, plain):
            with contextlib.suppress(_Refused):
                return await (self._store(records) if plain else self._write_together(records))
        return await self._write_with_care(records)

    @staticmethod
    def _is_simple(records: Sequence[Record], plain: bool) -> bool:
        """One statement tells what was stored, and no run keys or new generations are to be looked at before."""
        if plain and len(records) == 1:
            return True
        return batches.is_one_part(records) and (plain or not any(each.claim or each.reopens for each in records))

    async def _write_together(self, records: Sequence[Record]) -> list[AppendOutcome]:
        """In one statement; of a batch that brings more than most do in one transaction."""
        if not (has_letters(records) or has_values(records) or has_artifacts(records) or has_charges(records)):
            return await self._store(records)
        async with self._connection.transaction():
            return await self._store_with_more(records)

    async def _store_with_more(self, records: Sequence[Record]) -> list[AppendOutcome]:
        """Inside a transaction. Raises `_Refused`, and `Fenced`."""
        outcomes = await self._store(records)
        letters, values, artifacts = has_letters(records), has_values(records), has_artifacts(records)
        charges = has_charges(records)
        if letters or values or artifacts or charges:
            stored = [r for r, outcome in zip(records, outcomes, strict=True) if outcome == _COMMITTED]
            try:
                if letters:
                    await write_letters(self._connection, stored)
                if values:
                    await write_values(self._connection, stored)
                if artifacts:
                    await write_artifacts(self._connection, stored)
                if charges:
                    await write_charges(self._connection, stored)
            except Exception as error:
                if is_away(error):
                    raise
                raise _Refused from error
        return outcomes

    async def settle(self, records: Sequence[Record]) -> list[AppendOutcome]:
        """Find out what became of them, and store them if they are not."""
        await self._await_former()
        stored = await self._stored(records)
        return await (self._settle_rest(records, stored) if stored else self._repeat(records))

    async def _repeat(self, records: Sequence[Record]) -> list[AppendOutcome]:
        """What was not there a moment ago may be there now: what is not stored for any reason is looked for again."""
        try:
            outcomes = await self.write(records)
        except Fenced:
            if stored := await self._stored(records):
                return await self._settle_rest(records, stored)
            raise
        stored = set() if all(outcome == _COMMITTED for outcome in outcomes) else await self._stored(records)
        return [_COMMITTED if i in stored else outcome for i, outcome in enumerate(outcomes)]

    async def _settle_rest(self, records: Sequence[Record], stored: set[int]) -> list[AppendOutcome]:
        """The batch was committed, but for what is not there: that was refused, and is again."""
        rest = [i for i in range(len(records)) if i not in stored]
        outcomes: list[AppendOutcome] = [_COMMITTED] * len(records)
        if rest:
            try:
                refused = await self._write_with_care([records[i] for i in rest])
            except Fenced:
                refused = [_OUT_OF_SEQUENCE] * len(rest)
            for i, outcome in zip(rest, refused, strict=True):
                outcomes[i] = outcome
        return outcomes

    async def _await_former(self) -> None:
        async with self._connection.transaction():
            await self._connection.fetch(_QUERIES["await_former"], *self._fence[:2])

    async def _stored(self, records: Sequence[Record]) -> set[int]:
        """The positions of the records that the journal holds, as they are."""
        asked = ([r.run_id for r in records], [r.first_seq for r in records])
        found = {
            (row["run_id"], row["first_seq"]): (row["last_seq"], row["payload"])
            for row in await self._connection.fetch(_QUERIES["stored_of"], *asked)
        }
        return {i for i, r in enumerate(records) if found.get((r.run_id, r.first_seq)) == (r.last_seq, r.payload)}

    async def _write_with_care(self, records: Sequence[Record]) -> list[AppendOutcome]:
        """In several statements and one transaction."""
        careful = _CarefulWrite(self._connection, self._store_with_more, records)
        async with self._connection.transaction():
            if not await self._connection.fetch(_QUERIES["hold_fence"], *self._fence):
                raise Fenced(f"epoch {self._fence[2]} of {self._fence[0]} is over")
            claims = await Claims.lock(self._connection, records)
            await careful.hold_runs()
            for part in batches.parts(records):
                await careful.store(await careful.refuse(part, claims))
                for position in part:
                    claims.note(records[position], careful.outcomes[position])
            await claims.keep()
        return careful.outcomes

    async def _store(self, records: Sequence[Record]) -> list[AppendOutcome]:
        """All in one statement. Raises `_Refused`, and `Fenced`."""
        try:
            size, columns = _arguments(records)
            rows = await self._statements[size].fetch(*self._fence, *columns)
        except Exception as error:
            if is_away(error):
                raise
            raise _Refused from error
        if not rows[0][0]:
            raise Fenced(f"epoch {self._fence[2]} of {self._fence[0]} is over")
        if size not in _WITH_REQUESTS or len(rows[0][1]) == sum(record.request is not None for record in records):
            return [_COMMITTED] * len(records)
        return await self._outcomes(records, set(rows[0][1]))

    async def _outcomes(self, records: Sequence[Record], accepted: set[bytes]) -> list[AppendOutcome]:
        gates = batches.gates(records)
        refused = {gate for gate in gates if gate != batches.NO_GATE} - accepted
        if not refused:
            return [_COMMITTED] * len(records)
        found = {row["key"]: row for row in await self._connection.fetch(_QUERIES["requests_of"], list(refused))}
        return [
            _refused_request(r, found.get(gate)) if gate in refused else _COMMITTED
            for r, gate in zip(records, gates, strict=True)
        ]


def _refused_request(record: Record, repeated: asyncpg.Record | None) -> AppendOutcome:
    if record.request is None:
        return _OUT_OF_SEQUENCE
    return _NOT_NEWEST if repeated is None else repetition(record.request.key, repeated)


def _arguments(records: Sequence[Record]) -> tuple[str, list[Any]]:
    """The smallest statement that holds the batch, and its arguments after those of the fence."""
    if len(records) == 1 and (alone := values_alone(records[0])) is not None:
        return alone
    events = batches.event_columns(records)
    starts, changes, steps = batches.holds(records)
    if starts and (changes or steps):
        return "commit_all", [*events, *_all_columns(records)]
    if starts:
        return "commit_starts", [*events, *_start_columns(records)]
    if changes:
        return "commit_ends", [*events, *_step_columns(records), *_change_columns(records)]
    return ("commit_steps", [*events, *_step_columns(records)]) if steps else ("commit_events", events)


def _step_columns(records: Sequence[Record]) -> batches.Columns:
    no_gates = [batches.NO_GATE] * len(records)
    steps, _ = batches.step_columns(records, no_gates)
    attempts, _ = batches.attempt_columns(records, no_gates)
    return [*steps, *attempts]


def _change_columns(records: Sequence[Record]) -> batches.Columns:
    _, changes = batches.run_columns(records, [batches.NO_GATE] * len(records))
    return changes[:-1]


def _start_columns(records: Sequence[Record]) -> batches.Columns:
    gates = batches.gates(records)
    new_runs, _ = batches.run_columns(records, gates)
    return [gates, *batches.request_columns(records), *new_runs]


def _all_columns(records: Sequence[Record]) -> batches.Columns:
    gates = batches.gates(records)
    steps, step_gates = batches.step_columns(records, gates)
    attempts, attempt_gates = batches.attempt_columns(records, gates)
    new_runs, changes = batches.run_columns(records, gates)
    requests = batches.request_columns(records)
    return [*steps, *attempts, gates, step_gates, attempt_gates, *requests, *new_runs, *changes]


class _CarefulWrite:
    """Finds the records of a batch that are refused, by halving; inside one transaction."""

    def __init__(
        self,
        connection: Connection,
        store: Callable[[Sequence[Record]], Awaitable[list[AppendOutcome]]],
        records: Sequence[Record],
    ) -> None:
        self._connection = connection
        self._store = store
        self._records = records
        self._broken: set[RunId] = set()
        self._removed: set[RunId] = set()
        self.outcomes: list[AppendOutcome] = [_OUT_OF_SEQUENCE] * len(records)

    async def hold_runs(self) -> None:
        """Runs that are opened again stay until the commit, if they are there. To be called once, after run keys are
        locked."""
        reopened = {record.run_id for record in self._records if record.reopens}
        if reopened:
            begun = {record.run_id for record in self._records if record.new_run is not None}
            held = await self._connection.fetch(_QUERIES["hold_runs"], sorted(reopened))
            self._removed = reopened - begun - {row["run_id"] for row in held}

    async def refuse(self, positions: list[int], claims: Claims) -> list[int]:
        """Those of the positions that no run key stands against; the outcomes of the others are noted."""
        rest: list[int] = []
        for position in positions:
            refusal = await claims.refusal(self._records[position])
            if refusal is None and self._records[position].run_id in self._removed:
                refusal = Removed()
            if refusal is None:
                rest.append(position)
            elif self._records[position].run_id not in self._broken:
                self._note(position, refusal)
        return rest

    async def store(self, positions: list[int]) -> None:
        """What of it can be stored, in order; the outcomes are noted."""
        positions = [i for i in positions if self._records[i].run_id not in self._broken]
        if not positions:
            return
        refusal = await self._try([self._records[i] for i in positions], positions)
        if refusal is None:
            return
        if len(positions) == 1:
            self._note(positions[0], _refusal(refusal))
            return
        middle = len(positions) // 2
        await self.store(positions[:middle])
        await self.store(positions[middle:])

    async def _try(self, records: list[Record], positions: list[int]) -> BaseException | None:
        try:
            async with self._connection.transaction():
                outcomes = await self._store(records)
        except _Refused as refused:
            return refused.__cause__
        for position, outcome in zip(positions, outcomes, strict=True):
            self._note(position, outcome)
        return None

    def _note(self, position: int, outcome: AppendOutcome) -> None:
        self.outcomes[position] = outcome
        if outcome != _COMMITTED:
            self._broken.add(self._records[position].run_id)


def _refusal(error: BaseException | None) -> AppendOutcome:
    """Why one record alone is refused."""
    if isinstance(error, asyncpg.UniqueViolationError) and (error.table_name or "").startswith("run_events"):
        return _OUT_OF_SEQUENCE
    # What the error says may repeat user data: the kind of error has to do.
    return Unstorable(type(error).__name__)


def _delays() -> Iterator[float]:
    """Seconds at most between attempts: growing, for ever."""
    longest = _FIRST_DELAY
    while True:
        yield longest
        longest = min(_LONGEST_DELAY, longest * 2)

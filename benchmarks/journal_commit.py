"""What a commit of the journal costs, against the cheapest that the same server can do.

The bare loop sends two inserts from `unnest` in one prepared statement: no fence, no partitions, no requests. The
journal's commits are measured with the batches that the runtime makes: events alone, a step that ended (event, step run
and attempt), and starts of runs with a request. Prints a JSON line per measurement:

    python benchmarks/journal_commit.py [--seconds 3] [--dsn postgresql://...]

Without `--dsn` it starts a server of its own, with fsync, in a temporary folder.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

import asyncpg
import uuid_utils

from penstock.dev.postgres import EmbeddedPostgres
from penstock_coordinator.adapters.postgres import migrate, open_stores
from penstock_coordinator.ports import (
    AttemptRow,
    Journal,
    NewRun,
    Record,
    RequestKey,
    RequestRow,
    RunId,
    StepRunRow,
)

_PAYLOAD = bytes(150)
_OUTPUT = b'{"rows": 12345, "path": "part-0001"}'
_BARE_TABLES = """
    drop table if exists bare_steps, bare_events;
    create table bare_steps (run uuid, step int, attempt int, output bytea, primary key (run, step, attempt));
    create table bare_events (run uuid, seq int8, payload bytea, at int8, primary key (run, seq));
"""
_BARE_STATEMENT = """
    with s as (
        insert into bare_steps select r, n, 1, o from unnest($1::uuid[], $2::int4[], $3::bytea[]) as t (r, n, o)
    )
    insert into bare_events select r, n, p, 0 from unnest($1::uuid[], $2::int4[], $4::bytea[]) as t (r, n, p)
"""

Commit = Callable[[], Awaitable[object]]
Make = Callable[[int, int], Commit]
"""The commit of that many records, of which the first has that number; made beforehand, for only the commit counts."""


def _new_run_id() -> RunId:
    return uuid_utils.uuid7().bytes


async def _bare(dsn: str) -> tuple[asyncpg.Connection[asyncpg.Record], Make]:
    connection = await asyncpg.connect(dsn)
    await connection.execute(_BARE_TABLES)
    await connection.set_type_codec("uuid", schema="pg_catalog", encoder=bytes, decoder=bytes, format="binary")
    statement = await connection.prepare(_BARE_STATEMENT)
    runs = [_new_run_id() for _ in range(500)]

    def make(number: int, size: int) -> Commit:
        columns = (runs[:size], [number] * size, [_OUTPUT] * size, [_PAYLOAD] * size)
        return lambda: statement.fetch(*columns)

    return connection, make


def _records(journal: Journal, make_record: Callable[[RunId, int], Record]) -> Make:
    runs = [_new_run_id() for _ in range(500)]

    def make(number: int, size: int) -> Commit:
        records = [make_record(run, number) for run in runs[:size]]
        return lambda: journal.commit(0, records)

    return make


def _event_record(run: RunId, number: int) -> Record:
    return Record(run, number, number, _PAYLOAD, number)


def _step_record(run: RunId, number: int) -> Record:
    step = StepRunRow(number, -1, 1, 5, 1, _OUTPUT, None, "agent-1", number, number, number)
    attempt = AttemptRow(number, -1, 1, number, 1, "agent-1", number, number, b"")
    return Record(run, number, number, _PAYLOAD, number, step_runs=(step,), attempts=(attempt,))


def _start_record(_run: RunId, _number: int) -> Record:
    run = _new_run_id()
    new = NewRun("pipeline", 1, "digest", b"{}", (("team", "a"),), (), 0, "bench", 2)
    request = RequestRow(RequestKey("", "StartRun", run.hex(), b"digest"), run)
    return Record(run, 1, 3, _PAYLOAD, 0, new_run=new, request=request)


async def _measure(make: Make, size: int, seconds: float, first: int) -> tuple[float, int]:
    """Commits per second of committing, and the number that comes next."""
    number, spent = first, 0.0
    while spent < seconds:
        commit = make(number, size)
        start = time.perf_counter()
        await commit()
        spent += time.perf_counter() - start
        number += 1
    return (number - first) / spent, number


async def _compare(kinds: dict[str, Make], seconds: float) -> None:
    """In turns, so that a slow minute of the machine is a slow minute of all."""
    numbers = dict.fromkeys(kinds, 1)
    for size in (1, 50, 500):
        rates = dict.fromkeys(kinds, 0.0)
        for _ in range(3):
            for kind, make in kinds.items():
                rate, numbers[kind] = await _measure(make, size, seconds / 3, numbers[kind])
                rates[kind] = max(rates[kind], rate)
        for kind, rate in rates.items():
            print(json.dumps(_line(kind, size, rate, rates["bare"])), flush=True)


def _line(kind: str, size: int, rate: float, bare: float) -> dict[str, object]:
    return {
        "measure": "journal_commit",
        "batch": kind,
        "records_per_batch": size,
        "commits_per_second": round(rate),
        "records_per_second": round(rate * size),
        "milliseconds_per_commit": round(1000 / rate, 3),
        "of_bare": round(rate / bare, 3),
    }


@contextlib.asynccontextmanager
async def _journal(dsn: str) -> AsyncIterator[Journal]:
    await migrate(dsn)
    stores = await open_stores(dsn, coordinator_id="bench", lanes=1)
    await stores.incarnations.incarnate("bench", 1)
    try:
        yield stores.journal
    finally:
        await stores.aclose()


async def _bench(dsn: str, seconds: float) -> None:
    connection, bare = await _bare(dsn)
    async with _journal(dsn) as journal:
        kinds = {"events": _event_record, "steps": _step_record, "starts": _start_record}
        makers = {kind: _records(journal, make_record) for kind, make_record in kinds.items()}
        await _compare({"bare": bare, **makers}, seconds)
    await connection.close()


@contextlib.contextmanager
def _server(dsn: str | None) -> Iterator[str]:
    if dsn:
        yield dsn
        return
    with tempfile.TemporaryDirectory() as folder, EmbeddedPostgres(f"{folder}/data") as server:
        yield server.dsn


def main() -> None:
    parser = argparse.ArgumentParser(description="What a commit of the journal costs.")
    parser.add_argument("--seconds", type=float, default=3.0, help="per measurement")
    parser.add_argument("--dsn", help="a database that may be written to; without it a server of its own")
    options = parser.parse_args()
    with _server(options.dsn) as dsn:
        asyncio.run(_bench(dsn, options.seconds))


if __name__ == "__main__":
    main()

"""What PostgreSQL, the way to it, and a newer incarnation can do to a commit."""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import msgspec
import pytest
from tests.clusters import prepared
from tests.contract.impatience import impatient
from tests.contract.records import attempt, new_run, new_run_id, record, request, start, step_run
from tests.tcp_proxy import TcpProxy
from tests.waiting import until

from penstock.dev.postgres import EmbeddedPostgres, StopMode
from penstock_coordinator.adapters.postgres import PostgresStores, SchemaOutdated, migrate, open_stores
from penstock_coordinator.adapters.postgres.requests import packed
from penstock_coordinator.ports import (
    AppendOutcome,
    Committed,
    DatabaseFull,
    Fenced,
    KeyClaim,
    KeyTaken,
    Origin,
    OutOfSequence,
    Record,
    Repeated,
    RunFilter,
    RunId,
    Unavailable,
    Unstorable,
)

MARK = b"a payload like no other"
LOCK_WAITS = """
    select pid from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'
        and application_name like $1
"""

LOSSES = "40P01", "40001"
GIVING_WAY = f"""
    create sequence ways;
    create function give_way() returns trigger language plpgsql as $$
    declare turn bigint := nextval('ways');
    begin
        if turn <= {len(LOSSES)} then
            raise exception 'for the test' using errcode = (array[{", ".join(map(repr, LOSSES))}])[turn];
        end if;
        return new;
    end $$;
    create trigger giving_way before insert on run_events for each row execute function give_way();
"""
"""As if it had lost to another transaction, once in each way."""


@contextlib.asynccontextmanager
async def _speaking(dsn: str, **options: Any) -> AsyncIterator[PostgresStores]:
    stores = await open_stores(dsn, coordinator_id="c1", lanes=2, pool_size=2, **options)
    await stores.incarnations.incarnate("c1", 2)
    try:
        yield stores
    finally:
        await stores.aclose()


@contextlib.asynccontextmanager
async def _direct(dsn: str) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
    connection = await asyncpg.connect(dsn)
    try:
        yield connection
    finally:
        await connection.close()


@contextlib.asynccontextmanager
async def _behind_proxy(dsn: str, **options: Any) -> AsyncIterator[tuple[PostgresStores, TcpProxy]]:
    parts = urlsplit(dsn)
    assert parts.hostname is not None
    assert parts.port is not None
    async with TcpProxy(parts.hostname, parts.port) as proxy:
        netloc = f"{parts.username}:{parts.password}@127.0.0.1:{proxy.port}"
        async with _speaking(urlunsplit(parts._replace(netloc=netloc)), **options) as stores:
            yield stores, proxy


async def _payloads(stores: PostgresStores, run: RunId) -> list[bytes]:
    return [r.payload for r in await stores.journal.read(run)]


async def _lane_waits(direct: asyncpg.Connection[asyncpg.Record]) -> int:
    pid: int = await until(lambda: direct.fetchval(LOCK_WAITS, "penstock c1 lane%"))
    return pid


# --- take-over ---


BATCHES: dict[str, Callable[[RunId], Record]] = {
    "events": lambda run: record(run, 1),
    "steps": lambda run: msgspec.structs.replace(record(run, 1), step_runs=(step_run(1),), attempts=(attempt(1),)),
    "everything": lambda run: start(run, request=request()),
}
"""One for each size of the statement."""


@pytest.mark.parametrize("kind", BATCHES)
async def test_a_take_over_between_a_statements_start_and_its_end_fences_it(database_url: str, kind: str) -> None:
    """The statement has begun, and its snapshot still shows its own epoch, when the take-over commits."""
    async with _speaking(database_url) as former, _direct(database_url) as direct:
        run = new_run_id()
        take_over = direct.transaction()
        await take_over.start()
        await direct.execute("select from fences where coordinator_id = 'c1' for update")
        committing = asyncio.create_task(former.journal.commit(0, [BATCHES[kind](run)]))
        async with _direct(database_url) as watcher:
            await _lane_waits(watcher)
        await direct.execute("update fences set epoch = epoch + 1 where coordinator_id = 'c1'")
        await take_over.commit()

        with pytest.raises(Fenced):
            await committing
        assert await former.journal.read(run) == []
        assert await former.runs.get(run) is None
        assert await former.runs.find_request("", "StartRun", "r1") is None


@pytest.mark.parametrize("kind", BATCHES)
async def test_a_take_over_waits_for_the_commit_that_is_under_way(database_url: str, kind: str) -> None:
    """The statement has read its fence row and waits for another writer of the same number."""
    async with _speaking(database_url) as former, _speaking(database_url) as other, _direct(database_url) as direct:
        await former.incarnations.incarnate("c1", 2)
        run = new_run_id()
        in_the_way = direct.transaction()
        await in_the_way.start()
        await direct.execute(
            "insert into run_events (run_id, first_seq, last_seq, at, payload) values ($1, 1, 1, 1, '')",
            uuid.UUID(bytes=run),
        )
        committing = asyncio.create_task(former.journal.commit(0, [BATCHES[kind](run)]))
        async with _direct(database_url) as watcher:
            await _lane_waits(watcher)
            taking_over = asyncio.create_task(other.incarnations.incarnate("c1", 2))
            await until(lambda: watcher.fetchval(LOCK_WAITS, "penstock c1"))
        assert not committing.done()
        await in_the_way.rollback()

        assert await committing == [Committed()]
        await taking_over
        with pytest.raises(Fenced):
            await former.journal.commit(0, [record(run, 9)])
        assert await other.journal.commit(0, [record(new_run_id(), 1)]) == [Committed()]


async def test_two_that_take_over_at_once_get_different_epochs_and_the_greater_speaks(database_url: str) -> None:
    async with _speaking(database_url) as first, _speaking(database_url) as second:
        epochs = await asyncio.gather(
            *(stores.incarnations.incarnate("fresh", 3) for stores in (first, second, first, second))
        )

        assert len(set(epochs)) == 4
        async with _direct(database_url) as direct:
            rows = await direct.fetch("select epoch from fences where coordinator_id = 'fresh'")
        assert [row["epoch"] for row in rows] == [max(epochs)] * 3


# --- the fate of a commit is not known ---


async def test_a_commit_whose_answer_is_lost_is_found(database_url: str) -> None:
    async with _behind_proxy(database_url) as (stores, proxy), _direct(database_url) as direct:
        run = new_run_id()
        await stores.journal.commit(0, [record(new_run_id(), 1)])  # the lane is connected
        proxy.swallow_answers()
        batch = [start(run, request=request(answer=b"mine")), record(run, 3)]
        committing = asyncio.create_task(stores.journal.commit(0, batch))
        await proxy.lost.wait()
        await until(lambda: direct.fetchval("select true from runs"))
        proxy.heal()

        assert await committing == [Committed(), Committed()]
        assert len(await stores.journal.read(run)) == 2
        assert stores.available


async def test_a_commit_that_never_arrived_is_sent_again(database_url: str) -> None:
    async with _behind_proxy(database_url) as (stores, proxy):
        run = new_run_id()
        await stores.journal.commit(0, [record(new_run_id(), 1)])
        proxy.swallow_requests()
        committing = asyncio.create_task(stores.journal.commit(0, [start(run, request=request()), record(run, 3)]))
        await proxy.lost.wait()
        proxy.heal()

        assert await committing == [Committed(), Committed()]
        assert len(await stores.journal.read(run)) == 2


async def test_a_lost_answer_to_a_batch_with_refusals_tells_of_each_record(database_url: str) -> None:
    async with _behind_proxy(database_url) as (stores, proxy), _direct(database_url) as direct:
        taken, fine, unstorable = (new_run_id() for _ in range(3))
        await stores.journal.commit(0, [start(taken, request=request("r0", answer=b"first"))])
        batch = [
            record(fine, 1),
            record(taken, 1, payload=b"other"),
            msgspec.structs.replace(record(unstorable, 1), last_seq=1 << 63),
            start(new_run_id(), request=request("r0", answer=b"second")),
            record(fine, 2),
        ]
        proxy.swallow_answers(since=b"COMMIT")
        committing = asyncio.create_task(stores.journal.commit(0, batch))
        await proxy.lost.wait()
        await until(lambda: direct.fetchval("select count(*) = 3 from run_events"))
        proxy.heal()

        assert [type(outcome) for outcome in await committing] == [
            Committed,
            OutOfSequence,
            Unstorable,
            Repeated,
            Committed,
        ]
        assert await direct.fetchval("select count(*) from run_events where run_id = $1", uuid.UUID(bytes=fine)) == 2


async def test_a_lost_answer_to_starts_with_run_keys_tells_of_each(database_url: str) -> None:
    async with _behind_proxy(database_url) as (stores, proxy), _direct(database_url) as direct:
        holder, fine, late = (new_run_id() for _ in range(3))
        await stores.journal.commit(0, [_keyed(holder, "taken")])
        proxy.swallow_answers(since=b"COMMIT")
        batch = [_keyed(fine, "free"), _keyed(late, "taken")]
        committing = asyncio.create_task(stores.journal.commit(0, batch))
        await proxy.lost.wait()
        await until(lambda: direct.fetchval("select count(*) = 2 from run_events"))
        proxy.heal()

        assert await committing == [Committed(), KeyTaken(holder, 1)]
        assert await direct.fetchval("select count(*) from run_keys") == 2


def _keyed(run: RunId, run_key: str) -> Record:
    new = msgspec.structs.replace(new_run(), origin=Origin(run_key=run_key))
    return msgspec.structs.replace(start(run, new=new), claim=KeyClaim(new.pipeline, run_key))


async def test_requests_wait_for_those_of_others_in_the_order_of_their_keys(database_url: str) -> None:
    """Two batches with the same requests do not wait for each other, whatever the order of their records is."""
    async with _speaking(database_url) as stores, _direct(database_url) as direct, _direct(database_url) as other:
        low, high = sorted((request("r1"), request("r2")), key=lambda each: packed(each.key))
        insert = "insert into requests (key, digest, answer, run_id, create_time) values ($1, 'd', 'other', $2, 1)"
        await direct.execute("set lock_timeout = '1ms'")  # of waiting: without a lock in the way it is no bound
        for batch in ("starts", "all"):
            await direct.execute("delete from requests")
            theirs = direct.transaction()
            await theirs.start()
            await direct.execute(insert, packed(low.key), uuid.UUID(bytes=new_run_id()))
            records = [start(new_run_id(), request=high), start(new_run_id(), request=low)]
            if batch == "all":
                records.append(msgspec.structs.replace(record(new_run_id(), 1), step_runs=(step_run(1),)))
            committing = asyncio.create_task(stores.journal.commit(0, records))
            await _lane_waits(other)
            await direct.execute(insert, packed(high.key), uuid.UUID(bytes=new_run_id()))
            await theirs.commit()

            outcomes = await committing
            assert [type(outcome) for outcome in outcomes[:2]] == [Repeated, Repeated]
            assert outcomes[2:] == [Committed()] * len(records[2:])


async def test_a_commit_that_the_database_ends_for_another_ones_sake_is_sent_again(database_url: str) -> None:
    """On the same connection, and nobody hears that the database is away."""
    heard: list[bool] = []
    pid = "select pid from pg_stat_activity where application_name = 'penstock c1 lane 0'"
    async with _speaking(database_url, on_availability=heard.append) as stores, _direct(database_url) as direct:
        await stores.journal.commit(0, [record(new_run_id(), 1)])
        before = await direct.fetchval(pid)
        await direct.execute(GIVING_WAY)
        alone, together, careful = new_run_id(), new_run_id(), new_run_id()
        for records in (
            [record(alone, 1)],
            [start(together, request=request()), record(together, 3)],
            [_keyed(careful, "key"), record(careful, 3)],
        ):
            await direct.execute("alter sequence ways restart")
            assert await stores.journal.commit(0, records) == [Committed()] * len(records)
            assert await direct.fetchval("select last_value from ways") > len(LOSSES)
            assert len(await stores.journal.read(records[0].run_id)) == len(records)

        assert await direct.fetchval(pid) == before
        assert heard == []


async def test_the_backend_is_killed_in_the_middle_of_a_commit(database_url: str) -> None:
    async with _speaking(database_url) as stores, _direct(database_url) as direct:
        run = new_run_id()
        await stores.journal.commit(0, [record(run, 1)])
        lock = direct.transaction()
        await lock.start()
        await direct.execute("select from fences where coordinator_id = 'c1' for update")
        committing = asyncio.create_task(stores.journal.commit(0, [record(run, 2), record(run, 3)]))
        async with _direct(database_url) as other:
            await other.execute("select pg_terminate_backend($1)", await _lane_waits(other))
            await lock.commit()

        assert await committing == [Committed(), Committed()]
        assert [r.first_seq for r in await stores.journal.read(run)] == [1, 2, 3]


async def test_a_former_transaction_that_still_runs_is_waited_for(database_url: str) -> None:
    """The connection is gone for us, but the server goes on with the statement and commits it."""
    async with _behind_proxy(database_url) as (stores, proxy), _direct(database_url) as direct:
        run = new_run_id()
        await stores.journal.commit(0, [record(run, 1)])
        lock = direct.transaction()
        await lock.start()
        await direct.execute("select from fences where coordinator_id = 'c1' for update")
        committing = asyncio.create_task(stores.journal.commit(0, [record(run, 2, payload=b"once")]))
        async with _direct(database_url) as other:
            former = await _lane_waits(other)
            proxy.cut()
            # Now the repetition waits for the same row, behind the former statement.
            await until(lambda: other.fetchval(LOCK_WAITS + f" and pid <> {former}", "penstock c1 lane%"))
            await lock.commit()

        assert await committing == [Committed()]
        assert await _payloads(stores, run) == [b"payload", b"once"]


@contextlib.asynccontextmanager
async def _repeating_while_the_former_is_on_its_way(
    dsn: str, batch: list[Record]
) -> AsyncIterator[tuple[asyncio.Task[list[AppendOutcome]], PostgresStores, asyncio.Event]]:
    """A commit that was looked for and not found, because it arrived only then; its repetition is held back until the
    event is set. The batch must contain `MARK`, which no look does."""
    async with _behind_proxy(dsn) as (stores, proxy), _direct(dsn) as direct:
        await stores.journal.commit(0, [record(new_run_id(), 1)])
        proxy.hold(MARK)
        committing = asyncio.create_task(stores.journal.commit(0, batch))
        former = await proxy.held.get()
        proxy.cut_clients()
        repetition = await proxy.held.get()
        proxy.hold(None)
        former.set()
        await until(lambda: direct.fetchval("select count(*) = $1 from run_events", 1 + len(batch)))
        yield committing, stores, repetition


@pytest.mark.parametrize("with_request", [False, True])
async def test_a_commit_that_arrives_after_it_was_looked_for(database_url: str, *, with_request: bool) -> None:
    run = new_run_id()
    batch = [start(run, request=request() if with_request else None), record(run, 3, payload=MARK)]
    async with _repeating_while_the_former_is_on_its_way(database_url, batch) as (committing, stores, repetition):
        repetition.set()

        assert await committing == [Committed(), Committed()]
        assert await _payloads(stores, run) == [b"started", MARK]


async def test_a_commit_that_arrives_after_it_was_looked_for_and_before_a_take_over(database_url: str) -> None:
    run = new_run_id()
    batch = [record(run, 1), record(run, 2, payload=MARK)]
    async with _repeating_while_the_former_is_on_its_way(database_url, batch) as (committing, _, repetition):
        async with _direct(database_url) as direct:
            await direct.execute("update fences set epoch = epoch + 1")
        repetition.set()

        assert await committing == [Committed(), Committed()]


async def test_a_fenced_coordinator_learns_what_it_had_committed_before(database_url: str) -> None:
    async with _behind_proxy(database_url) as (stores, proxy), _direct(database_url) as direct:
        run = new_run_id()
        await stores.journal.commit(0, [record(new_run_id(), 1)])
        proxy.swallow_answers()
        committing = asyncio.create_task(stores.journal.commit(0, [start(run)]))
        await proxy.lost.wait()
        await until(lambda: direct.fetchval("select true from runs"))
        await direct.execute("update fences set epoch = epoch + 1")
        proxy.heal()

        assert await committing == [Committed()]


async def test_a_link_that_loses_everything_is_noticed(database_url: str) -> None:
    heard: list[bool] = []
    async with _behind_proxy(database_url, on_availability=heard.append) as (stores, proxy):
        run = new_run_id()
        await stores.journal.commit(0, [record(run, 1)])
        proxy.swallow_requests()
        with impatient():
            committing = asyncio.create_task(stores.journal.commit(0, [record(run, 2)]))
            await until(_true_of(lambda: heard == [False]))
        assert not stores.available
        proxy.heal()

        assert await committing == [Committed()]
        assert heard == [False, True]
        assert stores.available


async def test_a_full_disk_of_the_database_is_named_and_what_waits_for_room_goes_on(database_url: str) -> None:
    async with _speaking(database_url) as stores, _direct(database_url) as direct:
        await direct.execute("""
            create function full_disk() returns trigger language plpgsql as
                $$ begin raise exception 'No space left on device' using errcode = 'disk_full'; end $$;
            create trigger full_disk before insert on runs execute function full_disk();
            create trigger full_disk before insert on pipelines execute function full_disk();
        """)
        run = new_run_id()
        committing = asyncio.create_task(stores.journal.commit(0, [start(run)]))
        await until(_true_of(lambda: not stores.available))
        reasons = {each.name: each.reason for each in stores.dependencies()}
        assert reasons["journal"] == "commits wait for the database: its disk is full: make room there"
        with pytest.raises(DatabaseFull, match="its disk is full: make room there"):
            await stores.pipelines.create_version("etl", "digest", b"spec", 1, 0, None)

        await direct.execute("drop function full_disk() cascade")
        assert await committing == [Committed()]
        assert {each.reason for each in stores.dependencies() if each.name == "journal"} == {""}


async def test_a_question_on_a_dead_link_is_answered_with_unavailable_and_the_next_one_works(
    database_url: str,
) -> None:
    async with _behind_proxy(database_url) as (stores, proxy):
        run = new_run_id()
        await stores.journal.commit(0, [record(run, 1)])
        proxy.swallow_requests()
        with pytest.raises(Unavailable), impatient():
            await stores.journal.read(run)
        proxy.heal()

        assert len(await stores.journal.read(run)) == 1


async def test_a_question_that_is_cancelled_leaves_the_pool_usable(database_url: str) -> None:
    async with _behind_proxy(database_url) as (stores, proxy):
        proxy.swallow_answers()
        asking = [asyncio.create_task(stores.runs.list_runs(RunFilter(), 10)) for _ in range(2)]
        await proxy.lost.wait()
        for task in asking:
            task.cancel()
        await asyncio.wait(asking)
        proxy.heal()

        assert await stores.runs.list_runs(RunFilter(), 10) == []


# --- the server goes away ---


@pytest.fixture
async def own_server(tmp_path: Path) -> AsyncIterator[EmbeddedPostgres]:
    async with EmbeddedPostgres(prepared(tmp_path / "data")) as server:
        await migrate(server.dsn)
        yield server


async def _commit_for_ever(stores: PostgresStores, lane: int, acknowledged: list[Record]) -> None:
    run, seq = new_run_id(), 0
    while True:
        batch = [
            msgspec.structs.replace(record(run, seq + i), step_runs=(step_run(seq + i),), attempts=(attempt(seq + i),))
            for i in range(1, 6)
        ]
        seq += 5
        assert await stores.journal.commit(lane, batch) == [Committed()] * 5
        acknowledged.extend(batch)


async def test_a_server_that_crashes_and_comes_back_loses_nothing_that_was_acknowledged(
    own_server: EmbeddedPostgres,
) -> None:
    heard: list[bool] = []
    acknowledged: list[Record] = []
    async with _speaking(own_server.dsn, on_availability=heard.append) as stores:
        writers = [asyncio.create_task(_commit_for_ever(stores, lane, acknowledged)) for lane in (0, 1)]
        for crash in range(1, 4):
            before = len(acknowledged)
            await _more_than(acknowledged, before + 100, writers)
            await asyncio.to_thread(own_server.stop, StopMode.IMMEDIATE)
            with pytest.raises(Unavailable):
                await stores.runs.list_runs(RunFilter(), 1)
            await asyncio.to_thread(own_server.start)
            await _more_than(acknowledged, len(acknowledged) + 100, writers)
            await until(_true_of(lambda: stores.available))
            assert heard == [False, True] * crash
        await _stop(writers)

        for run in {r.run_id for r in acknowledged}:
            stored = [(r.first_seq, r.payload) for r in await stores.journal.read(run, 1, 1_000_000)]
            mine = [(r.first_seq, r.payload) for r in acknowledged if r.run_id == run]
            assert stored[: len(mine)] == mine
            assert len(stored) - len(mine) in (0, 5)
            rows = await stores.runs.step_runs(run, (0, -1), (1_000_000, -1))
            assert [row.step for row in rows] == [seq for seq, _ in stored]


async def _more_than(acknowledged: list[Record], count: int, writers: list[asyncio.Task[None]]) -> None:
    async def reached() -> bool:
        for writer in writers:
            if writer.done():
                writer.result()
        return len(acknowledged) > count

    await until(reached)


def _true_of(condition: Callable[[], bool]) -> Callable[[], Awaitable[bool]]:
    async def ask() -> bool:
        return condition()

    return ask


async def _stop(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await asyncio.gather(*tasks)


async def test_opening_a_database_without_schema_says_what_to_do(empty_database_url: str) -> None:
    with pytest.raises(SchemaOutdated, match="penstock_coordinator migrate"):
        await open_stores(empty_database_url, coordinator_id="c1", lanes=1)


async def test_a_later_schema_will_do_for_one_that_was_there_before_it(database_url: str) -> None:
    connection = await asyncpg.connect(database_url)
    await connection.execute("update alembic_version set version_num = '9999'")
    await connection.close()
    with pytest.raises(SchemaOutdated):
        await open_stores(database_url, coordinator_id="c1", lanes=1)
    stores = await open_stores(database_url, coordinator_id="c1", lanes=1, newer=True)
    await stores.aclose()


async def test_opening_with_a_wrong_password_fails_at_once(database_url: str) -> None:
    parts = urlsplit(database_url)
    wrong = urlunsplit(parts._replace(netloc=f"{parts.username}:wrong@{parts.hostname}:{parts.port}"))
    with pytest.raises(asyncpg.InvalidPasswordError):
        await open_stores(wrong, coordinator_id="c1", lanes=1)

"""What the database's driver does to those who do not know it: each trap that was met has its test here."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import msgspec
import pytest
from tests.clusters import prepared
from tests.contract.impatience import ANSWER_SECONDS, impatient
from tests.contract.records import attempt, new_run, new_run_id, record, start, step_run
from tests.rig.link import Link
from tests.waiting import Stopwatch, until

import penstock_coordinator
from penstock.dev.postgres import EmbeddedPostgres, StopMode
from penstock_coordinator.adapters.postgres import PostgresStores, connections, migrate, open_stores
from penstock_coordinator.adapters.postgres.coordinator_registry import PostgresCoordinatorRegistry
from penstock_coordinator.adapters.postgres.hot_state import PostgresHotState
from penstock_coordinator.adapters.system import SystemClock
from penstock_coordinator.core.fleet.ownership import CoordinatorRow, OwnershipState
from penstock_coordinator.ports import Committed, RunFilter, Unavailable, Unstorable
from penstock_coordinator.ports.post import Letter
from penstock_coordinator.runtime.ownership import OwnershipKeeper

POOL = 2
UNKNOWN_COMMITS = int(os.environ.get("PENSTOCK_UNKNOWN_COMMITS", "60"))
"""Answers to commits that are lost, one after the other."""
PATIENCE = 60.0
LISTENER = """
select pid from pg_stat_activity
where datname = current_database() and application_name like '%hints' and query like 'LISTEN %' and state = 'idle'
"""
AWAY = (OSError, asyncpg.PostgresError, asyncpg.InterfaceError)
BACKENDS = "select pid from pg_stat_activity where application_name like 'penstock c1%'"


@contextlib.asynccontextmanager
async def _stores(dsn: str) -> AsyncIterator[PostgresStores]:
    stores = await open_stores(dsn, coordinator_id="c1", lanes=1, pool_size=POOL)
    await stores.incarnations.incarnate("c1", 1)
    try:
        yield stores
    finally:
        await stores.aclose()


@contextlib.contextmanager
def _behind_link(dsn: str) -> Iterator[tuple[str, Link]]:
    parts = urlsplit(dsn)
    assert parts.hostname is not None
    assert parts.port is not None
    with Link((parts.hostname, parts.port)) as link:
        yield urlunsplit(parts._replace(netloc=f"{parts.username}:{parts.password}@127.0.0.1:{link.port}")), link


@contextlib.asynccontextmanager
async def _frozen_backends(dsn: str) -> AsyncIterator[None]:
    direct = await asyncpg.connect(dsn)
    pids = [row["pid"] for row in await direct.fetch(BACKENDS)]
    assert pids
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
        await direct.close()


# --- P1: a timeout of the driver's waits for the server to confirm that the statement is cancelled


async def test_p1_a_question_to_a_frozen_backend_fails_in_time_and_the_next_one_is_answered(database_url: str) -> None:
    async with _stores(database_url) as stores:
        await stores.runs.list_runs(RunFilter(), 1)
        async with _frozen_backends(database_url):
            for _ in range(POOL):
                with contextlib.suppress(Unavailable), impatient():
                    async with Stopwatch() as took:
                        await stores.runs.list_runs(RunFilter(), 1)
                assert took.seconds < 5 * ANSWER_SECONDS
            assert await stores.runs.list_runs(RunFilter(), 1) == []


async def test_p1_a_commit_on_a_frozen_backend_goes_on_with_another(database_url: str) -> None:
    async with _stores(database_url) as stores:
        run = new_run_id()
        await stores.journal.commit(0, [record(run, 1)])
        direct = await asyncpg.connect(database_url)
        (pid,) = [row["pid"] for row in await direct.fetch(BACKENDS + " and application_name like '%lane%'")]
        os.kill(pid, signal.SIGSTOP)
        try:
            async with Stopwatch() as took:
                with impatient():
                    assert await asyncio.wait_for(stores.journal.commit(0, [record(run, 2)]), PATIENCE) == [Committed()]
            assert took.seconds < 10.0
        finally:
            os.kill(pid, signal.SIGCONT)
            await direct.close()
        assert [each.first_seq for each in await stores.journal.read(run)] == [1, 2]


@pytest.mark.parametrize("words", range(1, 7))
async def test_p1_a_server_that_falls_silent_while_one_connects_is_given_up(database_url: str, words: int) -> None:
    """After any word of the client's: at its name, its password, its first questions."""
    with _behind_link(database_url) as (dsn, link):
        async with _stores(dsn) as stores:
            link.cut()  # what is in the pool is of no use
            link.drop_after(words)
            with impatient(connecting=True):
                async with Stopwatch() as took:
                    for _ in range(2):
                        with pytest.raises(Unavailable):
                            await stores.runs.list_runs(RunFilter(), 1)
            assert took.seconds < 20 * ANSWER_SECONDS
            link.heal()
            assert await until(lambda: _answer(stores)) is not None


async def _answer(stores: PostgresStores) -> list[object] | None:
    try:
        return [*await stores.runs.list_runs(RunFilter(), 1), True]
    except Unavailable:
        return None


@pytest.mark.parametrize("words", [4, 5, 6])
async def test_p1_a_server_that_falls_silent_at_the_start_is_given_up(database_url: str, words: int) -> None:
    with _behind_link(database_url) as (dsn, link):
        link.drop_after(words)
        opening = open_stores(dsn, coordinator_id="c1", lanes=1, answer_timeout=ANSWER_SECONDS)
        async with Stopwatch() as took:
            with impatient(connecting=True), pytest.raises(AWAY):
                await asyncio.wait_for(opening, PATIENCE)
        assert took.seconds < 9.0


async def test_p1_the_janitors_connection_is_not_waited_for_without_end(database_url: str) -> None:
    with _behind_link(database_url) as (dsn, link):
        async with _stores(dsn) as stores:
            for words in range(1, 8):
                link.drop_after(words)
                with contextlib.suppress(Unavailable), impatient(connecting=True):
                    async with asyncio.timeout(PATIENCE), Stopwatch() as took, stores.retention.alone():
                        pass
                assert took.seconds < 5.0
                link.heal()


# --- P2: who waits for a connection of the pool waits for ever


async def test_p2_who_gets_no_connection_is_told_so(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async with _stores(database_url) as stores, contextlib.AsyncExitStack() as stack:
        for _ in range(POOL):
            await stack.enter_async_context(stores._database.connection())
        monkeypatch.setattr(connections, "ACQUIRE_SECONDS", 0.2)
        async with Stopwatch() as took:
            with pytest.raises(Unavailable):
                await stores.runs.list_runs(RunFilter(), 1)
        assert took.seconds < 2.0


# --- P3: the fate of a commit is not known


async def test_p3_of_many_commits_whose_answers_are_lost_each_is_stored_once(database_url: str) -> None:
    with _behind_link(database_url) as (dsn, link):
        async with _stores(dsn) as stores:
            run, seq = new_run_id(), 0
            await stores.journal.commit(0, [start(run, last_seq=1)])
            while link.answers_cut < UNKNOWN_COMMITS:
                seq += 2
                batch = [
                    msgspec.structs.replace(
                        record(run, number), step_runs=(step_run(number),), attempts=(attempt(number),)
                    )
                    for number in (seq, seq + 1)
                ]
                link.cut_at_answer(b"c1", 1 + seq % 3)  # of the repetitions too
                assert await stores.journal.commit(0, batch) == [Committed()] * 2
            link.heal()
            stored = [each.first_seq for each in await stores.journal.read(run, 1, 1_000_000)]
            assert stored == list(range(1, seq + 2))


# --- P4: what cannot be stored


@pytest.mark.parametrize("text", ["nul \x00", "half \ud800 of a pair"])
async def test_p4_text_that_cannot_be_stored_is_refused_alone_and_at_once(database_url: str, text: str) -> None:
    async with _stores(database_url) as stores:
        bad = start(new_run_id(), new=msgspec.structs.replace(new_run(), pipeline=text))
        good = start(new_run_id())
        async with Stopwatch() as took:
            outcomes = await asyncio.wait_for(stores.journal.commit(0, [bad, good]), PATIENCE)
        assert took.seconds < 5.0
        assert isinstance(outcomes[0], Unstorable)
        assert outcomes[1] == Committed()
        assert stores.available


async def test_p4_what_users_wrote_is_bytes_that_refuse_nothing(database_url: str) -> None:
    nested = b"[" * 20_000 + b"]" * 20_000
    async with _stores(database_url) as stores:
        for output in (b'"\\u0000"', b'"\\ud800"', b"\x00\xff", nested):
            run = new_run_id()
            row = msgspec.structs.replace(step_run(1), output=output)
            kept = msgspec.structs.replace(record(run, 1), step_runs=(row,))
            assert await stores.journal.commit(0, [kept]) == [Committed()]
            (found,) = await stores.runs.step_runs(run, (1, -1), (1, -1))
            assert found.output == output


# --- P5: a connection that listens dies without a word


def test_p5_nothing_but_the_registry_of_coordinators_and_the_post_listens() -> None:
    """There a notice is a hint, and whoever waits looks by itself too (see the next tests)."""
    folder = Path(penstock_coordinator.__file__).parent
    words = ("add_listener", "Notices(", "pg_notify", 'listen "', "LISTEN ")
    sources = [path for kind in ("*.py", "*.sql") for path in folder.rglob(kind)]
    assert len(sources) > 100
    found = [path for path in sources if any(word in path.read_text() for word in words)]
    assert sorted(path.name for path in found) == [
        "coordinator_registry.py",
        "coordinators.sql",
        "hot_state.py",
        "notices.py",
        "post.sql",
    ]


@contextlib.asynccontextmanager
async def _registry(dsn: str, name: str) -> AsyncIterator[PostgresCoordinatorRegistry]:
    registry = await PostgresCoordinatorRegistry.open(dsn, name, 5.0)
    try:
        yield registry
    finally:
        await registry.aclose()


@contextlib.asynccontextmanager
async def _keeper(dsn: str, name: str) -> AsyncIterator[OwnershipKeeper]:
    """Its lease is an hour: none runs out here."""
    own = CoordinatorRow(name, OwnershipState.FOLLOWER, 0, 0, 3_600_000_000, f"{name}:7400", "", 1)
    async with _registry(dsn, name) as registry:
        keeper = OwnershipKeeper(registry, SystemClock(), own, 1)
        await keeper.introduce(f"{name}:7400", "")
        yield keeper


async def _listener(dsn: str) -> int | None:
    """The process id of the one backend whose connection listens."""
    direct = await asyncpg.connect(dsn)
    try:
        pid: int | None = await direct.fetchval(LISTENER)
    finally:
        await direct.close()
    return pid


async def _cut(dsn: str, trouble: signal.Signals) -> int:
    """What listens hears nothing any more, since its backend stands still or is gone. The process id."""
    pid = await until(lambda: _listener(dsn))
    assert pid is not None
    os.kill(pid, trouble)

    async def is_gone() -> bool:
        return await _listener(dsn) != pid

    if trouble != signal.SIGSTOP:
        await until(is_gone)
    return pid


@pytest.mark.parametrize("trouble", [signal.SIGSTOP, signal.SIGTERM])
async def test_p5_what_is_released_is_taken_over_also_when_the_notice_is_lost(
    database_url: str, trouble: signal.Signals
) -> None:
    async with _keeper(database_url, "a") as owner, _keeper(database_url, "b") as follower:
        epoch = await asyncio.wait_for(owner.campaign(asyncio.Event()), PATIENCE)
        assert epoch is not None
        taking = asyncio.create_task(follower.campaign(asyncio.Event()))
        pid = await _cut(database_url, trouble)
        try:
            assert not taking.done()
            await owner.release()
            taken = await asyncio.wait_for(taking, PATIENCE)
        finally:
            if trouble == signal.SIGSTOP:
                os.kill(pid, signal.SIGCONT)
        assert taken is not None
        assert taken > epoch


async def test_p5_who_has_lost_the_connection_that_listens_listens_again(database_url: str) -> None:
    async with _registry(database_url, "b") as registry, _registry(database_url, "a") as other:
        await registry.hinted(0.0)
        former = await _cut(database_url, signal.SIGTERM)

        async def listens_again() -> int | None:
            await registry.hinted(0.01)
            return await _listener(database_url)

        assert await until(listens_again) != former
        heard = asyncio.create_task(registry.hinted(3_600.0))
        await other.release("a", 0)
        await asyncio.wait_for(heard, PATIENCE)


@pytest.mark.parametrize("trouble", [signal.SIGSTOP, signal.SIGTERM])
async def test_p5_letters_are_found_also_when_the_notice_of_them_is_lost(
    database_url: str, trouble: signal.Signals
) -> None:
    hot_state = await PostgresHotState.open(database_url, "c1", PATIENCE)
    post, letter = hot_state.post, Letter("kind", "a")

    async def received() -> list[Letter]:
        return await post.receive("b", PATIENCE)

    try:
        assert await post.receive("b", 0.01) == []
        pid = await _cut(database_url, trouble)
        try:
            waiting = asyncio.create_task(until(received))
            await post.send({"b": [letter]})
            assert await asyncio.wait_for(waiting, PATIENCE) == [letter]
        finally:
            if trouble == signal.SIGSTOP:
                os.kill(pid, signal.SIGCONT)
    finally:
        await hot_state.aclose()


# --- P6: one connection in two hands


async def test_p6_commits_of_a_lane_never_share_its_connection(database_url: str) -> None:
    async with _stores(database_url) as stores:
        first = asyncio.create_task(stores.journal.commit(0, [record(new_run_id(), 1)]))
        await asyncio.sleep(0)
        with pytest.raises(RuntimeError, match="overlap"):
            await stores.journal.commit(0, [record(new_run_id(), 1)])
        assert await first == [Committed()]


async def test_p6_many_questions_at_once_each_have_a_connection_to_themselves(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("penstock_coordinator.adapters.postgres.stores.ACQUIRE_SECONDS", PATIENCE)
    async with _stores(database_url) as stores:
        found = await asyncio.gather(*(stores.runs.list_runs(RunFilter(), 1) for _ in range(200)))
        assert found == [[]] * 200


# --- P7: a server that crashed is there again soon


async def test_p7_after_a_crash_questions_and_commits_go_on_as_soon_as_the_server_is_there(tmp_path: Path) -> None:
    async with EmbeddedPostgres(prepared(tmp_path / "data")) as server:
        await migrate(server.dsn)
        async with _stores(server.dsn) as stores:
            run = new_run_id()
            await stores.journal.commit(0, [record(run, 1)])
            await asyncio.to_thread(server.stop, StopMode.IMMEDIATE)
            committing = asyncio.create_task(stores.journal.commit(0, [record(run, 2)]))
            with pytest.raises(Unavailable):
                await stores.runs.list_runs(RunFilter(), 1)
            await asyncio.to_thread(server.start)
            async with Stopwatch() as took:
                assert await stores.runs.list_runs(RunFilter(), 1) == []
                assert await asyncio.wait_for(committing, PATIENCE) == [Committed()]
            assert took.seconds < 5.0


# --- P8: a pooler between us and the server gives each transaction another backend


async def test_p8_a_lane_whose_statements_are_gone_prepares_them_again(database_url: str) -> None:
    """As it is behind a pooler that gives the session away: it is slow, and it is right."""
    async with _stores(database_url) as stores:
        run = new_run_id()
        await stores.journal.commit(0, [record(run, 1)])
        connection = stores._postgres_journal._lanes[0]._connection
        assert connection is not None
        await connection.execute("deallocate all")
        async with Stopwatch() as took:
            assert await asyncio.wait_for(stores.journal.commit(0, [record(run, 2)]), PATIENCE) == [Committed()]
        assert took.seconds < 5.0
        assert [each.first_seq for each in await stores.journal.read(run)] == [1, 2]


async def test_p8_questions_whose_statements_are_gone_are_asked_again(database_url: str) -> None:
    async with _stores(database_url) as stores:
        for _ in range(2):
            async with stores._database.connection() as connection:
                await connection.execute("deallocate all")
            assert await until(lambda: _answer(stores)) == [True]

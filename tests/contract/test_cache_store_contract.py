"""What the store of the cache promises, on PostgreSQL and in memory."""

from __future__ import annotations

import asyncio

import msgspec
from tests.contract.records import new_run_id, record, start, step_run

from penstock_coordinator.ports import (
    CacheEntryRow,
    CacheFilter,
    CacheQuestion,
    Committed,
    Found,
    HeldBy,
    OldRows,
    Reserved,
    Reserver,
    RunId,
    Stores,
    Unstorable,
)

COMMITTED = Committed()
TTL = 60_000_000
K1, K2 = b"\x01" * 32, b"\x02" * 32


def entry(key: bytes = K1, at: int = 1_000, **given: object) -> CacheEntryRow:
    row = CacheEntryRow(key, 0, -1, 1, at, None, "etl", "load", "load", b'{"v": "\\u0000"}', ("sha256:a", 'x"y'))
    return msgspec.structs.replace(row, **given)


def reserver(run_id: RunId, token: int = 3, step: int = 0) -> Reserver:
    return Reserver(run_id, step, -1, token, "load")


def question(key: bytes, who: Reserver, since: int = 0) -> CacheQuestion:
    return CacheQuestion(key, since, who)


async def stored(stores: Stores, *entries: CacheEntryRow) -> RunId:
    run_id = new_run_id()
    begun = msgspec.structs.replace(start(run_id), entries=entries)
    assert await stores.journal.commit(0, [begun]) == [COMMITTED]
    return run_id


async def ask(stores: Stores, *questions: CacheQuestion, now: int = 5_000, ttl: int = TTL) -> list[object]:
    return list(await stores.cache.ask(questions, now, ttl))


async def test_a_value_comes_with_its_record(stores: Stores) -> None:
    run_id = await stored(stores, entry())
    (found,) = await ask(stores, question(K1, reserver(new_run_id())))
    assert isinstance(found, Found)
    assert found.entry.run_id == run_id
    assert found.entry.row == entry()
    assert found.entry.size == len(entry().output)
    assert await stores.cache.get(found.entry.entry_id) == found.entry


async def test_a_record_that_is_not_stored_brings_none(stores: Stores) -> None:
    run_id = await stored(stores)
    stale = msgspec.structs.replace(record(run_id, 1), entries=(entry(),))
    assert await stores.journal.commit(0, [stale]) != [COMMITTED]
    spoilt = msgspec.structs.replace(record(run_id, 3), entries=(entry(display_name="a\0b"),))
    good = msgspec.structs.replace(start(new_run_id()), entries=(entry(K2),))
    outcomes = await stores.journal.commit(0, [spoilt, good])
    assert isinstance(outcomes[0], Unstorable)
    assert outcomes[1] == COMMITTED
    assert [each.row.key for each in await stores.cache.list_entries(CacheFilter(), 10)] == [K2]


async def test_of_several_values_the_newest_that_counts_answers(stores: Stores) -> None:
    await stored(stores, entry(at=1_000, output=b"1"))
    await stored(stores, entry(at=2_000, output=b"2"))
    await stored(stores, entry(at=3_000, output=b"3", expire_time=4_000))

    async def found(now: int, since: int = 0) -> bytes | None:
        (reply,) = await ask(stores, question(K1, reserver(new_run_id()), since), now=now)
        return reply.entry.row.output if isinstance(reply, Found) else None

    assert await found(3_500) == b"3"
    assert await found(4_000) == b"2"
    assert await found(4_000, since=1_500) == b"2"
    assert await found(4_000, since=2_500) is None


async def test_the_first_to_ask_reserves_and_the_others_are_told_who(stores: Stores) -> None:
    first, second = reserver(new_run_id()), reserver(new_run_id())
    assert await ask(stores, question(K1, first), question(K1, second), question(K2, second)) == [
        Reserved(),
        HeldBy(first),
        Reserved(),
    ]
    assert await ask(stores, question(K1, second)) == [HeldBy(first)]
    assert await ask(stores, question(K1, first)) == [Reserved()], "whoever has it is told so again"
    await stores.cache.release([(K1, second)])
    assert await ask(stores, question(K1, second)) == [HeldBy(first)], "nobody ends what another one has"
    await stores.cache.release([(K1, first), (K2, second)])
    assert await ask(stores, question(K1, second)) == [Reserved()]


async def test_a_later_question_of_the_same_step_run_takes_the_place_of_an_earlier(stores: Stores) -> None:
    run_id = new_run_id()
    old, new = reserver(run_id, 3), reserver(run_id, 9)
    assert await ask(stores, question(K1, old)) == [Reserved()]
    assert await ask(stores, question(K1, new)) == [Reserved()]
    assert await stores.cache.renew([(K1, old)], TTL) == [False]
    await stores.cache.release([(K1, old)])
    assert await stores.cache.renew([(K1, new)], TTL) == [True]
    assert await ask(stores, question(K1, reserver(new_run_id()))) == [HeldBy(new)]


async def test_many_at_once_reserve_each_key_once(stores: Stores) -> None:
    keys = [bytes([number]) * 32 for number in range(8)]

    async def one(turn: int) -> list[object]:
        who = reserver(new_run_id())
        order = keys[turn:] + keys[:turn]
        return await ask(stores, *(question(key, who) for key in order))

    found = await asyncio.gather(*(one(turn) for turn in range(6)))
    assert sum(reply == Reserved() for replies in found for reply in replies) == len(keys)


async def test_a_reservation_runs_out_unless_it_is_renewed(stores: Stores) -> None:
    first, second = reserver(new_run_id()), reserver(new_run_id())
    assert await ask(stores, question(K1, first), question(K2, first), ttl=-1_000) == [Reserved(), Reserved()]
    assert await stores.cache.renew([(K2, first)], TTL) == [True]
    assert await ask(stores, question(K1, second), question(K2, second)) == [Reserved(), HeldBy(first)]
    assert await stores.cache.renew([(K1, first)], TTL) == [False]
    assert await stores.cache.renew([], TTL) == []


async def test_step_runs_that_were_answered_say_from_where(stores: Stores) -> None:
    run_id = await stored(stores)
    answered = msgspec.structs.replace(step_run(0), source=b"from there", attempts=0, start_time=None)
    more = msgspec.structs.replace(record(run_id, 3), answered=(answered,), step_runs=(step_run(1),))
    assert await stores.journal.commit(0, [more]) == [COMMITTED]
    found = await stores.runs.step_runs(run_id, (0, -1), (1, -1))
    assert found == [answered, step_run(1)]
    assert await stores.runs.whole_steps(run_id, 0, 1) == found
    assert await stores.runs.outputs(run_id, 0) == [(-1, b"1")]


async def test_entries_are_listed_and_deleted(stores: Stores) -> None:
    first = await stored(stores, entry(b"\xab\xcd" + bytes(30)), entry(b"\xab\xce" + bytes(30), step_name="save"))
    await stored(stores, entry(b"\xff" * 32, pipeline="ml"))

    async def keys(where: CacheFilter, limit: int = 10, before: int | None = None) -> list[bytes]:
        return [each.row.key[:2] for each in await stores.cache.list_entries(where, limit, before)]

    everything = await stores.cache.list_entries(CacheFilter(), 10)
    assert [each.row.key[:1] for each in everything] == [b"\xff", b"\xab", b"\xab"]
    assert all(each.row.output == b"" and each.size for each in everything)
    assert await keys(CacheFilter(), 1, everything[0].entry_id) == [everything[1].row.key[:2]]
    assert await keys(CacheFilter(pipeline="ml")) == [b"\xff\xff"]
    assert await keys(CacheFilter(step_name="save")) == [b"\xab\xce"]
    assert set(await keys(CacheFilter(run_id=first))) == {b"\xab\xcd", b"\xab\xce"}
    assert set(await keys(CacheFilter(key_prefix=b"\xab"))) == {b"\xab\xcd", b"\xab\xce"}
    assert await keys(CacheFilter(key_prefix=b"\xab\xcd", key_odd=0)) == [b"\xab\xcd"]
    assert await keys(CacheFilter(key_prefix=b"\xff" * 32)) == [b"\xff\xff"]
    assert await keys(CacheFilter(key_odd=15)) == [b"\xff\xff"]
    assert await keys(CacheFilter(pipeline="no\0ne")) == []
    assert await stores.cache.delete(CacheFilter(), everything[0].entry_id, 10) == 1
    assert await stores.cache.delete(CacheFilter(pipeline="ml"), None, 10) == 0
    assert await stores.cache.delete(CacheFilter(key_prefix=b"\xab"), None, 1) == 1
    assert await stores.cache.delete(CacheFilter(), None, 10) == 1
    assert await stores.cache.get(everything[0].entry_id) is None


async def test_old_and_expired_entries_go(stores: Stores) -> None:
    await stored(stores, entry(at=1_000), entry(K2, at=2_000, expire_time=2_500), entry(b"\x03" * 32, at=3_000))
    assert [await stores.cache.nth_newest(number) for number in range(1, 5)] == [3_000, 2_000, 1_000, None]
    assert await stores.retention.count_old(OldRows.EXPIRED_ENTRIES, 2_500) == 0
    assert await stores.retention.count_old(OldRows.EXPIRED_ENTRIES, 2_501) == 1
    assert await stores.retention.remove_old(OldRows.EXPIRED_ENTRIES, 2_501, 10) == 1
    assert await stores.retention.count_old(OldRows.CACHE_ENTRIES, 3_000) == 1
    assert await stores.retention.remove_old(OldRows.CACHE_ENTRIES, 3_000, 10) == 1
    assert [each.row.at for each in await stores.cache.list_entries(CacheFilter(), 10)] == [3_000]

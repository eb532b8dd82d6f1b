"""Lines of an agent whose streams break, are refused, or find nobody: which come again, and what is said of others."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import grpc
import grpc.aio
import pytest
from google.protobuf import any_pb2
from google.rpc import code_pb2, error_details_pb2, status_pb2  # type: ignore[import-untyped]  # no stubs
from grpc_status import rpc_status
from tests.waiting import until

from penstock.agent.v1 import agent_service_pb2 as wire
from penstock.agent.v1 import agent_service_pb2_grpc as rpc
from penstock_agent.core.leases import HOME, NOBODY
from penstock_agent.executors.channel import STDOUT, SYSTEM, LogLines
from penstock_agent.runtime import log_lines
from penstock_agent.runtime import log_pushes as pushes
from penstock_agent.runtime import logs as relays
from penstock_agent.runtime.logs import LogRelay

PATIENCE = 60.0


class Taking(rpc.AgentServiceServicer):
    """Takes lines. Some streams it breaks after a message, without an answer."""

    def __init__(self) -> None:
        self.requests: list[wire.PushLogsRequest] = []
        self.answered = 0
        self.breaks: list[grpc.StatusCode] = []

    async def Connect(self, request_iterator: object, context: object) -> Any:  # type: ignore[override]  # not used here
        raise NotImplementedError

    async def PushLogs(self, request_iterator: AsyncIterator[wire.PushLogsRequest], context: Any) -> Any:
        await context.send_initial_metadata((("penstock-log-lines", "taken"),))
        async for request in request_iterator:
            self.requests.append(request)
            if self.breaks:
                await context.abort(self.breaks.pop(0), "broken")
        self.answered += 1
        return wire.PushLogsResponse()

    @property
    def records(self) -> list[wire.LogRecord]:
        return [record for request in self.requests for batch in request.batches for record in batch.records]

    @property
    def numbers(self) -> list[int]:
        return [record.number for record in self.records]


class Frozen(Taking):
    """Lets streams in, and answers none before it is thawed."""

    def __init__(self) -> None:
        super().__init__()
        self.asked, self.thawed = asyncio.Event(), asyncio.Event()

    async def PushLogs(self, request_iterator: AsyncIterator[wire.PushLogsRequest], context: Any) -> Any:
        answer = await super().PushLogs(request_iterator, context)
        self.asked.set()
        await self.thawed.wait()
        return answer


class Hasty(Taking):
    """Answers its first stream after a message, as soon as another one is on its way."""

    def __init__(self, read_messages: int) -> None:
        super().__init__()
        self.read_messages = read_messages

    async def PushLogs(self, request_iterator: AsyncIterator[wire.PushLogsRequest], context: Any) -> Any:
        if self.answered:
            return await super().PushLogs(request_iterator, context)
        await context.send_initial_metadata((("penstock-log-lines", "taken"),))
        requests = aiter(request_iterator)
        self.requests.append(await anext(requests))
        await anext(requests)
        self.answered += 1
        return wire.PushLogsResponse(read_messages=self.read_messages)


class Deaf(Taking):
    """Takes no lines."""

    def __init__(self) -> None:
        super().__init__()
        self.refused = 0

    async def PushLogs(self, request_iterator: AsyncIterator[wire.PushLogsRequest], context: Any) -> Any:
        self.refused += 1
        await context.abort(grpc.StatusCode.UNIMPLEMENTED, "not here")


@asynccontextmanager
async def taking(servicer: Taking) -> AsyncIterator[rpc.AgentServiceStub]:
    server = grpc.aio.server()
    rpc.add_AgentServiceServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield rpc.AgentServiceStub(channel)
    await server.stop(None)


@contextmanager
def running(relay: LogRelay) -> Iterator[asyncio.Task[None]]:
    task = asyncio.create_task(relay.run())
    yield task
    task.cancel()


def lines(handle: int, first: int, count: int, size: int = 1) -> LogLines:
    return LogLines(handle, [(first + n, STDOUT, n, "x" * size) for n in range(count)])


def new_relay(*handles: int) -> LogRelay:
    relay = LogRelay("agent", chance=lambda: 0.0)
    for handle in handles:
        relay.introduce(handle, wire.LeaseRef(step=handle, token=9), 1)
    return relay


async def ended(relay: LogRelay, task: asyncio.Task[None]) -> None:
    relay.close()
    await asyncio.wait_for(task, PATIENCE)


async def test_lines_of_a_stream_without_an_answer_come_again_in_the_same_batches() -> None:
    servicer = Taking()
    servicer.breaks = [grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.INTERNAL]
    relay = new_relay(1, 2)
    relay.add(lines(1, 1, 3))
    relay.add(lines(2, 1, 2))
    async with taking(servicer) as stub:
        with running(relay) as task:
            relay.use(stub)

            async def came_three_times() -> bool:
                return len(servicer.requests) == 3

            await until(came_three_times, PATIENCE)
            relay.add(lines(1, 4, 1))
            await ended(relay, task)
    first, *again = servicer.requests[:3]
    assert [len(batch.records) for batch in first.batches] == [3, 2]
    assert again == [first, first]
    assert servicer.numbers[-1] == 4
    assert relay._bytes == 0


async def test_lines_count_until_they_are_durable() -> None:
    servicer = Taking()
    relay = new_relay(1)
    relay.add(lines(1, 1, 3))
    async with taking(servicer) as stub:
        with running(relay) as task:
            relay.use(stub)

            async def came() -> bool:
                return len(servicer.requests) == 1

            await until(came, PATIENCE)
            assert relay._bytes > 0
            await ended(relay, task)
    assert relay._bytes == 0
    assert servicer.answered == 1


async def test_a_stream_ends_when_it_has_brought_much(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pushes, "STREAM_BYTES", 100_000)
    monkeypatch.setattr(log_lines, "MESSAGE_BYTES", 20_000)
    servicer = Taking()
    relay = new_relay(1)
    for first in range(1, 401, 20):
        relay.add(lines(1, first, 20, 1_000))
    async with taking(servicer) as stub:
        with running(relay) as task:
            relay.use(stub)
            await ended(relay, task)
    assert servicer.numbers == list(range(1, 401))
    assert servicer.answered >= 3


async def test_what_a_coordinator_refuses_for_ever_is_not_sent_again() -> None:
    servicer = Taking()
    servicer.breaks = [grpc.StatusCode.INVALID_ARGUMENT]
    relay = new_relay(1)
    relay.add(lines(1, 1, 3))
    async with taking(servicer) as stub:
        with running(relay) as task:
            relay.use(stub)

            async def came() -> bool:
                return not servicer.breaks and relay._bytes == 0

            await until(came, PATIENCE)
            relay.add(lines(1, 4, 1))
            await ended(relay, task)
    assert servicer.numbers == [1, 2, 3, 4]


async def test_lines_that_stand_in_line_share_a_batch_for_each_attempt() -> None:
    servicer = Taking()
    relay = new_relay(1, 2)
    for number in range(1, 11):
        relay.add(lines(1, number, 1))
        relay.add(lines(2, number, 1))
    async with taking(servicer) as stub:
        with running(relay) as task:
            relay.use(stub)
            await ended(relay, task)
    (request,) = servicer.requests
    assert [len(batch.records) for batch in request.batches] == [10, 10]


async def test_the_log_says_how_many_lines_were_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relays, "HELD_UP", 0.01)
    monkeypatch.setattr(relays, "FULL_BYTES", 50_000)
    monkeypatch.setattr(relays, "ROOM_BYTES", 25_000)
    servicer = Taking()
    relay = new_relay(1, 2)
    room = asyncio.Event()
    relay.on_room = room.set
    number = 1
    while not relay.is_full:
        relay.add(lines(1, number, 1, 1_000))
        relay.add(lines(2, number, 1, 1_000))
        number += 1
    await asyncio.wait_for(room.wait(), PATIENCE)
    async with taking(servicer) as stub:
        with running(relay) as task:
            relay.use(stub)
            await ended(relay, task)
    for step in (1, 2):
        batches = [batch for request in servicer.requests for batch in request.batches if batch.lease.step == step]
        word, *kept = (record for batch in batches for record in batch.records)
        assert word.source == SYSTEM
        assert word.text == f"{word.number:,} lines are missing here: no coordinator took them"
        assert [record.number for record in kept] == list(range(word.number + 1, number))


async def test_a_coordinator_that_is_slow_makes_steps_wait_and_loses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relays, "HELD_UP", 0.01)
    monkeypatch.setattr(relays, "FULL_BYTES", 50_000)
    monkeypatch.setattr(relays, "ROOM_BYTES", 25_000)
    servicer = Taking()
    relay = new_relay(1)
    looked = asyncio.Event()

    def look(taken: int) -> None:
        relay._taken += 1  # the coordinator takes one message between two looks
        LogRelay._drop_if_stuck(relay, taken)
        looked.set()

    monkeypatch.setattr(relay, "_drop_if_stuck", look)
    relay.add(lines(1, 1, 50, 1_000))
    relay.add(lines(1, 51, 50, 1_000))
    assert relay.is_full
    for _ in range(3):
        looked.clear()
        await asyncio.wait_for(looked.wait(), PATIENCE)
        assert relay.is_full
    async with taking(servicer) as stub:
        with running(relay) as task:
            relay.use(stub)
            await ended(relay, task)
    assert servicer.numbers == list(range(1, 101))


@pytest.mark.parametrize("longer", [False, True])
async def test_a_coordinator_that_has_let_a_stream_in_may_stand_still_for_a_while(
    monkeypatch: pytest.MonkeyPatch, longer: bool
) -> None:
    monkeypatch.setattr(relays, "HELD_UP", 3_600.0)  # the looks are those of this test alone
    monkeypatch.setattr(relays, "FULL_BYTES", 50_000)
    monkeypatch.setattr(relays, "ROOM_BYTES", 25_000)
    monkeypatch.setattr(pushes, "STREAM_BYTES", 10_000)
    monkeypatch.setattr(log_lines, "MESSAGE_BYTES", 5_000)
    servicer = Frozen()
    relay = new_relay(1)
    for first in range(1, 101, 5):
        relay.add(lines(1, first, 5, 1_000))
    async with taking(servicer) as stub:
        with running(relay) as task:
            relay.use(stub)
            await asyncio.wait_for(servicer.asked.wait(), PATIENCE)
            for _ in range(relays.SLOW_LOOKS - 1):
                relay._drop_if_stuck(relay._taken)
            assert relay.is_full
            if longer:
                relay._drop_if_stuck(relay._taken)
                assert not relay.is_full
            servicer.thawed.set()
            await ended(relay, task)
    words = [record.text for record in servicer.records if record.source == SYSTEM]
    assert [word.partition(" ")[2] for word in words] == longer * ["lines are missing here: no coordinator took them"]
    missing = sum(int(word.partition(" ")[0]) for word in words)
    assert len(servicer.numbers) - len(words) + missing == 100
    assert servicer.numbers == sorted(set(servicer.numbers))


async def test_lines_count_on_after_those_of_before_the_attempt() -> None:
    servicer = Taking()
    relay = new_relay()
    ref = wire.LeaseRef(step=1, token=9)
    relay.introduce(1, ref, 1, ["building", "ready"])
    relay.add(lines(1, 1, 2))
    async with taking(servicer) as stub:
        with running(relay) as task:
            relay.use(stub)
            await ended(relay, task)
    assert servicer.numbers == [1, 2, 3, 4]


@pytest.mark.parametrize("read_messages", [1, 0])
async def test_of_a_stream_that_ends_early_what_was_not_read_comes_again(
    monkeypatch: pytest.MonkeyPatch, read_messages: int
) -> None:
    monkeypatch.setattr(log_lines, "MESSAGE_LINES", 2)
    monkeypatch.setattr(pushes, "STREAM_SECONDS", 3_600.0)  # the agent does not end it
    servicer = Hasty(read_messages)
    relay = new_relay(1)
    relay.add(lines(1, 1, 20, 1_000))
    async with taking(servicer) as stub:
        with running(relay) as task:
            relay.use(stub)

            async def all_came() -> bool:
                return 20 in servicer.numbers

            await until(all_came, PATIENCE)
            await ended(relay, task)
    # If nobody says that the first message was read, it comes again, and is known by its numbers.
    again = [] if read_messages else [1, 2]
    assert servicer.numbers == [1, 2, *again, *range(3, 21)]
    assert relay._bytes == 0


async def test_the_log_says_what_a_coordinator_without_logs_did_not_take(caplog: pytest.LogCaptureFixture) -> None:
    relay = new_relay(1, 2)
    deaf, servicer = Deaf(), Taking()
    with running(relay) as task:
        async with taking(deaf) as stub:
            relay.use(stub)
            for handle, first, count in ((1, 1, 3), (2, 1, 1), (2, 2, 1)):
                refused = deaf.refused
                relay.add(lines(handle, first, count))

                async def was_refused(before: int = refused) -> bool:
                    return deaf.refused > before and relay._bytes == 0

                await until(was_refused, PATIENCE)
            relay.use(None)
        async with taking(servicer) as stub:
            relay.add(lines(1, 4, 1))
            relay.use(stub)
            await ended(relay, task)
    said = "lines are missing here: no coordinator took them"
    told = [
        (batch.lease.step, each.number, each.text)
        for request in servicer.requests
        for batch in request.batches
        for each in batch.records
    ]
    assert sorted(told) == [(1, 3, f"3 {said}"), (1, 4, "x"), (2, 2, f"2 {said}")]
    assert len([each for each in caplog.records if each.getMessage() == "log_lines_dropped"]) == 1


async def test_an_agent_leaves_although_its_coordinator_takes_no_lines() -> None:
    relay = new_relay(1)
    relay.add(lines(1, 1, 3))
    async with taking(Deaf()) as stub:
        with running(relay) as task:
            relay.use(stub)
            await ended(relay, task)
    assert relay._bytes == 0


class Disowning(Taking):
    """Refuses lines of a run that another coordinator has."""

    def __init__(self, run_id: bytes) -> None:
        super().__init__()
        self.run_id = run_id
        self.refused = 0

    async def PushLogs(self, request_iterator: AsyncIterator[wire.PushLogsRequest], context: Any) -> Any:
        await context.send_initial_metadata((("penstock-log-lines", "taken"),))
        async for request in request_iterator:
            if any(batch.lease.run_id == self.run_id for batch in request.batches):
                self.refused += 1
                await context.abort_with_status(_moved(self.run_id))
            self.requests.append(request)
        self.answered += 1
        return wire.PushLogsResponse()


def _moved(run_id: bytes) -> Any:
    info = error_details_pb2.ErrorInfo(reason="RUN_MOVED", metadata={"run_id": str(uuid.UUID(bytes=run_id))})
    packed = any_pb2.Any()
    packed.Pack(info)
    return rpc_status.to_status(status_pb2.Status(code=code_pb2.Code.Value("UNAVAILABLE"), details=[packed]))


MEMBER = 3
HERE, THERE = b"h" * 16, b"t" * 16


def linked_relay(links: dict[int, int | None]) -> LogRelay:
    """`links`: by handle. Attempts 1 and 2 are of one run each."""
    relay = LogRelay("agent", chance=lambda: 0.0, link_of=links.get)
    for handle, run_id in ((1, HERE), (2, THERE)):
        relay.introduce(handle, wire.LeaseRef(run_id=run_id, step=handle, token=9), 1)
    relay.keep_links([MEMBER])
    return relay


def runs_of(servicer: Taking) -> list[bytes]:
    return [batch.lease.run_id for request in servicer.requests for batch in request.batches]


async def test_lines_go_to_whom_the_lease_is_held_by_and_to_the_next_one_from_then_on() -> None:
    links: dict[int, int | None] = {1: HOME, 2: MEMBER}
    relay, head, member = linked_relay(links), Taking(), Taking()
    async with taking(head) as home, taking(member) as link:
        with running(relay) as task:
            relay.use(home)
            relay.use(link, MEMBER)
            relay.add(lines(1, 1, 1))
            relay.add(lines(2, 1, 1))

            async def came() -> bool:
                return bool(head.requests and member.requests)

            await until(came, PATIENCE)
            relay.use(None, MEMBER)
            relay.add(lines(2, 2, 1))
            links[2] = HOME
            relay.sort()
            await ended(relay, task)
    assert (runs_of(member), member.numbers) == ([THERE], [1])
    assert set(runs_of(head)) == {HERE, THERE}
    theirs = [batch for request in head.requests for batch in request.batches if batch.lease.run_id == THERE]
    assert theirs[-1].records[-1].number == 2


async def test_lines_of_a_run_that_has_moved_go_to_the_next_one_and_hold_up_no_others() -> None:
    """The lease is over: who has its run is to be found."""
    relay, head, member = linked_relay({1: HOME, 2: None}), Disowning(THERE), Taking()
    relay.add(lines(1, 1, 2))
    relay.add(lines(2, 1, 3))
    async with taking(head) as home, taking(member) as link:
        with running(relay) as task:
            relay.use(home)
            relay.use(link, MEMBER)

            async def came() -> bool:
                return bool(head.requests and member.requests)

            await until(came, PATIENCE)
            await ended(relay, task)
    assert (set(runs_of(head)), set(head.numbers)) == ({HERE}, {1, 2})
    assert (runs_of(member), member.numbers) == ([THERE], [1, 2, 3])
    assert relay._bytes == 0


async def test_lines_of_a_run_that_is_nobodys_wait_until_it_is_somebodys() -> None:
    links: dict[int, int | None] = {1: HOME, 2: HOME}
    relay, head, member = linked_relay(links), Disowning(THERE), Taking()
    relay.add(lines(1, 1, 2))
    relay.add(lines(2, 1, 3))
    async with taking(head) as home, taking(member) as link:
        with running(relay) as task:
            relay.use(home)
            relay.use(link, MEMBER)

            async def others_came() -> bool:
                return set(head.numbers) == {1, 2}

            await until(others_came, PATIENCE)
            links[2] = MEMBER
            relay.sort()
            await ended(relay, task)
    assert head.refused == 1
    assert (runs_of(member), member.numbers) == ([THERE], [1, 2, 3])


async def test_lines_that_were_nobodys_are_not_lost_when_the_agent_leaves() -> None:
    """Their lease is over by then."""
    links: dict[int, int | None] = {2: NOBODY}
    relay, head = linked_relay(links), Taking()
    async with taking(head) as home:
        with running(relay) as task:
            relay.use(home)
            relay.add(lines(2, 1, 3))
            links[2] = None
            await ended(relay, task)
    assert (runs_of(head), head.numbers) == ([THERE], [1, 2, 3])


async def test_lines_for_one_that_is_away_hold_up_no_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relays, "HELD_UP", 3_600.0)  # the look is that of this test alone
    monkeypatch.setattr(relays, "FULL_BYTES", 50_000)
    monkeypatch.setattr(relays, "ROOM_BYTES", 25_000)
    relay, head = linked_relay({1: HOME, 2: MEMBER}), Taking()
    async with taking(head) as home:
        with running(relay) as task:
            relay.use(home)
            for number in range(1, 61):
                relay.add(lines(2, number, 1, 1_000))
            relay.add(lines(1, 1, 1))
            full = relay.is_full
            relay._drop_if_stuck(relay._taken)
            assert (full, relay.is_full) == (True, False)
            await ended(relay, task)
    assert runs_of(head) == [HERE]
    assert relay.lines_waiting > 0

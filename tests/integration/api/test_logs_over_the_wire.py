"""Log lines from an agent's stream to whoever follows them."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Sequence
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from tests.integration.api.answers import refused
from tests.integration.api.conftest import PATIENCE, Edge, on_postgres, spec
from tests.integration.runtime.scripted_agent import ScriptedAgent
from tests.waiting import until

from penstock.agent.v1 import agent_service_pb2 as wire
from penstock.v1 import run_pb2
from penstock.v1 import run_service_pb2 as pb
from penstock_coordinator.api import log_reader
from penstock_coordinator.ports import LogFilter

TWO_STEPS = spec({"name": "a"}, {"name": "b", "depends_on": ["a"]})
MAPPED = spec({"name": "m", "map": {"values": [1, 2]}})


def batch(grant: wire.LeaseGrant, *texts: str, first: int = 1, **changes: Any) -> wire.LogBatch:
    records = [
        wire.LogRecord(
            number=first + number, source=wire.LOG_SOURCE_STDOUT, text=text, offset=Duration(nanos=number * 1_000_000)
        )
        for number, text in enumerate(texts)
    ]
    made = wire.LogBatch(lease=grant.lease, attempt=grant.attempt, records=records)
    for name, value in changes.items():
        setattr(made, name, value)
    return made


class Pusher:
    """One stream of an agent."""

    def __init__(self, edge: Edge, agent_id: str = "agent-1") -> None:
        self._call = edge.agent_service.PushLogs(timeout=PATIENCE)
        self._agent_id = agent_id

    async def push(self, *batches: wire.LogBatch) -> None:
        await self._call.write(wire.PushLogsRequest(agent_id=self._agent_id, batches=batches))

    async def end(self) -> int:
        await self._call.done_writing()
        return (await self._call).accepted_lines


async def push(edge: Edge, *batches: wire.LogBatch, agent_id: str = "agent-1") -> int:
    pusher = Pusher(edge, agent_id)
    await pusher.push(*batches)
    return await pusher.end()


async def tail(edge: Edge, run: run_pb2.Run, **fields: Any) -> list[pb.LogLine]:
    call = edge.runs.TailLogs(pb.TailLogsRequest(run_id=run.id, **fields), timeout=PATIENCE)
    return [line async for response in call for line in response.lines]


def texts(lines: Sequence[pb.LogLine]) -> list[str]:
    return [line.text for line in lines]


async def test_lines_are_kept_in_the_order_of_their_coming(edge: Edge) -> None:
    agent = await edge.agent()
    run = await edge.start(TWO_STEPS)
    first = await agent.grant()
    assert await push(edge, batch(first, "one", "two"), batch(first, "three", first=3)) == 3
    await agent.succeed(first)
    second = await agent.grant()
    assert await push(edge, batch(second, "four")) == 1
    lines = await tail(edge, run)
    assert texts(lines) == ["one", "two", "three", "four"]
    assert [line.step for line in lines] == ["a", "a", "a", "b"]
    assert [line.number for line in lines] == [1, 2, 3, 1]
    assert lines[1].offset.ToMilliseconds() == 1
    assert {line.attempt for line in lines} == {1}
    assert {line.stream for line in lines} == {pb.LOG_STREAM_STDOUT}
    assert all(line.HasField("receive_time") for line in lines)
    assert texts(await tail(edge, run, step="b")) == ["four"]
    assert texts(await tail(edge, run, attempt=2)) == []
    assert texts(await tail(edge, run, tail_lines=2)) == ["three", "four"]
    assert texts(await tail(edge, run, tail_lines=1_000)) == ["one", "two", "three", "four"]


async def test_a_stream_that_is_not_refused_is_told_so_before_its_first_line(edge: Edge) -> None:
    call = edge.agent_service.PushLogs(timeout=PATIENCE)
    assert ("penstock-log-lines", "taken") in tuple(await call.initial_metadata())
    call.cancel()


async def test_the_last_lines_are_found_among_many_chunks(edge: Edge) -> None:
    agent = await edge.agent()
    run = await edge.start(TWO_STEPS)
    grant = await agent.grant()
    await push(edge, *(batch(grant, f"line {number}", first=number) for number in range(1, 201)))
    assert texts(await tail(edge, run, tail_lines=150)) == [f"line {number}" for number in range(51, 201)]


async def test_items_of_a_map_have_logs_of_their_own(edge: Edge) -> None:
    agent = await edge.agent()
    run = await edge.start(MAPPED)
    grants = sorted([await agent.grant() for _ in range(2)], key=lambda grant: grant.lease.item)
    for grant in grants:
        await push(edge, batch(grant, f"item {grant.lease.item}"))
    assert texts(await tail(edge, run, step="m")) == ["item 0", "item 1"]
    (line,) = await tail(edge, run, step="m", item=[1])
    assert (line.text, list(line.item)) == ("item 1", [1])


async def test_a_follower_sees_lines_as_they_come_until_the_run_is_at_rest(
    edge: Edge, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also one that nobody has told of, if it is not too late. What a busy machine makes too late is tried again."""
    agent = await edge.agent()
    for late_seconds in (log_reader.LATE_SECONDS, 10.0, 50.0):
        monkeypatch.setattr(log_reader, "LATE_SECONDS", late_seconds)
        if late := await seen_after_the_end(edge, agent):
            break
    assert late == ["late"]


async def seen_after_the_end(edge: Edge, agent: ScriptedAgent) -> list[str]:
    run = await edge.start(TWO_STEPS)
    first = await agent.grant()
    pusher = Pusher(edge)
    await pusher.push(batch(first, "one"))
    call = edge.runs.TailLogs(pb.TailLogsRequest(run_id=run.id, follow=True), timeout=PATIENCE)
    seen = iter_texts(call)
    assert await anext(seen) == "one"
    await pusher.push(batch(first, "two", first=2))
    assert await anext(seen) == "two"
    await agent.succeed(first)
    second = await agent.grant()
    await agent.succeed(second)
    await edge.watch(run)
    await pusher.push(batch(second, "late"))
    assert await pusher.end() == 3
    return await rest(seen)


async def test_a_follower_of_one_step_is_let_go_when_it_is_at_rest(edge: Edge) -> None:
    agent = await edge.agent()
    run = await edge.start(TWO_STEPS)
    first = await agent.grant()
    call = edge.runs.TailLogs(pb.TailLogsRequest(run_id=run.id, step="a", follow=True), timeout=PATIENCE)
    seen = iter_texts(call)
    await push(edge, batch(first, "one"))
    assert await anext(seen) == "one"
    await agent.succeed(first)
    assert [text async for text in seen] == []
    assert (await edge.get(run)).state == run_pb2.RUN_STATE_RUNNING


async def iter_texts(call: Any) -> AsyncIterator[str]:
    async for response in call:
        for line in response.lines:
            yield line.text


async def test_following_what_is_at_rest_ends_at_once(edge: Edge) -> None:
    agent = await edge.agent()
    run = await edge.start(spec({"name": "a"}))
    grant = await agent.grant()
    await push(edge, batch(grant, "one"))
    await agent.succeed(grant)
    await edge.watch(run)
    assert texts(await tail(edge, run, follow=True)) == ["one"]
    assert texts(await tail(edge, run, step="a", follow=True, tail_lines=1)) == ["one"]


async def test_lines_that_are_sent_again_are_taken_once(edge: Edge) -> None:
    agent = await edge.agent()
    run = await edge.start(TWO_STEPS)
    grant = await agent.grant()
    assert await push(edge, batch(grant, "one", "two")) == 2
    assert await push(edge, batch(grant, "two", "three", first=2)) == 1
    assert texts(await tail(edge, run)) == ["one", "two", "three"]


async def test_lines_of_strangers_are_dropped(edge: Edge) -> None:
    agent = await edge.agent()
    run = await edge.start(MAPPED)
    grant = await agent.grant()
    unknown_run, unknown_step, unknown_item = (batch(grant, "x") for _ in range(3))
    unknown_run.lease.run_id = uuid.uuid4().bytes
    unknown_step.lease.step = 7
    unknown_item.lease.item = 5
    assert await push(edge, unknown_run, unknown_step, unknown_item) == 0
    assert await push(edge, batch(grant, "x"), agent_id="agent-2") == 0
    assert texts(await tail(edge, run)) == []


@pytest.mark.parametrize(
    ("field", "change"),
    [
        ("batches[0].lease.run_id", lambda made: setattr(made.lease, "run_id", b"short")),
        ("batches[0].lease", lambda made: setattr(made.lease, "item", -2)),
        ("batches[0].lease", lambda made: setattr(made.lease, "step", 2**32 - 1)),
        ("batches[0].attempt", lambda made: setattr(made, "attempt", 0)),
        ("batches[0].records[0].number", lambda made: setattr(made.records[0], "number", 0)),
        ("batches[0].records[0].number", lambda made: setattr(made.records[0], "number", 2**64 - 1)),
        ("batches[0].records[0].source", lambda made: setattr(made.records[0], "source", 0)),
        ("batches[0].records[0].source", lambda made: setattr(made.records[0], "source", 99)),
        ("batches[0].records[0].offset", lambda made: setattr(made.records[0].offset, "seconds", -1)),
    ],
)
async def test_malformed_lines_are_refused_by_field(edge: Edge, field: str, change: Any) -> None:
    agent = await edge.agent()
    await edge.start(TWO_STEPS)
    made = batch(await agent.grant(), "x")
    change(made)
    answer = await refused(push(edge, made))
    assert answer.code is grpc.StatusCode.INVALID_ARGUMENT
    assert list(answer.violations) == [field]


async def test_an_agent_must_name_itself(edge: Edge) -> None:
    assert list((await refused(push(edge, agent_id=""))).violations) == ["agent_id"]


@on_postgres
async def test_late_lines_of_an_ended_run_are_kept(edge: Edge) -> None:
    agent = await edge.agent()
    run = await edge.start(spec({"name": "a"}))
    grant = await agent.grant()
    await agent.succeed(grant)
    await edge.watch(run)
    other = batch(grant, "x")
    other.lease.step = 3
    assert await push(edge, batch(grant, "late\0 and 😀"), other) == 1
    assert texts(await tail(edge, run, follow=True)) == ["late\0 and 😀"]


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"tail_lines": -1}, "tail_lines"),
        ({"tail_lines": 10_001}, "tail_lines"),
        ({"attempt": -1}, "attempt"),
        ({"item": [0]}, "item"),
        ({"step": "nope"}, "step"),
        ({"step": "m", "item": [9]}, "item"),
    ],
)
async def test_a_wrong_question_is_refused_by_field(edge: Edge, fields: dict[str, Any], field: str) -> None:
    run = await edge.start(MAPPED)
    assert field in (await refused(tail(edge, run, **fields))).violations


async def test_a_follower_is_told_when_the_coordinator_stops(edge: Edge) -> None:
    run = await edge.start(TWO_STEPS)
    following = asyncio.create_task(refused(tail(edge, run, follow=True)))
    watching = asyncio.create_task(refused(edge.watch(run)))

    async def followed() -> bool:
        return bool(edge.backend.hub._followers)

    await until(followed)
    # Also if lines are still to come: it is not here that they come.
    edge.backend.hub.expect((uuid.UUID(run.id).bytes, 0, -1, 1), 1)
    await edge.backend.supervisor.stop()
    for waiting in (following, watching):
        assert (await waiting).code is grpc.StatusCode.UNAVAILABLE


async def test_lines_stay_with_their_places_when_lists_come_in_another_order(edge: Edge) -> None:
    agent = await edge.agent()
    nested = spec(
        {"name": "a", "map": {"values": [1, 2]}},
        {"name": "b", "map": {"step": {"step": "a"}, "nested": {}}},
    )
    run = await edge.start(nested)
    for generation, order in enumerate(([0, 1], [1, 0]), 1):
        first = {next(iter(grant.place)): grant for grant in [await agent.grant(), await agent.grant()]}
        later = []
        for item in order:
            await agent.succeed(first[item], b"[7]")
            later.append(await agent.grant())
        for grant in later:
            assert await push(edge, batch(grant, f"{grant.display_name} {generation}")) == 1
            await agent.succeed(grant)
        await edge.watch(run)
        if generation == 1:
            request = pb.RerunStepRequest(run_id=run.id, step="a")
            await edge.runs.RerunStep(request, timeout=PATIENCE)
    for owner in (0, 1):
        lines = await tail(edge, run, step="b", item=[owner, 0])
        assert texts(lines) == [f"b[{owner}][0] 1", f"b[{owner}][0] 2"]
        assert [line.attempt for line in lines] == [1, 2]
    everything = await tail(edge, run, step="b")
    assert all(line.text.startswith(f"b[{line.item[0]}][0] ") for line in everything)


async def responses(edge: Edge, run: run_pb2.Run, **fields: Any) -> list[pb.TailLogsResponse]:
    call = edge.runs.TailLogs(pb.TailLogsRequest(run_id=run.id, **fields), timeout=PATIENCE)
    return [response async for response in call]


async def test_lines_are_searched_for_a_text(edge: Edge) -> None:
    agent = await edge.agent()
    run = await edge.start(TWO_STEPS)
    grant = await agent.grant()
    await push(edge, batch(grant, "a Needle", "hay", "needles"), batch(grant, "hay", "NEEDLE", first=4))
    assert texts(await tail(edge, run, contains="needle")) == ["needles"]
    assert texts(await tail(edge, run, contains="needle", ignore_case=True)) == ["a Needle", "needles", "NEEDLE"]
    assert texts(await tail(edge, run, contains="[a-z]")) == []
    assert texts(await tail(edge, run, contains="needle", tail_lines=2)) == []
    await agent.succeed(grant)
    second = await agent.grant()
    await push(edge, batch(second, "needle of another step"))
    assert texts(await tail(edge, run, step="b", contains="needle")) == ["needle of another step"]


async def test_a_search_follows(edge: Edge) -> None:
    agent = await edge.agent()
    run = await edge.start(spec({"name": "a"}))
    grant = await agent.grant()
    await push(edge, batch(grant, "needle 1", "hay"))
    call = edge.runs.TailLogs(pb.TailLogsRequest(run_id=run.id, follow=True, contains="needle"), timeout=PATIENCE)
    seen = iter_texts(call)
    assert await anext(seen) == "needle 1"
    await push(edge, batch(grant, "hay", "needle 2", first=3))
    assert await anext(seen) == "needle 2"
    await agent.succeed(grant)
    assert [text async for text in seen] == []


async def test_a_search_stops_and_goes_on(edge: Edge, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_reader, "SEARCHED_LINES", 30)
    monkeypatch.setattr(log_reader, "READ_CHUNKS", 3)
    agent = await edge.agent()
    run = await edge.start(TWO_STEPS)
    grant = await agent.grant()
    await push(edge, *(batch(grant, f"line {number}", "hay", first=2 * number) for number in range(1, 51)))
    found: list[str] = []
    position = calls = 0
    while True:
        answers = await responses(edge, run, contains="line", after_position=position)
        found += [line.text for answer in answers for line in answer.lines]
        calls += 1
        if not answers[-1].stopped_after_lines:
            break
        assert answers[-1].stopped_after_lines == 30
        position = answers[-1].position
    assert found == [f"line {number}" for number in range(1, 51)]
    assert calls == 4
    assert len(await tail(edge, run)) == 100, "it is the search that is bounded"


async def test_a_reader_goes_on_from_the_position_it_was_told(edge: Edge) -> None:
    agent = await edge.agent()
    run = await edge.start(TWO_STEPS)
    grant = await agent.grant()
    await push(edge, batch(grant, "one"), batch(grant, "two", first=2))
    *_, last = await responses(edge, run)
    await push(edge, batch(grant, "three", first=3))
    assert texts(await tail(edge, run, after_position=last.position)) == ["three"]
    call = edge.runs.TailLogs(
        pb.TailLogsRequest(run_id=run.id, after_position=last.position, follow=True), timeout=PATIENCE
    )
    seen = iter_texts(call)
    assert await anext(seen) == "three"
    call.cancel()


async def test_lines_since_an_instant(edge: Edge) -> None:
    agent = await edge.agent()
    run = await edge.start(TWO_STEPS)
    grant = await agent.grant()
    await push(edge, batch(grant, "old"))
    (old,) = await tail(edge, run)
    await push(edge, batch(grant, "new", first=2))
    lines = await tail(edge, run)
    assert texts(await tail(edge, run, since=lines[1].receive_time)) == ["new"]
    assert texts(await tail(edge, run, since=old.receive_time)) == ["old", "new"]
    assert texts(await tail(edge, run, since=lines[1].receive_time, tail_lines=5)) == ["new"]


async def rest(seen: AsyncIterator[str]) -> list[str]:
    return [text async for text in seen]


async def test_whoever_follows_waits_for_lines_that_are_known_to_come(edge: Edge) -> None:
    agent = await edge.agent()
    run = await edge.start(spec({"name": "a"}))
    grant = await agent.grant()
    await push(edge, batch(grant, "one"))
    call = edge.runs.TailLogs(pb.TailLogsRequest(run_id=run.id, follow=True), timeout=PATIENCE)
    seen = iter_texts(call)
    assert await anext(seen) == "one"
    hub = edge.backend.hub
    await agent.succeed(grant, log_lines=2)
    await edge.watch(run)
    where = LogFilter()
    assert hub.expects(uuid.UUID(run.id).bytes, where)
    more = asyncio.create_task(rest(seen))
    await asyncio.wait({more}, timeout=1.5 * log_reader.LATE_SECONDS)
    assert not more.done(), "so long it waits for what nobody has told of"
    await push(edge, batch(grant, "two", first=2))
    assert await more == ["two"]
    assert not hub.expects(uuid.UUID(run.id).bytes, where)


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"contains": "x" * 1_001}, "contains"),
        ({"after_position": -1}, "after_position"),
        ({"after_position": 1, "tail_lines": 1}, "after_position"),
        ({"since": Timestamp(seconds=-1)}, "since"),
    ],
)
async def test_a_wrong_search_is_refused_by_field(edge: Edge, fields: dict[str, Any], field: str) -> None:
    run = await edge.start(MAPPED)
    assert field in (await refused(tail(edge, run, **fields))).violations

"""Places of items in requests, answers and events."""

from __future__ import annotations

from typing import TYPE_CHECKING

import grpc
import pytest
from tests.integration.api.answers import refused
from tests.integration.api.conftest import spec
from tests.integration.api.test_logs_over_the_wire import batch, push, tail

from penstock.v1 import run_pb2
from penstock.v1 import run_service_pb2 as pb

if TYPE_CHECKING:
    from tests.integration.api.conftest import Edge

NESTED = spec(
    {
        "name": "a",
        "map": {"values": [1, 2]},
        "command": {"argv": ["true"], "outputs": [{"name": "rows", "stdout": True}]},
    },
    {"name": "b", "map": {"step": {"step": "a"}, "nested": {"path": ["rows"]}}},
    {"name": "c", "map": {"step": {"step": "b"}}},
)


async def finished(edge: Edge) -> run_pb2.Run:
    """`b` has the items [1][0], [0][0] and [0][1], in this order."""
    agent = await edge.agent()
    run = await edge.start(NESTED)
    first = {grant.display_name: grant for grant in [await agent.grant() for _ in range(2)]}
    await agent.acked(await agent.succeed(first["a[1]"], b'{"rows": [5]}'))
    await agent.acked(await agent.succeed(first["a[0]"], b'{"rows": [6, 7]}'))
    for _ in range(6):
        grant = await agent.grant()
        await agent.succeed(grant, f'"{grant.display_name}"'.encode())
    await edge.watch(run)
    return run


async def test_items_have_places_in_answers(edge: Edge) -> None:
    run = await finished(edge)
    request = pb.ListStepRunsRequest(run_id=run.id, step="c", page_size=2)
    names = []
    while True:
        page = await edge.runs.ListStepRuns(request)
        names += [(each.display_name, list(each.item)) for each in page.step_runs]
        if not page.next_page_token:
            break
        request.page_token = page.next_page_token
    assert names == [("c[1][0]", [1, 0]), ("c[0][0]", [0, 0]), ("c[0][1]", [0, 1])]
    item = await edge.runs.GetStepRun(pb.GetStepRunRequest(run_id=run.id, step="b", item=[0, 1]))
    assert (item.step_run.display_name, item.step_run.output_json) == ("b[0][1]", '"b[0][1]"')
    whole = await edge.runs.GetStepRun(pb.GetStepRunRequest(run_id=run.id, step="c"))
    assert whole.step_run.output_json == '[["c[0][0]","c[0][1]"],["c[1][0]"]]'


@pytest.mark.parametrize(
    ("step", "item", "code", "remedy"),
    [
        ("b", [0, 2], grpc.StatusCode.NOT_FOUND, "no such item"),
        ("b", [0], grpc.StatusCode.INVALID_ARGUMENT, "give 2 numbers"),
        ("a", [0, 0], grpc.StatusCode.INVALID_ARGUMENT, "give one number"),
        ("b", [0, -1], grpc.StatusCode.INVALID_ARGUMENT, "between 0 and"),
    ],
)
async def test_wrong_places_are_refused(
    edge: Edge, step: str, item: list[int], code: grpc.StatusCode, remedy: str
) -> None:
    run = await finished(edge)
    answer = await refused(edge.runs.GetStepRun(pb.GetStepRunRequest(run_id=run.id, step=step, item=item)))
    assert answer.code is code
    assert remedy in answer.violations["item"]


async def test_a_watch_tells_the_same_places_wherever_it_begins(edge: Edge) -> None:
    run = await finished(edge)
    events = await edge.watch(run)
    changes = [(each.step, list(each.item), each.item_count) for event in events for each in event.steps if each.item]
    assert ("b", [1, 0], 1) in changes
    assert ("b", [0, 0], 2) in changes
    for first in range(2, len(events) + 1):
        assert await edge.watch(run, first) == events[first - 1 :]


async def test_lines_of_items_have_places(edge: Edge) -> None:
    agent = await edge.agent()
    run = await edge.start(NESTED)
    first = {grant.display_name: grant for grant in [await agent.grant() for _ in range(2)]}
    await agent.acked(await agent.succeed(first["a[1]"], b'{"rows": [5]}'))
    inner = await agent.grant()
    assert inner.display_name == "b[1][0]"
    await push(edge, batch(first["a[0]"], "outer"), batch(inner, "inner"))
    assert {(line.text, tuple(line.item)) for line in await tail(edge, run)} == {("outer", (0,)), ("inner", (1, 0))}
    (line,) = await tail(edge, run, step="b", item=[1, 0])
    assert line.text == "inner"

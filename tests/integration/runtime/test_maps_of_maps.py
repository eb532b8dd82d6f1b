"""Maps over maps: what agents get as items, and what readers see of them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from tests.integration.runtime.test_runs import spec

from penstock_coordinator.core.run.states import RunState, StepState
from penstock_coordinator.runtime.views import UnknownStepRun

if TYPE_CHECKING:
    from tests.integration.runtime.conftest import Coordinator, World
    from tests.integration.runtime.scripted_agent import ScriptedAgent

    from penstock.agent.v1 import agent_service_pb2 as wire

ITEM: dict[str, object] = {"i": {"item": {}}}
A: dict[str, object] = {"name": "a", "map": {"values": [1, 2]}, "inputs": ITEM}


async def granted(agent: ScriptedAgent, count: int) -> dict[str, wire.LeaseGrant]:
    return {grant.display_name: grant for grant in [await agent.grant() for _ in range(count)]}


async def test_item_by_item_hands_each_output_on(world: World) -> None:
    coordinator = await world.coordinator()
    agent = coordinator.agent(slots=8)
    await agent.connect(credits=100)
    part: dict[str, object] = {"i": {"item": {"path": ["v"]}}, "all": {"step": {"step": "a"}}}
    run_id = await coordinator.start(
        spec(
            {**A, "allowFailure": True},
            {"name": "b", "map": {"step": {"step": "a"}}, "inputs": ITEM},
            # Names `a` elsewhere too: waits for all of it.
            {"name": "c", "map": {"step": {"step": "a"}}, "inputs": part, "when": "item != null"},
        )
    )
    first = await granted(agent, 2)
    await agent.acked(await agent.succeed(first["a[1]"], b'{"v": [7]}'))
    second = await agent.grant()
    assert (second.display_name, list(second.place), dict(second.inputs)) == ("b[1]", [1], {"i": b'{"v": [7]}'})
    await agent.acked(await agent.fail(first["a[0]"]))
    rest = await granted(agent, 2)
    assert dict(rest["b[0]"].inputs) == {"i": b"null"}
    assert dict(rest["c[1]"].inputs) == {"i": b"[7]", "all": b'[null,{"v": [7]}]'}
    for grant in (second, *rest.values()):
        await agent.succeed(grant)
    assert (await coordinator.ended(run_id)).row.state == RunState.COMPLETED


NESTED = spec(
    A,
    {"name": "b", "map": {"step": {"step": "a"}, "nested": {"path": ["rows"]}}, "inputs": ITEM},
    {"name": "c", "map": {"step": {"step": "b"}}, "inputs": ITEM},
    {"name": "d", "map": {"step": {"step": "b"}, "nested": {}}, "inputs": ITEM},
    {"name": "j", "inputs": {"b": {"step": {"step": "b"}}, "one": {"step": {"step": "b", "path": ["0", "1", "0"]}}}},
)


async def play_nested(coordinator: Coordinator, agent: ScriptedAgent) -> bytes:
    run_id = await coordinator.start(NESTED)
    first = await granted(agent, 2)
    await agent.acked(await agent.succeed(first["a[1]"], b'{"rows": ["x"]}'))
    await agent.acked(await agent.succeed(first["a[0]"], b'{"rows": ["y", {"z": 1}]}'))
    second = await granted(agent, 3)
    assert {name: grant.inputs["i"] for name, grant in second.items()} == {
        "b[1][0]": b'"x"',
        "b[0][0]": b'"y"',
        "b[0][1]": b'{"z":1}',
    }
    assert list(second["b[0][1]"].place) == [0, 1]
    await agent.acked(await agent.succeed(second["b[0][0]"], b"[]"))
    await agent.acked(await agent.succeed(second["b[1][0]"], b"[5]"))
    await agent.acked(await agent.succeed(second["b[0][1]"], b'["p", "q"]'))
    third = await granted(agent, 7)
    assert third["c[0][1]"].inputs["i"] == b'["p", "q"]'
    assert {name: third[name].inputs["i"] for name in third if name.startswith("d")} == {
        "d[1][0][0]": b"5",
        "d[0][1][0]": b'"p"',
        "d[0][1][1]": b'"q"',
    }
    assert dict(third["j"].inputs) == {"b": b'[[[],["p", "q"]],[[5]]]', "one": b'"p"'}
    for grant in third.values():
        await agent.succeed(grant, json.dumps(grant.display_name).encode())
    assert (await coordinator.ended(run_id)).row.state == RunState.COMPLETED
    return run_id


async def test_nested_maps_have_places_of_several_levels(world: World) -> None:
    coordinator = await world.coordinator()
    agent = coordinator.agent(slots=16)
    await agent.connect(credits=100)
    run_id = await play_nested(coordinator, agent)
    engine = coordinator.engine
    whole, _ = await engine.step_run(run_id, 3, -1)
    assert json.loads(whole.output or b"") == [[[], ["d[0][1][0]", "d[0][1][1]"]], [["d[1][0][0]"]]]
    item = await engine.item_at(run_id, 3, (0, 1, 1))
    found, _ = await engine.step_run(run_id, 3, item)
    assert (found.place, found.output) == ((0, 1, 1), b'"d[0][1][1]"')
    listed = await engine.step_runs(run_id, 1, frozenset(), None, 10)
    assert [view.place for view in listed] == [(1, 0), (0, 0), (0, 1)]
    for wrong in ((0, 2), (0, 1, 2), (2, 0, 0)):
        with pytest.raises(UnknownStepRun):
            await engine.item_at(run_id, 3, wrong)


async def test_items_are_found_again_after_a_restart(world: World) -> None:
    """Nothing of outputs is in memory then: they are read from the database, item by item."""
    coordinator = await world.coordinator()
    agent = coordinator.agent(slots=2)
    await agent.connect(credits=2)
    run_id = await coordinator.start(NESTED)
    first = await granted(agent, 2)
    await agent.acked(await agent.succeed(first["a[1]"], b'{"rows": ["x"]}'))
    await agent.acked(await agent.succeed(first["a[0]"], b'{"rows": ["y", "z"]}'))
    await coordinator.kill()
    coordinator = await world.coordinator()
    agent = coordinator.agent(slots=16)
    await agent.connect(credits=100)
    second = await granted(agent, 3)
    assert {name: grant.inputs["i"] for name, grant in second.items()} == {
        "b[1][0]": b'"x"',
        "b[0][0]": b'"y"',
        "b[0][1]": b'"z"',
    }
    assert [view.place for view in await coordinator.engine.step_runs(run_id, 1, frozenset(), None, 9)] == [
        (1, 0),
        (0, 0),
        (0, 1),
    ]


async def test_a_group_without_a_list_tells_why(world: World) -> None:
    coordinator = await world.coordinator()
    agent = coordinator.agent(slots=8)
    await agent.connect(credits=100)
    run_id = await coordinator.start(NESTED)
    first = await granted(agent, 2)
    await agent.acked(await agent.succeed(first["a[0]"], b'{"row": []}'))
    await agent.acked(await agent.succeed(first["a[1]"], b'{"rows": []}'))
    view = await coordinator.ended(run_id)
    why = "cannot map over the output of \"a[0]\" at \"rows\": there is no 'rows': it is an object with 'row'"
    assert (view.row.state, view.row.reason) == (RunState.FAILED, f'step "b" failed: Map: {why}')
    whole, _ = await coordinator.engine.step_run(run_id, 1, -1)
    assert whole.state == StepState.FAILED
    assert whole.failure is not None
    assert (whole.failure.reason, whole.failure.message) == ("Map", why)


async def test_products_and_zips(world: World) -> None:
    coordinator = await world.coordinator()
    agent = coordinator.agent(slots=16)
    await agent.connect(credits=100)
    lists = [{"name": "x", "values": [1, 2]}, {"name": "y", "parameter": "letters"}]
    inputs = {"x": {"item": {"path": ["x"]}}, "both": {"item": {}}}
    parameters = [{"name": "letters", "type": "PARAMETER_TYPE_LIST", "default": ["a", "b"]}]
    run_id = await coordinator.start(
        spec(
            {"name": "p", "map": {"lists": lists}, "inputs": inputs},
            {"name": "z", "map": {"lists": lists, "combination": "MAP_COMBINATION_ZIP"}, "inputs": inputs},
            parameters=parameters,
        ),
        b'{"letters": ["a", "b"]}',
    )
    grants = await granted(agent, 6)
    both = {name: grant.inputs["both"] for name, grant in grants.items()}
    assert [both[f"p[{at}]"] for at in range(4)] == [
        b'{"x":1,"y":"a"}',
        b'{"x":1,"y":"b"}',
        b'{"x":2,"y":"a"}',
        b'{"x":2,"y":"b"}',
    ]
    assert [both[f"z[{at}]"] for at in range(2)] == [b'{"x":1,"y":"a"}', b'{"x":2,"y":"b"}']
    assert grants["p[2]"].inputs["x"] == b"2"
    for grant in grants.values():
        await agent.succeed(grant)
    assert (await coordinator.ended(run_id)).row.state == RunState.COMPLETED


async def test_differences_are_told_by_places(world: World) -> None:
    """The lists come in another order, so the same places have other numbers."""
    coordinator = await world.coordinator()
    agent = coordinator.agent(slots=8)
    await agent.connect(credits=100)
    runs = []
    pipeline = spec(A, {"name": "b", "map": {"step": {"step": "a"}, "nested": {}}, "inputs": ITEM})
    orders: list[list[str]] = [["a[0]", "a[1]"], ["a[1]", "a[0]"]]
    for order in orders:
        runs.append(await coordinator.start(pipeline))
        first = await granted(agent, 2)
        for name in order:
            await agent.acked(await agent.succeed(first[name], b'["x"]' if name == "a[0]" else b'["y", "z"]'))
        for name, grant in (await granted(agent, 3)).items():
            changed = name == "b[1][1]" and order[0] == "a[1]"
            await agent.succeed(grant, b"0" if changed else grant.inputs["i"])
        await coordinator.ended(runs[-1])
    found = await coordinator.engine.difference(*runs)
    (step,) = found.steps
    assert [(each.path, each.before, each.after) for each in step.changes if each.path.startswith("output[")] == [
        ("output[1][1]", b'"z"', b"0")
    ]


async def test_a_cancel_leaves_no_item_behind(world: World) -> None:
    coordinator = await world.coordinator()
    agent = coordinator.agent(slots=1)
    await agent.connect(credits=1)
    run_id = await coordinator.start(NESTED)
    await agent.acked(await agent.succeed(await agent.grant(), b'{"rows": ["y", "z"]}'))
    await coordinator.engine.cancel_run(run_id, True, "enough", None)
    view = await coordinator.ended(run_id)
    assert view.row.state == RunState.CANCELLED
    assert (view.counts.cancelled, view.counts.completed) == (len(["a[1]", "b", "b", "c", "c", "j"]), 1)
    views = await coordinator.engine.step_runs(run_id, None, frozenset(), None, 10)
    assert {view.state for view in views} == {StepState.CANCELLED}


TWICE = spec(
    A,
    {"name": "b", "map": {"step": {"step": "a"}, "nested": {}}, "inputs": ITEM},
    {"name": "c", "map": {"step": {"step": "b"}}, "inputs": ITEM},
)


async def _play_in_order(agent: ScriptedAgent, items: list[int], attempts: int) -> None:
    """The items of `a` end in this order."""
    first = await granted(agent, 2)
    for item in items:
        await agent.acked(await agent.succeed(first[f"a[{item}]"], b"[7]"))
    for _ in range(4):
        grant = await agent.grant()
        assert grant.attempt == attempts, grant.display_name
        await agent.acked(await agent.succeed(grant, json.dumps(f"{grant.display_name} {attempts}").encode()))


async def test_attempts_stay_with_their_places_when_lists_come_in_another_order(world: World) -> None:
    coordinator = await world.coordinator()
    agent = coordinator.agent(slots=16)
    await agent.connect(credits=1000)
    run_id = await coordinator.start(TWICE)
    times: dict[tuple[int, int], list[int]] = {}
    for generation, order in enumerate(([0, 1], [1, 0], [0, 1]), 1):
        if generation > 1:
            await coordinator.engine.rerun_step(run_id, 0, -1, "", "", None)
        await _play_in_order(agent, order, generation)
        assert (await coordinator.ended(run_id)).row.state == RunState.COMPLETED
        for step in (1, 2):
            for owner in (0, 1):
                item = await coordinator.engine.item_at(run_id, step, (owner, 0))
                view, attempts = await coordinator.engine.step_run(run_id, step, item)
                assert (view.place, view.attempts) == ((owner, 0), generation)
                assert [each.number for each in attempts] == list(range(1, generation + 1))
                before = times.setdefault((step, owner), [])
                assert [each.end_time for each in attempts[:-1]] == before
                before.append(attempts[-1].end_time)
        if generation == 2:
            await coordinator.kill()
            coordinator = await world.coordinator()
            agent = coordinator.agent(slots=16)
            await agent.connect(credits=1000)

"""Clients of a coordinator that sheds."""

from __future__ import annotations

import asyncio
import contextlib
from unittest.mock import patch

import grpc
from tests.integration.api.conftest import ONE_STEP, start_edge, stop_edge
from tests.integration.sdk.peer import Fault, Peer, retry_info

from penstock.client import calls
from penstock.client.client import Client
from penstock_coordinator.adapters.memory import MemoryDatabase, memory_stores
from penstock_coordinator.runtime.admission import Bounds
from penstock_coordinator.runtime.supervisor import Timing

CROWD = 50
PLACES = 20


async def test_fifty_clients_at_once_are_all_served_in_the_end_and_do_not_come_back_in_one_wave() -> None:
    """The coordinator has room for twenty runs that wait; an agent makes room as it goes on."""
    stores = memory_stores(MemoryDatabase(), coordinator_id="c1", lanes=1)
    edge = await start_edge(stores, timing=Timing(admission=Bounds(backlog=PLACES)))
    await edge.create(ONE_STEP)
    loop = asyncio.get_running_loop()
    again_at: list[float] = []
    """When those who were refused mean to come back: a busy machine lets some of them come together all the same."""
    crowd_has_come = asyncio.Event()
    wait_before = calls.wait_before

    def noted(attempt: int, error: BaseException | None) -> float:
        wait = wait_before(attempt, error)
        again_at.append(loop.time() + wait)
        if len(again_at) == CROWD - int(PLACES * 0.9):
            crowd_has_come.set()
        return wait

    agent = await edge.agent(slots=4, credits=4)

    async def work() -> None:
        done = 0
        while True:
            await agent.succeed(await agent.grant())
            done += 1
            await agent.more(4 + done)

    async with contextlib.AsyncExitStack() as stack, asyncio.timeout(100):
        stack.enter_context(patch.object(calls, "wait_before", noted))
        clients = [await stack.enter_async_context(Client(edge.server.address)) for _ in range(CROWD)]
        starting = [asyncio.create_task(client.start(ONE_STEP.name)) for client in clients]
        await crowd_has_come.wait()
        working = asyncio.create_task(work())
        runs = await asyncio.gather(*starting)
        assert len({run.id for run in runs}) == CROWD
        await asyncio.gather(*(run.wait() for run in runs))
        working.cancel()
    busiest = max(sum(start <= at < start + 0.05 for at in again_at) for start in again_at)
    assert busiest < CROWD // 2, f"{busiest} mean to come back within 50 ms"
    await stop_edge(edge)


async def test_a_watch_that_fell_behind_goes_on_where_it_broke_off(client: Client, peer: Peer) -> None:
    """The coordinator drops a slow reader with RESOURCE_EXHAUSTED and a delay: nobody who watches notices."""
    await client.create_pipeline(ONE_STEP)
    run = await client.start(ONE_STEP.name)
    peer.breaks.extend([2, 1])
    peer.fail("Watch", Fault(grpc.StatusCode.RESOURCE_EXHAUSTED, details=(retry_info(0.05),)))
    numbers = [event.number async for event in client.watch(run.id)]
    assert numbers == list(range(1, len(numbers) + 1))
    assert [request.from_event for request in peer.called("Watch")] == [1, 1, 3, 4]

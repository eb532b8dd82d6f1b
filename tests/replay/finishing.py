"""Brings everything that a chronicle left under way to its end, with the present coordinator."""

from __future__ import annotations

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from tests.integration.runtime.scripted_agent import ScriptedAgent

from penstock.agent.v1 import agent_service_pb2 as wire
from penstock_coordinator.core.run.states import RunState
from penstock_coordinator.runtime.history import rebuild

if TYPE_CHECKING:
    from tests.integration.runtime.conftest import Coordinator

    from penstock_coordinator.adapters.memory.database import MemoryDatabase
    from penstock_coordinator.core.run.state import Run

CREDITS = 10_000
PATIENCE = 5_000_000
"""Microseconds that a wait may take yet."""


async def finish(coordinator: Coordinator, database: MemoryDatabase) -> dict[bytes, RunState]:
    """What holds leases comes back with them; all that is paused is resumed; every attempt ends well; a run in which
    something would wait for long is cancelled. The states that the runs come to rest in."""
    runs = [actor.run for actor in coordinator.supervisor._actors.values()]
    held = _held(runs)
    async with contextlib.AsyncExitStack() as stack:
        for agent in held or {"agent-1": []}:
            known = database.agents.get(agent)
            boot_id = known.boot_id if known is not None else "boot-1"
            await stack.enter_async_context(_working(coordinator, boot_id, agent, held.get(agent, []), runs))
        for run in runs:
            if run.paused is not None and not run.paused.from_above:
                await coordinator.engine.resume_run(run.run_id, "somebody", None)
            if _waits_long(run, coordinator.supervisor.clock.now()):
                await coordinator.engine.cancel_run(run.run_id, False, "it would take too long", None)
        for run_id in list(database.runs):
            await coordinator.ended(run_id)
    ended = {}
    for run_id in database.runs:
        found = await rebuild(coordinator.stores.journal, coordinator.supervisor.plans, run_id)
        assert found is not None
        ended[run_id] = found.state
    return ended


def _waits_long(run: Run, now: int) -> bool:
    actives = [*run.active.values(), *(active for each in run.maps.values() for active in each.active.values())]
    waits = [active.wait.until for active in actives if active.wait is not None and active.wait.until is not None]
    return any(until > now + PATIENCE for until in waits)


def _held(runs: list[Run]) -> dict[str, list[wire.HeldLease]]:
    held: dict[str, list[wire.HeldLease]] = defaultdict(list)
    for run in runs:
        for active in run.leased():
            ref = wire.LeaseRef(run_id=run.run_id, step=active.step, item=active.item, token=active.token)
            held[active.agent].append(wire.HeldLease(lease=ref, phase=wire.LEASE_PHASE_RUNNING, attempt=1))
    return held


@contextlib.asynccontextmanager
async def _working(
    coordinator: Coordinator, boot_id: str, agent_id: str, held: list[wire.HeldLease], runs: list[Run]
) -> AsyncIterator[None]:
    agent = coordinator.agent(agent_id, slots=100, boot_id=boot_id)
    agent.held = held
    lines = [line for run in runs for line in run.plan.lines]
    agent.queues = sorted({line.queue for line in lines} | {"default"})
    agent.labels = {name: value for line in lines for name, value in line.labels}
    agent.resources = {name: 1e9 for line in lines for name, _ in line.resources}
    await agent.connect(credits=CREDITS)
    working = asyncio.create_task(_work(agent, list(held)))
    try:
        yield
    finally:
        working.cancel()
        await asyncio.gather(working, return_exceptions=True)


async def _work(agent: ScriptedAgent, held: list[wire.HeldLease]) -> None:
    for each in held:
        await agent.succeed(wire.LeaseGrant(lease=each.lease, attempt=each.attempt))
    while True:
        await agent.succeed(await agent.grant())

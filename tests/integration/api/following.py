"""A coordinator that follows another one, and what stands in front of it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Protocol

import aiohttp
import grpc
import pytest
from prometheus_client.parser import text_string_to_metric_families as families
from tests.grpc_server import answering, serving
from tests.integration.api.conftest import PATIENCE, Edge

from penstock_coordinator.adapters.memory import MemoryDatabase
from penstock_coordinator.adapters.memory.coordinator_registry import MemoryCoordinatorRegistry
from penstock_coordinator.adapters.system import SystemClock
from penstock_coordinator.api.guard import CallGuard
from penstock_coordinator.api.health import RECOVERY, Readiness
from penstock_coordinator.api.server import EdgeOptions, Entrance
from penstock_coordinator.core.fleet.ownership import CoordinatorRow, OwnershipState
from penstock_coordinator.runtime.ownership import OwnershipKeeper

LEASE = 600_000_000
"""Nobody waits for so long here."""
WINDOWS = [("grpc.use_local_subchannel_pool", 1), ("grpc.http2.bdp_probe", 0)]
"""That do not grow: how much is under way is known."""


def row(coordinator_id: str, address: str) -> CoordinatorRow:
    return CoordinatorRow(coordinator_id, OwnershipState.FOLLOWER, 0, 0, LEASE, address, "", 1)


@dataclass
class Following:
    """A coordinator that follows another one, as a process has it, and a client of it."""

    entrance: Entrance
    readiness: Readiness
    keeper: OwnershipKeeper
    registry: MemoryCoordinatorRegistry
    channel: grpc.aio.Channel

    @property
    def address(self) -> str:
        return self.entrance.doorway.address

    def method(self, name: str) -> Any:
        """Of bytes."""
        return self.channel.unary_unary(name)

    def streaming(self, name: str) -> Any:
        return self.channel.unary_stream(name)


@contextlib.asynccontextmanager
async def following(owner: str) -> AsyncIterator[Following]:
    """An owner at that address."""
    registry = MemoryCoordinatorRegistry(MemoryDatabase())
    first = OwnershipKeeper(registry, SystemClock(), row("c1", ""), 1)
    await first.introduce(owner, "")
    async with asyncio.timeout(PATIENCE):
        assert await first.campaign(asyncio.Event())
    waits = asyncio.Event()
    keeper = OwnershipKeeper(registry, SystemClock(), row("c2", ""), 1, lambda _: waits.set())
    readiness, stop = Readiness(), asyncio.Event()
    readiness.clear(RECOVERY)
    readiness.send_agents_away("it follows")
    entrance = Entrance(readiness, EdgeOptions("127.0.0.1:0", "127.0.0.1:0"), keeper, ())
    await entrance.open()
    await keeper.introduce(entrance.doorway.address, "")
    campaign = asyncio.create_task(keeper.campaign(stop))
    async with asyncio.timeout(PATIENCE):
        await waits.wait()
    channel = grpc.aio.insecure_channel(entrance.doorway.address, options=WINDOWS)
    try:
        yield Following(entrance, readiness, keeper, registry, channel)
    finally:
        stop.set()
        await campaign
        await channel.close()
        await entrance.close()


@pytest.fixture
async def beside(edge: Edge) -> AsyncIterator[Following]:
    """It follows the coordinator of the edge."""
    async with following(edge.server.address) as made:
        yield made


class Closes(Protocol):
    async def close(self) -> None: ...


@contextlib.asynccontextmanager
async def in_front(
    handler: Callable[[str], grpc.RpcMethodHandler[Any, Any]], passing: Closes
) -> AsyncIterator[grpc.aio.Channel]:
    """A channel to what passes every method on, guarded as a coordinator guards it."""
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(passing.close)
        address = await stack.enter_async_context(serving(answering(handler), interceptors=[CallGuard()]))
        yield await stack.enter_async_context(grpc.aio.insecure_channel(address))


async def within(waiting: Awaitable[Any]) -> Any:
    async with asyncio.timeout(PATIENCE):
        return await waiting


async def scraped(address: str) -> dict[tuple[str, ...], float]:
    """By name and the values of the labels, in the order of their names."""
    async with aiohttp.ClientSession() as session, session.get(f"http://{address}/metrics") as answer:
        text = await answer.text()
    samples = [sample for family in families(text) for sample in family.samples]
    return {(sample.name, *sample.labels.values()): sample.value for sample in samples}

"""While the stream goes by a coordinator that follows: looks now and then whether the owner can be reached directly."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio

if TYPE_CHECKING:
    from penstock_agent.core.ways import Ways

AGENTS = "penstock.agent.v1.AgentService"
ANSWER_WITHIN = 4.0
"""Seconds; as long as a coordinator has for its Welcome."""


async def can_be_reached(
    address: str, ways: Ways, options: Sequence[tuple[str, Any]], chance: Callable[[], float]
) -> None:
    """Returns when the coordinator there has answered that it serves agents. What runs meanwhile goes on."""
    loop = asyncio.get_running_loop()
    while True:
        await asyncio.sleep(max(ways.retry_at(address) - loop.time(), 0.0))
        if await _serves_agents(address, options):
            return
        ways.failed(address, loop.time(), chance())


async def _serves_agents(address: str, options: Sequence[tuple[str, Any]]) -> bool:
    """By a connection of its own, with an answer of its event loop: both directions are open, and it is not hung."""
    # Of agents that reach the owner none needs them.
    from grpc_health.v1 import health_pb2
    from grpc_health.v1.health_pb2_grpc import HealthStub

    stub: Any = HealthStub
    asked = health_pb2.HealthCheckRequest(service=AGENTS)
    async with grpc.aio.insecure_channel(address, options=options) as channel:
        try:
            answer = await stub(channel).Check(asked, timeout=ANSWER_WITHIN)
        except grpc.aio.AioRpcError:
            return False
    return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)

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
_CHECK = "/grpc.health.v1.Health/Check"
_ASKED = b"\x0a" + bytes([len(AGENTS)]) + AGENTS.encode()
_SERVING = b"\x08\x01"
"""Messages of grpc.health.v1 as bytes, as its stubs are installed with coordinators alone. HealthCheckRequest: field 1
is the service. HealthCheckResponse: field 1 is the status, and 1 is SERVING."""
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
    async with grpc.aio.insecure_channel(address, options=options) as channel:
        check: Any = channel.unary_unary(_CHECK)
        try:
            return bool(await check(_ASKED, timeout=ANSWER_WITHIN) == _SERVING)
        except grpc.aio.AioRpcError:
            return False

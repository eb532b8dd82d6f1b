"""Asking the coordinators that follow to read the runs that one of them is about to own."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import grpc
import structlog

from penstock.v1.coordinator_service_pb2 import PrepareTakeOverRequest
from penstock.v1.coordinator_service_pb2_grpc import CoordinatorServiceStub

if TYPE_CHECKING:
    from penstock_coordinator.core.fleet.ownership import CoordinatorRow
    from penstock_coordinator.runtime.ownership import OwnershipKeeper

log = structlog.get_logger(__name__)


PATIENCE = 5.0
"""Seconds that one that stops waits for others to have read the runs."""


async def prepare_successor(keeper: OwnershipKeeper, failure: asyncio.Future[BaseException]) -> str:
    """All that follow are asked, as any may be the next owner. The address of one that has read the runs; "": none has,
    and whoever takes over reads them then. Returns at once when there is a failure."""
    asked = asyncio.gather(*(_prepare(each, keeper.coordinator_id) for each in keeper.followers()))
    ends: set[asyncio.Future[Any]] = {asked, failure}
    await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
    if not asked.done():
        asked.cancel()
        return ""
    return next((address for address in asked.result() if address), "")


async def _prepare(follower: CoordinatorRow, owner_id: str) -> str:
    options = (("grpc.use_local_subchannel_pool", 1),)
    try:
        async with grpc.aio.insecure_channel(follower.address, options=options) as channel:
            stub = CoordinatorServiceStub(channel)
            answer = await stub.PrepareTakeOver(PrepareTakeOverRequest(owner_id=owner_id), timeout=PATIENCE)
    except grpc.aio.AioRpcError as error:
        # One of a former release knows no such call.
        log.warning("successor_not_prepared", coordinator=follower.coordinator_id, code=error.code().name)
        return ""
    log.info("successor_prepared", coordinator=follower.coordinator_id, live_runs=answer.run_count)
    return follower.address

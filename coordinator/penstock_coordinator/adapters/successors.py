"""Asking a coordinator that follows to read the runs that it is about to own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import grpc
import structlog

from penstock.v1.coordinator_service_pb2 import PrepareTakeOverRequest
from penstock.v1.coordinator_service_pb2_grpc import CoordinatorServiceStub

if TYPE_CHECKING:
    from penstock_coordinator.core.fleet.ownership import CoordinatorRow

log = structlog.get_logger(__name__)

PATIENCE = 5.0
"""Seconds that an owner waits for another one to have read its runs."""


async def prepare_successor(follower: CoordinatorRow, owner_id: str) -> bool:
    """Whether it has read the live runs of that owner."""
    options = (("grpc.use_local_subchannel_pool", 1),)
    try:
        async with grpc.aio.insecure_channel(follower.address, options=options) as channel:
            stub = CoordinatorServiceStub(channel)
            answer = await stub.PrepareTakeOver(PrepareTakeOverRequest(owner_id=owner_id), timeout=PATIENCE)
    except grpc.aio.AioRpcError as error:
        # One of a former release knows no such call.
        log.warning("successor_not_prepared", coordinator=follower.coordinator_id, code=error.code().name)
        return False
    log.info("successor_prepared", coordinator=follower.coordinator_id, live_runs=answer.run_count)
    return True

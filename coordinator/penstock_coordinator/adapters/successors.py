"""What owners ask each other at a planned end: to read the runs that one is about to own, and to give runs back."""

from __future__ import annotations

from typing import TYPE_CHECKING

import grpc
import structlog

from penstock.v1.coordinator_service_pb2 import LeaveRequest, PrepareTakeOverRequest
from penstock.v1.coordinator_service_pb2_grpc import CoordinatorServiceStub

if TYPE_CHECKING:
    from penstock_coordinator.core.fleet.ownership import CoordinatorRow

log = structlog.get_logger(__name__)

PATIENCE = 5.0
"""Seconds that an owner waits for another one to have read its runs."""


_OPTIONS = (("grpc.use_local_subchannel_pool", 1),)


async def prepare_successor(follower: CoordinatorRow, owner_id: str) -> bool:
    """Whether it has read the live runs of that owner."""
    try:
        async with grpc.aio.insecure_channel(follower.address, options=_OPTIONS) as channel:
            stub = CoordinatorServiceStub(channel)
            answer = await stub.PrepareTakeOver(PrepareTakeOverRequest(owner_id=owner_id), timeout=PATIENCE)
    except grpc.aio.AioRpcError as error:
        # One of a former release knows no such call.
        log.warning("successor_not_prepared", coordinator=follower.coordinator_id, code=error.code().name)
        return False
    log.info("successor_prepared", coordinator=follower.coordinator_id, live_runs=answer.run_count)
    return True


async def dismiss_member(member: CoordinatorRow, head_id: str, head_epoch: int) -> bool:
    """Whether it has released its runs, and follows."""
    try:
        async with grpc.aio.insecure_channel(member.address, options=_OPTIONS) as channel:
            stub = CoordinatorServiceStub(channel)
            await stub.Leave(LeaveRequest(head_id=head_id, head_epoch=head_epoch), timeout=PATIENCE)
    except grpc.aio.AioRpcError as error:
        log.warning("member_not_dismissed", coordinator=member.coordinator_id, code=error.code().name)
        return False
    log.info("member_dismissed", coordinator=member.coordinator_id)
    return True

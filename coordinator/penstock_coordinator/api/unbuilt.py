"""Methods of the protos that are not built yet: the release is not made while this file is there."""

from __future__ import annotations

from typing import TYPE_CHECKING

import grpc

from penstock.v1 import run_service_pb2
from penstock.v1.run_service_pb2_grpc import RunServiceServicer

if TYPE_CHECKING:
    from penstock_coordinator.api.guard import Context


async def _unbuilt(context: Context) -> None:
    await context.abort(grpc.StatusCode.UNIMPLEMENTED, "not in this release")


class UnbuiltRunMethods(RunServiceServicer):
    async def Retry(
        self, request: run_service_pb2.RetryRunRequest, context: Context
    ) -> run_service_pb2.RetryRunResponse:
        await _unbuilt(context)
        raise AssertionError

    async def RerunStep(
        self, request: run_service_pb2.RerunStepRequest, context: Context
    ) -> run_service_pb2.RerunStepResponse:
        await _unbuilt(context)
        raise AssertionError

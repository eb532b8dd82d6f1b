"""penstock.v1.JanitorService."""

from __future__ import annotations

from typing import TYPE_CHECKING

import grpc

from penstock.v1 import janitor_service_pb2 as pb
from penstock.v1.janitor_service_pb2_grpc import JanitorServiceServicer
from penstock_coordinator.api.encoding.values import instant
from penstock_coordinator.api.errors import CallError
from penstock_coordinator.api.fields import run_id_text
from penstock_coordinator.runtime.janitor import Busy

if TYPE_CHECKING:
    from penstock_coordinator.api.guard import Context
    from penstock_coordinator.runtime.janitor import Janitor
    from penstock_coordinator.runtime.retention import Report


class JanitorService(JanitorServiceServicer):
    def __init__(self, janitor: Janitor) -> None:
        self._janitor = janitor

    async def Run(self, request: pb.RunJanitorRequest, context: Context) -> pb.RunJanitorResponse:
        try:
            report = await self._janitor.run_once(dry_run=request.dry_run, thorough=True)
        except Busy as busy:
            raise CallError(
                grpc.StatusCode.ABORTED, "JANITOR_BUSY", f"{busy}: run it again when that one is done"
            ) from None
        return pb.RunJanitorResponse(report=_encoded(report))


def _encoded(report: Report) -> pb.JanitorReport:
    return pb.JanitorReport(
        dry_run=report.dry_run,
        start_time=instant(report.start_time),
        end_time=instant(report.end_time),
        unrecoverable_run_ids=[run_id_text(run_id) for run_id in report.unrecoverable],
        live_of_others=report.live_of_others,
        **report.counts(),
    )

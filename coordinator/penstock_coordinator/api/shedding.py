"""What is refused before anything is made of it, because the coordinator has too much to do.

Of a start only its priority is looked for, in the bytes as they came. What lets work go on or ends it is never refused:
agents' sessions, cancels and pauses, health, and looks at single things.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from penstock.agent.v1 import agent_service_pb2
from penstock.v1 import (
    artifact_service_pb2,
    bundle_service_pb2,
    dead_letter_service_pb2,
    pipeline_service_pb2,
    run_service_pb2,
)
from penstock_coordinator.api.errors import CallError, translate
from penstock_coordinator.api.sizes import field_number, field_varint
from penstock_coordinator.ports import Unavailable
from penstock_coordinator.runtime.admission import LOW_SHARE
from penstock_coordinator.runtime.views import Overloaded

if TYPE_CHECKING:
    from collections.abc import Callable

    from google.protobuf.descriptor import FileDescriptor

    from penstock_coordinator.runtime.admission import Admission


def _methods(file: FileDescriptor, service: str, *names: str) -> frozenset[str]:
    found = file.services_by_name[service]
    return frozenset(f"/{found.full_name}/{found.methods_by_name[name].name}" for name in names)


START = next(iter(_methods(run_service_pb2.DESCRIPTOR, "RunService", "Start")))
STARTS = _methods(run_service_pb2.DESCRIPTOR, "RunService", "Start", "StartMany", "Retry", "RerunStep") | _methods(
    dead_letter_service_pb2.DESCRIPTOR, "DeadLetterService", "Requeue"
)
LOADS = (
    _methods(
        run_service_pb2.DESCRIPTOR,
        "RunService",
        "Watch",
        "WaitMany",
        "TailLogs",
        "List",
        "ListStepRuns",
        "Explain",
        "Diff",
    )
    | _methods(pipeline_service_pb2.DESCRIPTOR, "PipelineService", "Create", "Validate", "List", "DiffVersions")
    | _methods(dead_letter_service_pb2.DESCRIPTOR, "DeadLetterService", "List")
    | _methods(artifact_service_pb2.DESCRIPTOR, "ArtifactService", "List", "GetLineage")
    | _methods(bundle_service_pb2.DESCRIPTOR, "BundleService", "Upload")
    | _methods(agent_service_pb2.DESCRIPTOR, "AgentService", "PushLogs")
)
"""They cost much, or last long, and may come later. They are refused as a run of priority 0 is, but not for the number
of runs that wait."""
_PRIORITY = field_number(run_service_pb2.StartRunRequest.DESCRIPTOR, "priority")


class Shedder:
    def __init__(self, admission: Admission) -> None:
        self._admission = admission

    def before(self, method: str) -> CallError | None:
        """The refusal of a call whose request nobody has read yet."""
        if method in STARTS:
            return _refusal(self._admission.check_full)
        return _refusal(self._admission.check_load) if method in LOADS else None

    def check(self, method: str, request: bytes) -> None:
        """Raises `CallError` for a start whose priority is too low for now. One that says none has its pipeline's, and
        is looked at when that is known."""
        if method != START or self._admission.pressure < LOW_SHARE:
            return
        priority = field_varint(request, _PRIORITY)
        if priority is not None:
            refusal = _refusal(lambda: self._admission.check_runs(priority))
            if refusal is not None:
                raise refusal


def _refusal(check: Callable[[], None]) -> CallError | None:
    try:
        check()
    except (Overloaded, Unavailable) as error:
        return translate(error)
    return None

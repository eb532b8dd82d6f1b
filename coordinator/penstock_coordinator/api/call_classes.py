"""Who answers which call: of the coordinators on one database one is the head, some may be members, the rest follow.

Each method has a class, and a method without one is answered by nobody: a test compares the table with the services.
"""

from __future__ import annotations

from enum import Enum, auto
from itertools import chain


class CallClass(Enum):
    SELF = auto()
    """Every coordinator answers for itself."""
    START = auto()
    """Starts runs: the head chooses who has them."""
    RUN = auto()
    """About one run: the owner of a live one answers, the head for those at rest."""
    RUNS = auto()
    """About many: the head answers, and asks the owners for their parts."""
    HEAD = auto()
    """The head's alone."""
    AGENT = auto()
    """An agent's, of its leases: whoever gave them answers."""


_CLASSES: dict[str, dict[CallClass, str]] = {
    "penstock.v1.RunService": {
        CallClass.START: "Start StartMany",
        CallClass.RUN: (
            "Get Watch Cancel Pause Resume Retry RerunStep Rollback Explain ListStepRuns GetStepRun TailLogs"
        ),
        CallClass.RUNS: "List WaitMany Diff",
    },
    "penstock.v1.BudgetService": {CallClass.RUN: "Get Raise"},
    "penstock.v1.BulkService": {CallClass.RUNS: "Create Get List Stop"},
    "penstock.v1.DeadLetterService": {CallClass.HEAD: "List", CallClass.RUN: "Get Requeue Purge"},
    "penstock.v1.AgentAdminService": {CallClass.RUNS: "List Get", CallClass.HEAD: "Drain Pause Resume"},
    "penstock.v1.CoordinatorService": {
        CallClass.SELF: "GetHealth ListCoordinators PrepareTakeOver ListQueues Leave Glance",
        CallClass.HEAD: "HandOver",
    },
    "penstock.v1.PipelineService": {CallClass.HEAD: "Create Get List ListVersions Delete Validate DiffVersions"},
    "penstock.v1.BundleService": {CallClass.HEAD: "Has Upload Get"},
    "penstock.v1.ArtifactService": {CallClass.HEAD: "List Get GetDownload GetLineage"},
    "penstock.v1.SecretService": {CallClass.HEAD: "Set List Delete Rotate"},
    "penstock.v1.CacheService": {CallClass.HEAD: "List Get Delete"},
    "penstock.v1.CostService": {CallClass.RUN: "Get", CallClass.HEAD: "List"},
    "penstock.v1.JanitorService": {CallClass.HEAD: "Run"},
    "penstock.agent.v1.AgentService": {CallClass.AGENT: "Connect PushLogs"},
    "penstock.agent.v1.SecretService": {CallClass.AGENT: "Get"},
    "penstock.agent.v1.ArtifactService": {CallClass.AGENT: "BeginUpload CompleteUpload AbortUpload GetDownloads"},
}

CLASSES: dict[str, CallClass] = dict(
    chain.from_iterable(
        ((f"/{service}/{name}", call_class) for name in names.split())
        for service, classes in _CLASSES.items()
        for call_class, names in classes.items()
    )
)
"""By path, as "/penstock.v1.RunService/Get"."""

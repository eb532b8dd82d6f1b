"""What the runtime needs from outside.

Instants are microseconds since 1970 (UTC), spans microseconds, run ids the 16 bytes of a UUIDv7. Every port has one
contract suite (tests/contract) that its real adapter and its fake both pass.
"""

from __future__ import annotations

from penstock_coordinator.ports.agents import AgentRegistry, AgentRow, Incarnations, OpenedSession
from penstock_coordinator.ports.artifact_index import (
    OF_RUN,
    Artifact,
    ArtifactFilter,
    ArtifactIndex,
    ArtifactPlace,
    ArtifactRow,
    ArtifactUse,
    OldArtifacts,
    UseRow,
    WorkRow,
)
from penstock_coordinator.ports.artifacts import ArtifactStore
from penstock_coordinator.ports.budgets import BudgetStore, ChargeRow, WindowUse
from penstock_coordinator.ports.bulk_jobs import BulkJobRow, BulkJobStore, BulkState
from penstock_coordinator.ports.bundles import BundleStore
from penstock_coordinator.ports.cache import (
    CacheEntry,
    CacheEntryRow,
    CacheFilter,
    CacheQuestion,
    CacheReply,
    CacheStore,
    Found,
    HeldBy,
    Reserved,
    Reserver,
)
from penstock_coordinator.ports.common import Crowded, DatabaseFull, Fenced, RunId, StoreUnavailable, Unavailable
from penstock_coordinator.ports.costs import (
    NO_COST,
    AttemptCost,
    Cost,
    CostFilter,
    Costs,
    CostStore,
    Grouping,
    StepCost,
    cost_in,
    costs_of,
    with_cost,
    without_cost,
)
from penstock_coordinator.ports.dead_letters import (
    LETTER_MESSAGE_CHARACTERS,
    DeadLetter,
    DeadLetterStore,
    LetterClosing,
    LetterFilter,
    LetterPlace,
    LetterRow,
    LetterState,
)
from penstock_coordinator.ports.dependencies import Dependency, DependencyState, ShareUse
from penstock_coordinator.ports.journal import (
    AppendOutcome,
    Committed,
    Journal,
    KeyTaken,
    NotNewest,
    OutOfSequence,
    Record,
    Removed,
    StoredRecord,
    Unstorable,
)
from penstock_coordinator.ports.log_packs import LogPack, LogPackStore, LogPart, StoredLines, UnpackedLogs
from penstock_coordinator.ports.logs import LogChunk, LogFilter, LogLine, LogStore
from penstock_coordinator.ports.pipelines import PipelineRow, PipelineStore, VersionRow
from penstock_coordinator.ports.requests import Repeated, RequestKey, RequestRow
from penstock_coordinator.ports.retention import EndedRuns, OldRows, RetentionStore, RunRows
from penstock_coordinator.ports.rows import PLAIN_ORIGIN, AttemptRow, NewRun, Origin, Parent, RunChange, StepRunRow
from penstock_coordinator.ports.run_keys import AT_REST, COMPLETED, KeyClaim, Reuse, gives_free
from penstock_coordinator.ports.runs import ANY_GENERATION, RunFilter, RunIndex, RunOwner, RunRow
from penstock_coordinator.ports.secrets import CannotDecrypt, SecretCipher, SecretRow, SecretStore
from penstock_coordinator.ports.signing_keys import SigningKey, SigningKeyStore
from penstock_coordinator.ports.spans import SpanSink, SpansRefused
from penstock_coordinator.ports.stores import Stores
from penstock_coordinator.ports.time import Clock, Ids

__all__ = [
    "ANY_GENERATION",
    "AT_REST",
    "COMPLETED",
    "LETTER_MESSAGE_CHARACTERS",
    "NO_COST",
    "OF_RUN",
    "PLAIN_ORIGIN",
    "AgentRegistry",
    "AgentRow",
    "AppendOutcome",
    "Artifact",
    "ArtifactFilter",
    "ArtifactIndex",
    "ArtifactPlace",
    "ArtifactRow",
    "ArtifactStore",
    "ArtifactUse",
    "AttemptCost",
    "AttemptRow",
    "BudgetStore",
    "BulkJobRow",
    "BulkJobStore",
    "BulkState",
    "BundleStore",
    "CacheEntry",
    "CacheEntryRow",
    "CacheFilter",
    "CacheQuestion",
    "CacheReply",
    "CacheStore",
    "CannotDecrypt",
    "ChargeRow",
    "Clock",
    "Committed",
    "Cost",
    "CostFilter",
    "CostStore",
    "Costs",
    "Crowded",
    "DatabaseFull",
    "DeadLetter",
    "DeadLetterStore",
    "Dependency",
    "DependencyState",
    "EndedRuns",
    "Fenced",
    "Found",
    "Grouping",
    "HeldBy",
    "Ids",
    "Incarnations",
    "Journal",
    "KeyClaim",
    "KeyTaken",
    "LetterClosing",
    "LetterFilter",
    "LetterPlace",
    "LetterRow",
    "LetterState",
    "LogChunk",
    "LogFilter",
    "LogLine",
    "LogPack",
    "LogPackStore",
    "LogPart",
    "LogStore",
    "NewRun",
    "NotNewest",
    "OldArtifacts",
    "OldRows",
    "OpenedSession",
    "Origin",
    "OutOfSequence",
    "Parent",
    "PipelineRow",
    "PipelineStore",
    "Record",
    "Removed",
    "Repeated",
    "RequestKey",
    "RequestRow",
    "Reserved",
    "Reserver",
    "RetentionStore",
    "Reuse",
    "RunChange",
    "RunFilter",
    "RunId",
    "RunIndex",
    "RunOwner",
    "RunRow",
    "RunRows",
    "SecretCipher",
    "SecretRow",
    "SecretStore",
    "ShareUse",
    "SigningKey",
    "SigningKeyStore",
    "SpanSink",
    "SpansRefused",
    "StepCost",
    "StepRunRow",
    "StoreUnavailable",
    "StoredLines",
    "StoredRecord",
    "Stores",
    "Unavailable",
    "UnpackedLogs",
    "Unstorable",
    "UseRow",
    "VersionRow",
    "WindowUse",
    "WorkRow",
    "cost_in",
    "costs_of",
    "gives_free",
    "with_cost",
    "without_cost",
]

"""Duties that follow from committed events. Every one is idempotent and can be derived again from the state."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TypeAlias

from penstock_coordinator.core.run.states import RunState


class AckStatus(enum.IntEnum):
    """The numbers are those of the proto's ResultAckStatus."""

    COMMITTED = 1
    DUPLICATE = 2
    STALE = 3
    REJECTED = 4


@dataclass(frozen=True, slots=True)
class GrantLeases:
    """Send these attempts to the session, (step, item, attempt) each."""

    session: int
    agent: str
    token: int
    leases: tuple[tuple[int, int, int], ...]


@dataclass(frozen=True, slots=True)
class AcknowledgeResult:
    session: int
    step: int
    item: int
    token: int
    result_id: bytes
    status: AckStatus
    reason: str = ""


@dataclass(frozen=True, slots=True)
class StopAttempt:
    """Stop what runs under this token; grace 0 kills at once."""

    agent: str
    session: int
    step: int
    item: int
    token: int
    grace: int
    """Microseconds."""
    reason: str


@dataclass(frozen=True, slots=True)
class CallBackLease:
    """Ask the agent to hand the lease back if no user code has started under it."""

    session: int
    step: int
    item: int
    token: int


@dataclass(frozen=True, slots=True)
class AwaitLease:
    """After a recovery: this lease was granted before, its agent may come back with it."""

    agent: str
    session: int
    step: int
    item: int
    token: int
    attempt: int


@dataclass(frozen=True, slots=True)
class StartChild:
    """The run that the step run waits for is to exist: it is there already, or it is started. Its end is reported; so
    it is if it is at rest."""

    step: int
    item: int
    run_id: bytes


@dataclass(frozen=True, slots=True)
class CancelChild:
    run_id: bytes
    immediate: bool
    reason: str


@dataclass(frozen=True, slots=True)
class PauseChild:
    run_id: bytes
    reason: str
    since: int
    """When the run above was paused."""


@dataclass(frozen=True, slots=True)
class ResumeChild:
    run_id: bytes


@dataclass(frozen=True, slots=True)
class ContinueRun:
    """Mail `Continue` to the run itself."""


@dataclass(frozen=True, slots=True)
class CloseRun:
    """The run is at rest: its actor may leave memory."""

    state: RunState


ChildCommand: TypeAlias = StartChild | CancelChild | PauseChild | ResumeChild

Command: TypeAlias = (
    GrantLeases | AcknowledgeResult | StopAttempt | CallBackLease | AwaitLease | ChildCommand | ContinueRun | CloseRun
)

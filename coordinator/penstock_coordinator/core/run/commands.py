"""Duties that follow from committed events. Every one is idempotent and can be derived again from the state."""

from __future__ import annotations

import enum
from typing import TypeAlias

import msgspec

from penstock_coordinator.core.run.states import RunState


class AckStatus(enum.IntEnum):
    """The numbers are those of the proto's ResultAckStatus."""

    COMMITTED = 1
    DUPLICATE = 2
    STALE = 3
    REJECTED = 4


class GrantLeases(msgspec.Struct, frozen=True, gc=False):
    """Send these attempts to the session, (step, item, attempt) each."""

    session: int
    agent: str
    token: int
    leases: tuple[tuple[int, int, int], ...]
    line: int
    """The position of the line that all of them waited in."""


class AcknowledgeResult(msgspec.Struct, frozen=True, gc=False):
    session: int
    step: int
    item: int
    token: int
    result_id: bytes
    status: AckStatus
    reason: str = ""


class StopAttempt(msgspec.Struct, frozen=True, gc=False):
    """Stop what runs under this token; grace 0 kills at once."""

    agent: str
    session: int
    step: int
    item: int
    token: int
    grace: int
    """Microseconds."""
    reason: str


class CallBackLease(msgspec.Struct, frozen=True, gc=False):
    """Ask the agent to hand the lease back if no user code has started under it."""

    session: int
    step: int
    item: int
    token: int


class AwaitLease(msgspec.Struct, frozen=True, gc=False):
    """After a recovery: this lease was granted before, its agent may come back with it."""

    agent: str
    session: int
    step: int
    item: int
    token: int
    attempt: int


class StartChild(msgspec.Struct, frozen=True, gc=False):
    """The run that the step run waits for is to exist: it is there already, or it is started. Its end is reported; so
    it is if it is at rest."""

    step: int
    item: int
    run_id: bytes


class CancelChild(msgspec.Struct, frozen=True, gc=False):
    run_id: bytes
    immediate: bool
    reason: str


class PauseChild(msgspec.Struct, frozen=True, gc=False):
    run_id: bytes
    reason: str
    since: int
    """When the run above was paused."""


class ResumeChild(msgspec.Struct, frozen=True, gc=False):
    run_id: bytes


class AskCache(msgspec.Struct, frozen=True, gc=False):
    """Look up the values of step runs, and reserve the keys of those that are not there."""

    token: int
    questions: tuple[tuple[int, int, bool], ...]
    """(step, item, anew). `anew`: the key alone is wanted, whatever the cache has."""


class KeepReservation(msgspec.Struct, frozen=True, gc=False):
    """The step run computes the value of the key: others wait for it as long as it is under way."""

    step: int
    item: int
    token: int
    key: bytes


class EndReservation(msgspec.Struct, frozen=True, gc=False):
    """The step run does not compute the value any more: it did (`known`), or never will."""

    step: int
    item: int
    token: int
    key: bytes
    known: bool


class ContinueRun(msgspec.Struct, frozen=True, gc=False):
    """Mail `Continue` to the run itself."""


class CloseRun(msgspec.Struct, frozen=True, gc=False):
    """The run is at rest: its actor may leave memory."""

    state: RunState


CacheCommand: TypeAlias = AskCache | KeepReservation | EndReservation
ChildCommand: TypeAlias = StartChild | CancelChild | PauseChild | ResumeChild

Command: TypeAlias = (
    GrantLeases
    | AcknowledgeResult
    | StopAttempt
    | CallBackLease
    | AwaitLease
    | ChildCommand
    | CacheCommand
    | ContinueRun
    | CloseRun
)

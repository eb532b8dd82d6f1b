"""What happens to the holder: words of the coordinator, news of the executors, orders of the operator.

Words of a coordinator carry the number of the stream that they came by; those of an older stream are ignored.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TypeAlias

from penstock_agent.core.leases import Grant, Handle, LeaseKey, Outcome


class Verdict(enum.IntEnum):
    """The numbers are those of the proto."""

    CONTINUE = 1
    ABORT = 2
    SEND_RESULT = 3
    DROP_RESULT = 4


@dataclass(frozen=True, slots=True)
class Word:
    """What a coordinator says once it has said welcome."""

    stream: int


@dataclass(frozen=True, slots=True)
class StreamOpened:
    stream: int


@dataclass(frozen=True, slots=True)
class StreamClosed:
    stream: int


@dataclass(frozen=True, slots=True)
class Welcomed:
    stream: int
    session_epoch: int
    coordinator_id: str
    coordinator_epoch: int
    heartbeat_interval: int
    lease_ttl: int
    resend_interval: int
    basis_seq: int


@dataclass(frozen=True, slots=True)
class Granted(Word):
    grants: list[Grant]
    basis_seq: int
    ttl: int


@dataclass(frozen=True, slots=True)
class HeartbeatAcked(Word):
    basis_seq: int
    ttl: int
    revoked: list[tuple[LeaseKey, int]]
    echo: int


@dataclass(frozen=True, slots=True)
class Judged(Word):
    """Each verdict: (step run, token, verdict, ttl). The ttl is that of CONTINUE."""

    verdicts: list[tuple[LeaseKey, int, Verdict, int]]
    basis_seq: int


@dataclass(frozen=True, slots=True)
class ResultsAcked(Word):
    """Each: (step run, token, result id)."""

    acks: list[tuple[LeaseKey, int, bytes]]


@dataclass(frozen=True, slots=True)
class CancelOrdered(Word):
    """Each: (step run, token, reason, grace)."""

    leases: list[tuple[LeaseKey, int, str, int]]


@dataclass(frozen=True, slots=True)
class ReturnOrdered(Word):
    leases: list[tuple[LeaseKey, int]]


@dataclass(frozen=True, slots=True)
class Paused(Word):
    """No grants come until `Resumed`."""


@dataclass(frozen=True, slots=True)
class Resumed(Word):
    """Grants may come again."""


@dataclass(frozen=True, slots=True)
class DrainOrdered(Word):
    """By the coordinator."""

    deadline: int
    reason: str


@dataclass(frozen=True, slots=True)
class GoawayOrdered(Word):
    """May come in place of the welcome."""

    reason: str
    reconnect_after: int
    message: str = ""


@dataclass(frozen=True, slots=True)
class Redirected(Word):
    address: str


@dataclass(frozen=True, slots=True)
class AcceptsWritten:
    """The acceptances of these leases are on their way, in the message `seq`: they may start."""

    handles: list[Handle]
    seq: int


@dataclass(frozen=True, slots=True)
class AttemptsStarted:
    handles: list[Handle]


@dataclass(frozen=True, slots=True)
class AttemptsEnded:
    outcomes: list[Outcome]


@dataclass(frozen=True, slots=True)
class LeasesUnstarted:
    """The executors give back leases of which no user code has run and none will."""

    handles: list[Handle]


@dataclass(frozen=True, slots=True)
class LeasesRefused:
    """As `LeasesUnstarted`, because this agent cannot run them."""

    handles: list[Handle]
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class DrainRequested:
    """By the operator. A second one ends the patience with what still runs."""

    patience: int
    reason: str


@dataclass(frozen=True, slots=True)
class DiskMeasured:
    """`broken`: what must survive the agent cannot be written."""

    free_bytes: int
    broken: bool = False


Input: TypeAlias = (
    Word
    | StreamOpened
    | StreamClosed
    | Welcomed
    | AcceptsWritten
    | AttemptsStarted
    | AttemptsEnded
    | LeasesUnstarted
    | LeasesRefused
    | DrainRequested
    | DiskMeasured
)

"""What the holder wants done. Effects are done in order; what goes to the coordinator needs an open stream."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from penstock_agent.core.leases import Handle, Lease, LeaseKey


@dataclass(frozen=True, slots=True)
class SayHello:
    """With the snapshot of the moment that it is written."""


@dataclass(frozen=True, slots=True)
class Accept:
    """Answered by `AcceptsWritten` once it is written."""

    leases: list[Lease]


@dataclass(frozen=True, slots=True)
class Reject:
    """Each: (step run, token, reason, message)."""

    leases: list[tuple[LeaseKey, int, str, str]]


@dataclass(frozen=True, slots=True)
class SendReturned:
    """Each: (step run, token, whether user code has started)."""

    leases: list[tuple[LeaseKey, int, bool]]


@dataclass(frozen=True, slots=True)
class SendResults:
    leases: list[Lease]


@dataclass(frozen=True, slots=True)
class SendCredits:
    grant_limit: int


@dataclass(frozen=True, slots=True)
class SendHeartbeat:
    """With the list of the moment that it is written."""


@dataclass(frozen=True, slots=True)
class SendDraining:
    deadline: int
    reason: str


@dataclass(frozen=True, slots=True)
class SendGoodbye:
    """The last word: the process may end once it is written."""

    reason: str


@dataclass(frozen=True, slots=True)
class CloseStream:
    """And come back after `reconnect_after`, with jitter from 0 to 100 %; None: at the usual pace."""

    reason: str
    reconnect_after: int | None = None
    message: str = ""
    """For people; set if they have something to do."""


@dataclass(frozen=True, slots=True)
class UseAddress:
    """Where the next stream is to be opened."""

    address: str


@dataclass(frozen=True, slots=True)
class Start:
    leases: list[Lease]


@dataclass(frozen=True, slots=True)
class Withdraw:
    """Take back those of the leases that have not started: answered by `LeasesUnstarted`, for them alone."""

    handles: list[Handle]


@dataclass(frozen=True, slots=True)
class Stop:
    """Ask the attempt to end (SIGTERM). Its end is reported in any case, also if it never started."""

    handle: Handle


@dataclass(frozen=True, slots=True)
class Kill:
    """End the attempt with everything that it started. Its end is reported in any case."""

    handle: Handle


@dataclass(frozen=True, slots=True)
class Spool:
    leases: list[Lease]


@dataclass(frozen=True, slots=True)
class Unspool:
    """These results need not be kept any longer."""

    result_ids: list[bytes]


Effect: TypeAlias = (
    SayHello
    | Accept
    | Reject
    | SendReturned
    | SendResults
    | SendCredits
    | SendHeartbeat
    | SendDraining
    | SendGoodbye
    | CloseStream
    | UseAddress
    | Start
    | Withdraw
    | Stop
    | Kill
    | Spool
    | Unspool
)

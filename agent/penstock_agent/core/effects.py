"""What the holder wants done. Effects are done in order; what goes to the coordinator needs an open stream."""

from __future__ import annotations

from typing import TypeAlias

import msgspec

from penstock_agent.core.leases import Handle, Lease, LeaseKey


class SayHello(msgspec.Struct, frozen=True):
    """With the snapshot of the moment that it is written."""


class Accept(msgspec.Struct, frozen=True):
    """Answered by `AcceptsWritten` once it is written."""

    leases: list[Lease]


class Reject(msgspec.Struct, frozen=True):
    """Each: (step run, token, reason, message)."""

    leases: list[tuple[LeaseKey, int, str, str]]


class SendReturned(msgspec.Struct, frozen=True):
    """Each: (step run, token, whether user code has started)."""

    leases: list[tuple[LeaseKey, int, bool]]


class SendResults(msgspec.Struct, frozen=True):
    leases: list[Lease]


class SendCredits(msgspec.Struct, frozen=True):
    grant_limit: int


class SendHeartbeat(msgspec.Struct, frozen=True):
    """With the list of the moment that it is written."""


class SendDraining(msgspec.Struct, frozen=True):
    deadline: int
    reason: str


class SendGoodbye(msgspec.Struct, frozen=True):
    """The last word: the process may end once it is written."""

    reason: str


class CloseStream(msgspec.Struct, frozen=True):
    """And come back after `reconnect_after`, with jitter from 0 to 100 %; None: at the usual pace."""

    reason: str
    reconnect_after: int | None = None
    message: str = ""
    """For people; set if they have something to do."""


class UseAddress(msgspec.Struct, frozen=True):
    """Where the next stream is to be opened."""

    address: str


class Start(msgspec.Struct, frozen=True):
    leases: list[Lease]


class Withdraw(msgspec.Struct, frozen=True):
    """Take back those of the leases that have not started: answered by `LeasesUnstarted`, for them alone."""

    handles: list[Handle]


class Stop(msgspec.Struct, frozen=True):
    """Ask the attempt to end (SIGTERM). Its end is reported in any case, also if it never started."""

    handle: Handle


class Kill(msgspec.Struct, frozen=True):
    """End the attempt with everything that it started. Its end is reported in any case."""

    handle: Handle


class Spool(msgspec.Struct, frozen=True):
    leases: list[Lease]


class Unspool(msgspec.Struct, frozen=True):
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

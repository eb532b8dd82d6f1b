"""What the holder wants done. Effects are done in order; what goes to the coordinator needs an open stream."""

from __future__ import annotations

from typing import TypeAlias

import msgspec

from penstock_agent.core.leases import Handle, Lease, LeaseKey
from penstock_agent.core.links import Peer


class Word(msgspec.Struct, frozen=True):
    """What is said on a stream. Of stream 0: there is nobody to hear it."""

    stream: int


class SayHello(Word, frozen=True):
    """With the snapshot of the moment that it is written."""


class Accept(Word, frozen=True):
    """Answered by `AcceptsWritten` once it is written."""

    leases: list[Lease]


class Reject(Word, frozen=True):
    """Each: (step run, token, reason, message)."""

    leases: list[tuple[LeaseKey, int, str, str]]


class SendReturned(Word, frozen=True):
    """Each: (step run, token, whether user code has started)."""

    leases: list[tuple[LeaseKey, int, bool]]
    void_credits: int = 0
    """There is no room for more of it: the limit up to which its credits are void, once this is sent; 0: none is."""


class SendResults(Word, frozen=True):
    leases: list[Lease]


class SendCredits(Word, frozen=True):
    grant_limit: int


class SendHeartbeat(Word, frozen=True):
    """With the list of the moment that it is written."""


class SendDraining(Word, frozen=True):
    deadline: int
    reason: str


class SendGoodbye(msgspec.Struct, frozen=True):
    """The last word, on all streams: the process may end once it is written."""

    reason: str


class CloseStream(Word, frozen=True):
    """And come back after `reconnect_after`, with jitter from 0 to 100 %; None: at the usual pace."""

    reason: str
    reconnect_after: int | None = None
    message: str = ""
    """For people; set if they have something to do."""


class UseAddress(msgspec.Struct, frozen=True):
    """Where the next stream of home is to be opened."""

    address: str


class KeepLinks(msgspec.Struct, frozen=True):
    """All links that there are to be, each with its number. The others are to be closed."""

    links: list[tuple[int, Peer]]


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
    | KeepLinks
    | Start
    | Withdraw
    | Stop
    | Kill
    | Spool
    | Unspool
)

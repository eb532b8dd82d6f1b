"""What happens to the holder: words of the coordinator, news of the executors, orders of the operator.

Words of a coordinator carry the number of the stream that they came by; those of a stream that is over are ignored.
"""

from __future__ import annotations

import enum
from typing import TypeAlias

import msgspec

from penstock_agent.core.leases import HOME, Grant, Handle, LeaseKey, Outcome
from penstock_agent.core.links import Peer


class Verdict(enum.IntEnum):
    """The numbers are those of the proto."""

    CONTINUE = 1
    ABORT = 2
    SEND_RESULT = 3
    DROP_RESULT = 4


class Word(msgspec.Struct, frozen=True):
    """What a coordinator says once it has said welcome."""

    stream: int


class StreamOpened(msgspec.Struct, frozen=True):
    stream: int
    link: int = HOME


class StreamClosed(msgspec.Struct, frozen=True):
    stream: int


class Welcomed(msgspec.Struct, frozen=True):
    stream: int
    session_epoch: int
    coordinator_id: str
    coordinator_epoch: int
    heartbeat_interval: int
    lease_ttl: int
    resend_interval: int
    basis_seq: int
    head_epoch: int = 0
    """Of the head that a member has joined. A head need not say it: it is its own."""


class Granted(Word, frozen=True):
    grants: list[Grant]
    basis_seq: int
    ttl: int


class HeartbeatAcked(Word, frozen=True):
    basis_seq: int
    ttl: int
    revoked: list[tuple[LeaseKey, int]]
    echo: int


class Judged(Word, frozen=True):
    """Each verdict: (step run, token, verdict, ttl). The ttl is that of CONTINUE."""

    verdicts: list[tuple[LeaseKey, int, Verdict, int]]
    basis_seq: int


class ResultsAcked(Word, frozen=True):
    """Each: (step run, token, result id)."""

    acks: list[tuple[LeaseKey, int, bytes]]


class CancelOrdered(Word, frozen=True):
    """Each: (step run, token, reason, grace)."""

    leases: list[tuple[LeaseKey, int, str, int]]


class ReturnOrdered(Word, frozen=True):
    leases: list[tuple[LeaseKey, int]]


REQUESTED = "requested"


class Paused(Word, frozen=True):
    """No grants come until `Resumed`. By the head, because it was REQUESTED: from nobody."""

    reason: str = ""


class Resumed(Word, frozen=True):
    """Grants may come again."""


class DrainOrdered(Word, frozen=True):
    """By the coordinator."""

    deadline: int
    reason: str


class GoawayOrdered(Word, frozen=True):
    """May come in place of the welcome."""

    reason: str
    reconnect_after: int
    message: str = ""


class Redirected(Word, frozen=True):
    address: str


class PeersNamed(Word, frozen=True):
    """By the head: all members, as a whole."""

    peers: list[Peer]


class RunsMoved(Word, frozen=True):
    """The coordinator does not own these runs any more."""

    run_ids: list[bytes]


class AcceptsWritten(msgspec.Struct, frozen=True):
    """The acceptances of these leases are on their way, in the message `seq`: they may start."""

    handles: list[Handle]
    seq: int


class AttemptsStarted(msgspec.Struct, frozen=True):
    handles: list[Handle]


class AttemptsEnded(msgspec.Struct, frozen=True):
    outcomes: list[Outcome]


class LeasesUnstarted(msgspec.Struct, frozen=True):
    """The executors give back leases of which no user code has run and none will."""

    handles: list[Handle]


class LeasesRefused(msgspec.Struct, frozen=True):
    """As `LeasesUnstarted`, because this agent cannot run them."""

    handles: list[Handle]
    reason: str
    message: str


class DrainRequested(msgspec.Struct, frozen=True):
    """By the operator. A second one ends the patience with what still runs."""

    patience: int
    reason: str


class DiskMeasured(msgspec.Struct, frozen=True):
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

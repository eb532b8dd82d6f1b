"""The vocabulary of leases on the agent: what was granted, how far it is, how it ended.

Instants are microseconds of the agent's lease clock, which goes on while the machine is suspended. Spans are
microseconds, too.
"""

from __future__ import annotations

import enum
import hashlib
from dataclasses import dataclass
from typing import TypeAlias

import msgspec

LeaseKey: TypeAlias = tuple[bytes, int, int]
"""(run id, step, item): the step run that a lease is for."""

Handle: TypeAlias = int
"""The agent's own name of a lease, never used twice within a process."""


HOME = 0
"""The number of the link with the head."""
NOBODY = -1
"""In place of a link: the coordinator has said that it does not own the run any more."""


class Phase(enum.IntEnum):
    """From ACCEPTED on, the numbers are those of the proto."""

    GRANTED = 0
    """The acceptance is not on its way yet, so nothing may start."""
    ACCEPTED = 1
    RUNNING = 2
    FINISHED = 3
    """The result waits for its acknowledgement."""


class Ending(enum.Enum):
    """Why the agent ends an attempt before it ends by itself."""

    CANCELLED = "cancelled"
    TIMED_OUT = "timed_out"
    LEASE_EXPIRED = "lease_expired"
    HANDED_BACK = "handed_back"
    ABANDONED = "abandoned"
    """Nobody wants to hear of it any more."""


class Status(enum.IntEnum):
    """The numbers are those of the proto."""

    OK = 1
    FAILED = 2
    CANCELLED = 3
    TIMED_OUT = 4
    LEASE_EXPIRED = 5


class Ended(enum.Enum):
    """How an attempt ended, as its executor saw it."""

    OK = "ok"
    FAILED = "failed"
    STOPPED = "stopped"
    """By the agent's own signal."""
    NEVER_STARTED = "never_started"


class Grant(msgspec.Struct, frozen=True):
    grant_seq: int
    key: LeaseKey
    token: int
    attempt: int
    timeout: int | None
    """The longest run time of the attempt; None: no limit."""
    stop_grace: int
    """Between SIGTERM and SIGKILL when nothing else is said."""
    work: object
    """What to run: the executors' matter."""
    refusal: tuple[str, str] | None = None
    """Reason and message, if this agent cannot run it."""


class Outcome(msgspec.Struct, frozen=True):
    """What an executor says of an attempt that ended."""

    handle: Handle
    ended: Ended
    result_id: bytes
    run_time: int
    body: object = None
    """Output, error and usage: the wire's matter."""


@dataclass(slots=True, eq=False)
class Result:
    """Kept until it is acknowledged."""

    result_id: bytes
    status: Status
    ended_at: int
    body: object
    sent_at: int | None = None
    spooled: bool = False


@dataclass(slots=True, eq=False)
class Lease:
    handle: Handle
    key: LeaseKey
    token: int
    attempt: int
    deadline: int
    timeout: int | None
    stop_grace: int
    work: object
    phase: Phase = Phase.GRANTED
    arrived_at: int = 0
    """0: it was restored."""
    started_at: int = 0
    ending: Ending | None = None
    ending_reason: str = ""
    kill_at: int | None = None
    """When a polite stop becomes a kill."""
    killed: bool = False
    entered: bool = False
    """Handed to the executors, which report its end."""
    waits_for: Handle | None = None
    """An older attempt of the same step run, which must be dead before this one starts."""
    named_seq: int = 0
    """The seq of the message that named it first in the session of its link; 0: none yet."""
    result: Result | None = None
    link: int = HOME
    """The link whose coordinator speaks for it. Of a link without an open session, or NOBODY: it is an orphan."""


@dataclass(frozen=True, slots=True)
class Held:
    """A line of the list that Hello and heartbeats carry."""

    key: LeaseKey
    token: int
    phase: Phase
    attempt: int
    elapsed: int
    session: int = 0
    """Of what another link holds: the epoch of its session; 0: it is an orphan."""


@dataclass(frozen=True, slots=True)
class Restored:
    """A result that an earlier process of this agent left in the spool."""

    key: LeaseKey
    token: int
    attempt: int
    result_id: bytes
    status: Status
    ended_at: int
    body: object


def unstarted_result_id(lease: Lease) -> bytes:
    """The name of the result of a lease that never started: there can be but one."""
    run_id, step, item = lease.key
    return hashlib.blake2b(b"%b %d %d %d" % (run_id, step, item, lease.token), digest_size=16).digest()


def conclude(ending: Ending | None, ended: Ended) -> Status | None:
    """What the coordinator hears of an attempt; None: a lease that is handed back, without a result.

    What was complete before the stop reached it stays complete.
    """
    if ended is Ended.OK:
        return Status.OK
    if ended is Ended.NEVER_STARTED and ending is not Ending.CANCELLED:
        return None
    match ending:
        case None:
            return Status.FAILED
        case Ending.CANCELLED:
            return Status.CANCELLED
        case Ending.HANDED_BACK | Ending.ABANDONED:
            return None
        case Ending.TIMED_OUT:
            return Status.FAILED if ended is Ended.FAILED else Status.TIMED_OUT
        case Ending.LEASE_EXPIRED:
            return Status.FAILED if ended is Ended.FAILED else Status.LEASE_EXPIRED

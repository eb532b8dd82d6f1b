"""What agents and coordinators say to each other, as the protocol has it, without its bytes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from penstock_agent.core.leases import Grant, LeaseKey, Status

Ref: TypeAlias = "tuple[LeaseKey, int]"
"""(step run, token)"""


HeldLease: TypeAlias = "tuple[LeaseKey, int, bool, bool, bool, int]"
"""(step run, token, whether it is finished, whether it is accepted and not started, whether anything is prepared for
it, of one that is held elsewhere the open session by which it is, 0: none)"""


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """What an agent with links says of those that a stream does not go to."""

    held: list[HeldLease]
    open_sessions: frozenset[int]
    pending: bool
    links: frozenset[str]
    """Incarnations of members that it is linked with."""
    complete: bool
    """`held` are all, not orphans alone."""
    given_up: frozenset[Ref] = frozenset()
    tells_given_up: bool = False
    newest_session: int = 0


NOWHERE = Elsewhere([], frozenset(), False, frozenset(), True)
"""Of an agent with one stream."""


@dataclass(frozen=True, slots=True)
class Hello:
    agent: str
    boot_id: str
    slots: int
    highest_coordinator_epoch: int
    queues: frozenset[str]
    labels: tuple[tuple[str, str], ...]
    resources: tuple[tuple[str, float], ...]
    stream: int
    held: list[HeldLease]
    given_up: list[Ref]
    tells_given_up: bool
    elsewhere: Elsewhere = NOWHERE
    highest_head_epoch: int = 0


@dataclass(frozen=True, slots=True)
class Credits:
    grant_limit: int


@dataclass(frozen=True, slots=True)
class Accepted:
    leases: list[Ref]


@dataclass(frozen=True, slots=True)
class Rejected:
    leases: list[tuple[LeaseKey, int, str, str]]


@dataclass(frozen=True, slots=True)
class Heartbeat:
    held: list[HeldLease]
    echo: int
    elsewhere: Elsewhere | None = None
    """None: it has one stream."""


@dataclass(frozen=True, slots=True)
class Result:
    key: LeaseKey
    token: int
    result_id: bytes
    status: Status
    output: bytes
    error: str
    """The class, if there is one."""


@dataclass(frozen=True, slots=True)
class Results:
    results: list[Result]


@dataclass(frozen=True, slots=True)
class Returned:
    leases: list[tuple[LeaseKey, int, bool]]
    void_credits: int = 0


@dataclass(frozen=True, slots=True)
class Draining:
    pass


@dataclass(frozen=True, slots=True)
class Goodbye:
    pass


AgentWord: TypeAlias = Hello | Credits | Accepted | Rejected | Heartbeat | Results | Returned | Draining | Goodbye


@dataclass(frozen=True, slots=True)
class Welcome:
    session: int
    coordinator_epoch: int
    heartbeat_interval: int
    lease_ttl: int
    resend_interval: int
    basis_seq: int
    coordinator: str = "c"
    head_epoch: int = 0


@dataclass(frozen=True, slots=True)
class Peers:
    """Of a head: all members, as they are now."""

    members: list[tuple[str, int]]
    """(coordinator, epoch): the name is the address, too."""


@dataclass(frozen=True, slots=True)
class Moved:
    """The coordinator does not own these any more."""

    run_ids: list[bytes]


@dataclass(frozen=True, slots=True)
class Verdicts:
    verdicts: list[tuple[LeaseKey, int, int, int]]
    """(step run, token, verdict, ttl)"""
    basis_seq: int


@dataclass(frozen=True, slots=True)
class Grants:
    grants: list[Grant]
    basis_seq: int
    ttl: int


@dataclass(frozen=True, slots=True)
class HeartbeatAck:
    basis_seq: int
    ttl: int
    revoked: list[Ref]
    echo: int


@dataclass(frozen=True, slots=True)
class Acks:
    acks: list[tuple[LeaseKey, int, bytes, int]]
    """(step run, token, result id, status)"""


@dataclass(frozen=True, slots=True)
class Cancels:
    leases: list[tuple[LeaseKey, int, str, int]]


@dataclass(frozen=True, slots=True)
class Returns:
    leases: list[Ref]


@dataclass(frozen=True, slots=True)
class Drain:
    deadline: int


@dataclass(frozen=True, slots=True)
class Pause:
    reason: str


@dataclass(frozen=True, slots=True)
class Resume:
    pass


@dataclass(frozen=True, slots=True)
class Goaway:
    reason: str


@dataclass(frozen=True, slots=True)
class Redirect:
    address: str


CoordinatorWord: TypeAlias = (
    Welcome
    | Verdicts
    | Grants
    | HeartbeatAck
    | Acks
    | Cancels
    | Returns
    | Drain
    | Pause
    | Resume
    | Goaway
    | Redirect
    | Peers
    | Moved
)

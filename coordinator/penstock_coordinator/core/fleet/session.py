"""What a coordinator concludes from the words of one agent's session.

Pure: words and instants in, conclusions out. The shell decodes, carries conclusions to the runs and writes answers.
Instants are microseconds of a monotonic clock.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from penstock_coordinator.core.fleet.leases import Holder, Lease, LeaseKey, LeaseTable, Lost, Phase
from penstock_coordinator.core.fleet.suspects import suspects

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


class Verdict(enum.IntEnum):
    """The numbers are those of the proto."""

    CONTINUE = 1
    ABORT = 2
    SEND_RESULT = 3
    DROP_RESULT = 4


@dataclass(frozen=True, slots=True)
class Held:
    """A lease as the agent names it."""

    key: LeaseKey
    token: int
    finished: bool
    waiting: bool = False
    """Accepted, and not started."""
    preparing: bool = False
    """It waits for no slot: its agent makes or fetches what it needs, which another one would begin anew."""
    session: int = 0
    """Of what is named as elsewhere: the session with another coordinator by which the agent holds it. 0: it is an
    orphan, and no coordinator speaks for it."""

    @property
    def phase(self) -> Phase:
        if self.finished:
            return Phase.FINISHED
        return Phase.WAITING if self.waiting else Phase.RUNNING


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What a `Hello` says of leases: all that the agent holds."""

    held: Sequence[Held]
    given_up: frozenset[tuple[LeaseKey, int]] = frozenset()
    """Of this process, over without a result, although user code may have started."""
    tells_given_up: bool = False
    """What is neither held nor given up has not started. Older agents do not say."""
    elsewhere: Sequence[Held] = ()
    """What it holds besides, by other coordinators or by none."""
    open_sessions: frozenset[int] = frozenset()
    """Those with other coordinators. Grants may be on their way there."""
    pending: bool = False
    """One more is being opened."""
    newest_session: int = 0
    """The greatest number of a session that this process had when it said so; 0: it did not say."""

    @property
    def beside(self) -> Beside:
        return Beside(self.elsewhere, self.open_sessions, self.pending)


@dataclass(frozen=True, slots=True)
class Beside:
    """What an agent with streams to several coordinators says of those to others."""

    elsewhere: Sequence[Held]
    open_sessions: frozenset[int]
    pending: bool
    complete: bool = True
    """All that it holds elsewhere is named, not orphans alone."""
    given_up: frozenset[tuple[LeaseKey, int]] = frozenset()
    tells_given_up: bool = False
    """Both as in a `Snapshot`; if it is complete."""
    newest_session: int = 0
    """As in a `Snapshot`."""


@dataclass(frozen=True, slots=True)
class Reunion:
    """What is settled by a `Hello`, or by what a heartbeat names as elsewhere."""

    verdicts: list[tuple[Held, Verdict]]
    continued: list[Lease]
    """They were another session's, and are this one's now."""
    lost: list[Lost]
    unknown: list[Held]
    """Orphans of which nothing is known here. Nothing is said of them: their owner may be on its way."""
    adopted: int
    """So many of `continued` were orphans."""


def is_outdated(leases: LeaseTable, agent: str, boot_id: str, stream: int) -> bool:
    """Whether this `Hello` is older than one of the same process that was heard: a coordinator that stood still may
    read them in any order. Its snapshot says nothing of what was granted since."""
    return any(holder.boot_id == boot_id and holder.stream > stream > 0 for holder in leases.holders_of(agent))


def is_overtaken(leases: LeaseTable, agent: str, boot_id: str, hello: int) -> bool:
    """Whether another process of the agent said Hello after this one, and was let in before it: its session was
    committed sooner. One process of an agent follows another, so the one that said this `Hello` is gone."""
    return any(holder.boot_id != boot_id and holder.hello > hello for holder in leases.holders_of(agent))


def may_go_on(leases: LeaseTable, agent: str, boot_id: str, stream: int) -> Holder | None:
    """What is left of the session that a `Hello` may go on with when no new one can be committed: the newest of the
    same process that this incarnation itself has welcomed, on an earlier stream. None if that holds nothing: there is
    nothing to go on with."""
    if is_outdated(leases, agent, boot_id, stream):
        return None
    former = [
        holder
        for holder in leases.holders_of(agent)
        if holder.boot_id == boot_id and 0 < holder.stream < stream and holder.leases
    ]
    return max(former, key=lambda holder: holder.stream, default=None)


def reunite(leases: LeaseTable, holder: Holder, snapshot: Snapshot) -> Reunion:
    """The agent is back with a new session, `holder`, and names what it holds.

    The snapshot is complete: what older sessions of the agent held and it does not name is certainly not running. It
    is lost by a crash if the agent's process is another one (then it may have run, also if its acceptance never came).
    Else it was given up, by a word that was lost, or it never began: the grant, or what handed it back, was lost.

    Sessions with a coordinator whose runs this one has now may be open still: see `Beside`.
    """
    verdicts: list[tuple[Held, Verdict]] = []
    continued: list[Lease] = []
    for held in snapshot.held:
        lease = leases.find(held.key)
        known = lease is not None and lease.token == held.token and lease.holder.agent == holder.agent
        if known:
            assert lease is not None
            _move(leases, lease, holder)
            lease.phase = held.phase
            continued.append(lease)
        verdicts.append((held, _verdict(held, known=known)))
    own = len(continued)
    unknown = _adopt(leases, holder, snapshot.elsewhere, 1, verdicts, continued)
    lost = _not_named(leases, holder, snapshot, snapshot.elsewhere)
    return Reunion(verdicts, continued, lost, unknown, len(continued) - own)


def adopt_orphans(leases: LeaseTable, holder: Holder, named: Iterable[Held], beside: Beside, due_ack: int) -> Reunion:
    """A heartbeat names orphans. Those that are known here are this session's from now on, and the agent is told so.
    `named`: what it names as its own; all of it, if `beside` is complete: then what nobody names is lost, as after a
    Hello. `due_ack`: the first acknowledgement that can come after the verdicts; see `Lease`."""
    verdicts: list[tuple[Held, Verdict]] = []
    continued: list[Lease] = []
    unknown = _adopt(leases, holder, beside.elsewhere, due_ack, verdicts, continued)
    lost: list[Lost] = []
    if beside.complete:
        snapshot = Snapshot(
            (),
            beside.given_up,
            beside.tells_given_up,
            open_sessions=beside.open_sessions,
            pending=beside.pending,
            newest_session=beside.newest_session,
        )
        lost = _not_named(leases, holder, snapshot, (*named, *beside.elsewhere))
    return Reunion(verdicts, continued, lost, unknown, len(continued))


def _adopt(
    leases: LeaseTable,
    holder: Holder,
    elsewhere: Iterable[Held],
    due_ack: int,
    verdicts: list[tuple[Held, Verdict]],
    continued: list[Lease],
) -> list[Held]:
    """Takes over the orphans that are known, and returns the others. What an agent holds by an open session it does not
    let go: it is an orphan once that ends. An orphan may be named again before the agent has read the verdict."""
    unknown: list[Held] = []
    for held in elsewhere:
        if held.session:
            continue
        lease = leases.find(held.key)
        if lease is None or lease.token != held.token or lease.holder.agent != holder.agent:
            unknown.append(held)
            continue
        if lease.holder is not holder:
            _move(leases, lease, holder)
            lease.due_ack = due_ack
            continued.append(lease)
        lease.phase = held.phase
        verdicts.append((held, _verdict(held, known=True)))
    return unknown


def _move(leases: LeaseTable, lease: Lease, holder: Holder) -> None:
    """What is left of a session goes with its last lease."""
    former = lease.holder
    leases.move(lease, holder)
    if former is not holder and not former.leases:
        leases.remove_holder(former.session)


def _not_named(leases: LeaseTable, holder: Holder, snapshot: Snapshot, named: Iterable[Held]) -> list[Lost]:
    """What the agent's older sessions held and is neither this one's by now nor `named` is lost, if those sessions are
    over."""
    somewhere = {(held.key, held.token) for held in named}
    lost: list[Lost] = []
    for old in leases.holders_of(holder.agent):
        crashed = old.boot_id != holder.boot_id
        if old is holder or not (crashed or _is_over(old, snapshot)) or _is_later(old, snapshot):
            continue
        gone = [lease for lease in old.leases.values() if (lease.key, lease.token) not in somewhere]
        sure = snapshot.tells_given_up and old.boot_known
        suspected = suspects(gone, old.slots, fill=not old.shares_slots) if crashed else set()
        for lease in gone:
            leases.end(lease.key, lease.token)
            if crashed:
                lost.append(_crashed(lease, old.boot_id if lease.key in suspected else ""))
            else:
                began = (lease.key, lease.token) in snapshot.given_up or (lease.accepted and not sure)
                lost.append(_not_held(lease, began=began))
        if not old.leases:
            leases.remove_holder(old.session)
    return lost


def _is_over(old: Holder, snapshot: Snapshot) -> bool:
    """No grant of the session can reach the agent any more. One that this incarnation had is: the agent has one stream
    to each coordinator. Others were of a former incarnation, or with a coordinator whose runs are this one's now."""
    return old.hello > 0 or (old.session not in snapshot.open_sessions and not snapshot.pending)


def _is_later(old: Holder, snapshot: Snapshot) -> bool:
    """The session, with a coordinator whose runs are this one's now, was opened after the agent had said this, which
    was on its way for long: it says nothing of that session's grants. All numbers come from one sequence, and are drawn
    when the stream is open."""
    return not old.hello and 0 < snapshot.newest_session < old.session


def _crashed(lease: Lease, boot_id: str) -> Lost:
    if lease.accepted:
        return Lost(lease, "agent_restarted", True, lease.sent, boot_id)
    return Lost(lease, "grant_not_received", False, lease.sent)


def _not_held(lease: Lease, *, began: bool) -> Lost:
    """By the process that it was granted to. `began`: for all that is known, it may have."""
    return Lost(lease, "returned" if began else "grant_not_received", accepted=False, unsure=began)


def expired(holder: Holder) -> list[Lost]:
    """Nothing was heard of it for a lease's whole life. An agent that hung up and did not come back died; of one that
    fell silent nobody knows."""
    leases = list(holder.leases.values())
    suspected = suspects(leases, holder.slots, fill=not holder.shares_slots) if holder.hung_up else set()
    cause = "agent_gone" if holder.hung_up else "lease_expired"
    return [
        Lost(lease, cause, lease.accepted, lease.sent, holder.boot_id if lease.key in suspected else "")
        for lease in leases
    ]


def _verdict(held: Held, *, known: bool) -> Verdict:
    """A result is always asked for: that the lease is not known any more says nothing of what is in the journal, and
    the run alone can tell. What is acknowledged as stale is dropped then."""
    if held.finished:
        return Verdict.SEND_RESULT
    return Verdict.CONTINUE if known else Verdict.ABORT


@dataclass(slots=True)
class Roll:
    """The leases that a session's heartbeats name; several parts make one heartbeat.

    A heartbeat answers the newest acknowledgement that the agent had read. Both go the stream's way in order, so a
    heartbeat that answers one that was sent after a grant, and does not name the lease, says that it is not held.
    """

    acks: int = 0
    """Acknowledgements sent so far."""
    named: set[LeaseKey] = field(default_factory=set)
    elsewhere: set[LeaseKey] = field(default_factory=set)
    """Named as such by the current heartbeat: a lease that was adopted is, until the agent has read of it."""
    answered: int | None = None
    """The acknowledgement that the first part of the current heartbeat answers."""

    def next_ack(self) -> int:
        self.acks += 1
        return self.acks

    def call(
        self, leases: LeaseTable, holder: Holder, part: Iterable[Held], answered: int, *, complete: bool
    ) -> tuple[list[Held], list[Lost]]:
        """A heartbeat, or a part of one: (what the agent is to stop, leases that it does not hold and that are
        ended)."""
        revoked: list[Held] = []
        for held in part:
            self.named.add(held.key)
            # What has ended is being sent: the answer to it settles it.
            if not self._renew(leases, holder, held) and not held.finished:
                revoked.append(held)
        if self.answered is None:
            self.answered = answered
        return revoked, self._missing(leases, holder) if complete else []

    def _missing(self, leases: LeaseTable, holder: Holder) -> list[Lost]:
        assert self.answered is not None
        lost = [
            Lost(lease, "not_held", lease.accepted)
            for lease in holder.leases.values()
            if lease.key not in self.named
            and lease.sent
            and lease.due_ack <= self.answered
            and lease.key not in self.elsewhere
        ]
        for loss in lost:
            leases.end(loss.lease.key, loss.lease.token)
        self.named.clear()
        self.elsewhere.clear()
        self.answered = None
        return lost

    @staticmethod
    def _renew(leases: LeaseTable, holder: Holder, held: Held) -> bool:
        lease = leases.find(held.key)
        if lease is None or lease.token != held.token or lease.holder is not holder:
            return False
        lease.accepted = True
        lease.phase = held.phase
        lease.waiting_beats = lease.waiting_beats + 1 if held.waiting and not held.preparing else 0
        return True

"""The sessions of a coordinator: who is let in, and what becomes of leases when a session comes, speaks or goes.

Pure: the shell decodes words, commits sessions and writes what is said. Instants are microseconds of a monotonic clock.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, Protocol

from penstock_coordinator.core.counts.adoptions import AdoptionCounts
from penstock_coordinator.core.fleet.fairness import misplaced
from penstock_coordinator.core.fleet.gate import Gate
from penstock_coordinator.core.fleet.leases import Holder, Lease, LeaseTable, Lost
from penstock_coordinator.core.fleet.leasing import Leasing, S, Tell
from penstock_coordinator.core.fleet.session import (
    Beside,
    Held,
    Reunion,
    Snapshot,
    adopt_orphans,
    expired,
    is_outdated,
    is_overtaken,
    may_go_on,
    reunite,
)
from penstock_coordinator.core.fleet.standing import Standing, fence_interval
from penstock_coordinator.core.run.events import Charge

if TYPE_CHECKING:
    from penstock_coordinator.core.dispatch.dispatcher import Dispatcher
    from penstock_coordinator.core.fleet.pauses import PausedAgents

HEARTBEAT_WINDOW = 1.5
"""Within so many heartbeat intervals something is heard of an agent that lives, with all that is added by chance."""
MISSED_BEATS = 3
"""So many heartbeats late, a stream counts as dead; its leases live on until their ttl."""
DATABASE_BACK = "database_back"
"""Why those are to come back that went on without a session of their own."""


class Spans(Protocol):
    """Microseconds."""

    @property
    def heartbeat_interval(self) -> int: ...
    @property
    def lease_ttl(self) -> int: ...
    @property
    def expiry_margin(self) -> int: ...
    @property
    def accept_timeout(self) -> int: ...


@dataclass(frozen=True, slots=True)
class Arrival:
    """Who comes, as its Hello says."""

    agent: str
    boot_id: str
    stream: int
    slots: int
    newest_coordinator: int
    """The newest incarnation that it has seen."""
    snapshot: Snapshot
    number: int
    """Of its Hello; see `Roster.next_hello`."""
    newest_head: int = 0
    """The newest incarnation of a head that it has seen, if it keeps streams to several coordinators."""
    shares_slots: bool = False
    """Other coordinators have a share of its slots."""


class Refusal(enum.Enum):
    STALE_COORDINATOR = enum.auto()
    """The agent has seen a newer incarnation than this coordinator is."""
    ID_IN_USE = enum.auto()
    """Another process with the agent's id is connected, and was heard of lately."""
    SUPERSEDED = enum.auto()
    """A newer session of the agent was opened in the meantime, or one by a newer Hello."""


class Roster(Generic[S]):
    """`tell` tells runs of leases that are over; `offer` is called when there is room for those who wait. `on_orphans`
    hears of those that a session names and nobody here knows: nothing has been said of them yet."""

    def __init__(
        self,
        spans: Spans,
        dispatcher: Dispatcher,
        pauses: PausedAgents,
        tell: Tell,
        offer: Callable[[], None],
        on_orphans: Callable[[S, list[Held]], None] | None = None,
        counts: AdoptionCounts | None = None,
    ) -> None:
        self._spans = spans
        self.leases = LeaseTable(spans.lease_ttl, spans.expiry_margin)
        self.leasing: Leasing[S] = Leasing(self.leases, dispatcher, tell, offer)
        self.gate: Gate[S] = Gate(self.leasing, pauses)
        self.standing = Standing(fence_interval(spans.expiry_margin))
        self.sessions = self.leasing.sessions
        self._on_orphans = on_orphans
        self._counts = counts or AdoptionCounts()
        self._hellos = 0
        self._stand_ins = 0
        """How many there have been."""
        self._unseen = False
        """The last look for the database found none."""

    @property
    def adopted(self) -> int:
        """So many orphans were taken over from other coordinators."""
        return self._counts.leases

    # --- a session comes

    def next_hello(self) -> int:
        """The number of a Hello that is heard now: what is committed later may have been said sooner."""
        self._hellos += 1
        return self._hellos

    def refuses(self, arrival: Arrival, incarnation: int, now: int, head: int = 0) -> Refusal | None:
        """Before its session is committed. `head`: the incarnation of the head that this coordinator has joined; 0: it
        is a head itself."""
        if arrival.newest_coordinator > incarnation or arrival.newest_head > (head or incarnation):
            return Refusal.STALE_COORDINATOR
        return None if self._is_alone(arrival, now) else Refusal.ID_IN_USE

    def refuses_committed(self, arrival: Arrival, session: int, now: int) -> Refusal | None:
        """The session has that number in the database by now."""
        newer = any(other.holder.agent == arrival.agent and other.epoch > session for other in self.sessions.values())
        outdated = is_outdated(self.leases, arrival.agent, arrival.boot_id, arrival.stream)
        if newer or outdated or is_overtaken(self.leases, arrival.agent, arrival.boot_id, arrival.number):
            return Refusal.SUPERSEDED
        return None if self._is_alone(arrival, now) else Refusal.ID_IN_USE

    def twin(self, arrival: Arrival) -> S | None:
        """The session of another process with the same id."""
        for session in self.sessions.values():
            if session.holder.agent == arrival.agent and session.holder.boot_id != arrival.boot_id:
                return session
        return None

    def _is_alone(self, arrival: Arrival, now: int) -> bool:
        """An agent that was started again is another process too: the end of its former stream tells, or that nothing
        is heard on it."""
        twin = self.twin(arrival)
        return twin is None or twin.holder.heard_at < now - self._window

    @property
    def _window(self) -> float:
        return self._spans.heartbeat_interval * HEARTBEAT_WINDOW

    def holder_of(self, arrival: Arrival, session: int, now: int) -> Holder:
        return Holder(
            arrival.agent,
            session,
            arrival.boot_id,
            now,
            stream=arrival.stream,
            slots=arrival.slots,
            hello=arrival.number,
            shares_slots=arrival.shares_slots,
        )

    def enter(self, session: S, arrival: Arrival) -> None:
        """In place of every session that the agent has. If a former process of it may live, no budget pays for what
        that one holds."""
        alive = self.twin(arrival) is not None
        self._take_in(session, arrival, Charge.STARTED if alive else None)
        self.gate.enter(session)
        self.leasing.dispatcher.add_session(session.capacity)
        self.leasing.offer()

    def former_of(self, arrival: Arrival, now: int) -> Holder | None:
        """No session can be committed while the database is away. The agent is heard of all the same: what it holds
        waits for it. The former session that it may go on with, if there is one."""
        for holder in self.leases.holders_of(arrival.agent):
            if holder.boot_id == arrival.boot_id:
                holder.heard_at = now
        if self.twin(arrival) is not None:
            return None
        return may_go_on(self.leases, arrival.agent, arrival.boot_id, arrival.stream)

    def stand_in_for(self, former: Holder, arrival: Arrival, now: int) -> Holder:
        """Of a stream that goes on with the former session, whose number is committed, until a new one can be."""
        self._stand_ins += 1
        holder = self.holder_of(arrival, -self._stand_ins, now)
        holder.stands_for = former.committed
        return holder

    def enter_stand_in(self, session: S, arrival: Arrival) -> None:
        """Nothing is placed on it. What was granted to the former session and is still to be committed finds that
        gone."""
        self._take_in(session, arrival, None)
        self.gate.enter_stand_in(session)

    def _take_in(self, session: S, arrival: Arrival, charge: Charge | None) -> None:
        self._supersede(arrival.agent)
        self.leases.add_holder(session.holder)
        self.sessions[session.epoch] = session
        reunion = reunite(self.leases, session.holder, arrival.snapshot)
        self._settle(session, reunion, session.opened_at)
        self.leasing.tell_lost(reunion.lost, charge)

    def _settle(self, session: S, reunion: Reunion, now: int) -> None:
        self._counts.leases += reunion.adopted
        for lease in reunion.continued:
            session.capacity.adopt(lease.line)
        if reunion.verdicts:
            session.judge(reunion.verdicts, self._renewal(now))
        for lease in reunion.continued:
            if lease.stop is not None:
                session.cancel(lease)
        if reunion.unknown and self._on_orphans is not None:
            self._on_orphans(session, reunion.unknown)

    def _supersede(self, agent: str) -> None:
        """At most one session of an agent lives: the newest."""
        for session in list(self.sessions.values()):
            if session.holder.agent == agent:
                session.close("superseded")
                self._detach(session)

    # --- a session speaks

    def heartbeat(
        self,
        session: S,
        held: Sequence[Held],
        echo: int,
        now: int,
        *,
        complete: bool = True,
        beside: Beside | None = None,
    ) -> list[Lost]:
        """Answers it. `beside`: what it says of other coordinators' leases, if anything; to be complete it has to be
        that of a heartbeat in one part. Returns what the agent turns out not to hold, of which the runs have been
        told."""
        missed = [] if beside is None else self._take_over(session, held, beside, now)
        revoked, lost = session.roll.call(self.leases, session.holder, held, echo, complete=complete)
        for lease in session.holder.leases.values():
            if lease.stop is not None and lease.sent:
                session.cancel(lease)
        session.answer_heartbeat(revoked, self._renewal(now), session.roll.next_ack())
        for loss in lost:
            self.leasing.freed(loss.lease)
        self.leasing.tell_lost(lost)
        if complete:
            self._share(session)
        return missed + lost

    def _take_over(self, session: S, held: Sequence[Held], beside: Beside, now: int) -> list[Lost]:
        """The verdicts go before the heartbeat's answer: an agent that answers that has read them."""
        session.roll.elsewhere.update(each.key for each in beside.elsewhere)
        reunion = adopt_orphans(self.leases, session.holder, held, beside, session.roll.acks + 1)
        self._settle(session, reunion, now)
        self.leasing.tell_lost(reunion.lost)
        return reunion.lost

    def _share(self, session: S) -> None:
        """Call back what waits on this agent while another one is idle."""
        others = (each.capacity for each in self.sessions.values() if each is not session)
        for lease in misplaced(session.holder, others):
            lease.called_back = True
            session.call_back(lease)

    def _renewal(self, now: int) -> int:
        """The ttl of leases that are renewed now. Nothing, while another incarnation may have taken over."""
        self.standing.notice(now, database_away=self.database_away)
        return 0 if self.standing.in_doubt else self._spans.lease_ttl

    def awake(self, now: int) -> None:
        """To be called often: who was not, stood still, and may have been replaced."""
        self.standing.awake(now, database_away=self.database_away)

    # --- the database

    @property
    def database_away(self) -> bool:
        """Commits wait for it, or there is nothing to commit and it was not found."""
        return self._unseen or self.gate.database_away

    def missed_database(self, now: int) -> None:
        """It was asked something and is away. Who stood still before that may have been replaced all the same."""
        self.standing.notice(now, database_away=self.database_away)
        self._unseen = True

    def found_database(self, now: int) -> None:
        """It has answered. Who stood still meanwhile is in doubt, although it was away before."""
        self._unseen = False
        self.standing.notice(now, database_away=self.database_away)

    # --- a session goes

    def goodbye(self, session: S) -> None:
        """The agent has ended well: whatever it still held is given up."""
        session.said_goodbye = True
        for lease in list(session.holder.leases.values()):
            self.leases.end(lease.key, lease.token)
            self.leasing.tell(lease, "goodbye", Charge.STARTED if lease.accepted else Charge.NOBODY)
        self._detach(session)
        self.leases.remove_holder(session.epoch)
        session.close()

    def stream_ended(self, session: S, now: int) -> None:
        """Without a goodbye: the leases live on until the ttl, or until the agent is back. The system of a process that
        dies ends its connections at once; what is cut off falls silent first."""
        if session.epoch in self.sessions and not session.sent_away:
            session.holder.hung_up = session.holder.heard_at >= now - self._window
        self._detach(session)
        session.close()
        if not session.holder.leases:
            self.leases.remove_holder(session.epoch)

    def _detach(self, session: S) -> None:
        """Nothing more can be sent: leases that were never sent end here."""
        if self.sessions.pop(session.epoch, None) is None:
            return
        session.holder.connected = False
        self.leasing.dispatcher.remove_session(session.epoch)
        for lease in list(session.holder.leases.values()):
            if not lease.sent:
                self.leases.end(lease.key, lease.token)
                self.leasing.tell(lease, "session_gone", Charge.NOBODY)

    def _send_away(self, session: S, reason: str) -> None:
        session.sent_away = True
        session.close(reason)

    # --- time passes

    def expire(self, now: int) -> list[Lost]:
        """Give up what was not heard of for a lease's whole life."""
        given_up: list[Lost] = []
        for holder in self.leases.expired(now):
            session = self.sessions.get(holder.session)
            if session is not None:
                session.close("silent")
                self._detach(session)
            lost = expired(holder)
            for loss in lost:
                self.leases.end(loss.lease.key, loss.lease.token)
            self.leases.remove_holder(holder.session)
            self.leasing.tell_lost(lost)
            given_up += lost
        return given_up

    def give_up_unaccepted(self, now: int) -> list[Lease]:
        """What an agent has neither accepted nor rejected in time is called back, and returned. It goes elsewhere once
        it cannot run there: if nothing else tells, when it has lapsed. No budget pays, but the attempt may have
        begun."""
        called_back: list[Lease] = []
        for session in self.sessions.values():
            late = session.acceptance.overdue(self.leases, now, self._spans.accept_timeout)
            for lease in late:
                session.call_back(lease)
            called_back += late
            for lease in session.acceptance.lapsed(self.leases, now):
                self.leasing.end(lease.key, lease.token)
                self.leasing.tell(lease, "not_accepted", Charge.STARTED)
            if session.acceptance.closed_until:
                self.gate.open_or_close(session, now)
        self.leasing.offer()
        return called_back

    def close_silent(self, now: int) -> list[S]:
        """End streams that missed their heartbeats; a hung agent does not hold a connection for ever."""
        limit = now - self._spans.heartbeat_interval * MISSED_BEATS
        silent = [session for session in self.sessions.values() if session.holder.heard_at < limit]
        for session in silent:
            self._send_away(session, "silent")
        return silent

    def end_stand_ins(self, now: int) -> list[S]:
        """Their agents are to come back, for a session that gets work again. If the database is not back yet they go on
        once more, so none is sent away that has just come."""
        if not self._stand_ins or self.database_away:
            return []
        limit = now - self._spans.heartbeat_interval
        due = [each for each in self.sessions.values() if each.holder.stands_for and each.opened_at <= limit]
        for session in due:
            self._send_away(session, DATABASE_BACK)
        return due

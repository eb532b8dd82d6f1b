"""The agent's session as a state machine: what it holds, what it owes, what it may start.

Pure: inputs and instants in, effects out; `next_deadline` says when `handle_timer` wants to be called. What must
always hold:

- nothing starts before its acceptance is on its way, nor past its lease's deadline;
- a lease's deadline counts from before the agent sent the message that the coordinator refers to;
- of a step run the newest token alone is held: an older attempt is killed, its result is forgotten;
- a result is kept until it is acknowledged, or until the coordinator says that nobody wants it.

The timers that concern many leases are lower bounds: at the bound all leases are looked at, and the next bound is
found. So a short step costs no timer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from penstock_agent.core import effects as do
from penstock_agent.core import inputs as said
from penstock_agent.core.book import due, soonest
from penstock_agent.core.ending import Endings
from penstock_agent.core.leases import HOME, NOBODY, Ending, Grant, Lease, LeaseKey, Phase, Restored
from penstock_agent.core.session import Session
from penstock_agent.core.sharing import Sharing

LEAVE_AFTER = 10_000_000
"""So long a drained agent waits for the acknowledgement of its last results; then they stay in the spool."""
LONG = 200_000
"""µs of a mean step: if it takes longer, what comes beyond the slots is handed back and does not wait."""
MOST_UNACKED = 10_000
"""With so many unacknowledged results an agent takes no more work."""


class Holder(Endings):
    """`slots` attempts run at once; below `disk_floor` bytes of free disk it takes no work."""

    def __init__(self, slots: int, disk_floor: int = 0, restored: Iterable[Restored] = ()) -> None:
        super().__init__(restored)
        self.slots = slots
        self.left = False
        self._disk_floor = disk_floor
        self._disk_full = False
        self._leave_at: int | None = None
        self._sharing = Sharing()
        self._routes: dict[type, Callable[[int, Any], None]] = {
            said.StreamOpened: self._stream_opened,
            said.StreamClosed: self._stream_closed,
            said.Welcomed: self._welcomed,
            said.AcceptsWritten: self._accepts_written,
            said.AttemptsStarted: self._attempts_started,
            said.AttemptsEnded: self._attempts_ended,
            said.LeasesUnstarted: self._leases_unstarted,
            said.LeasesRefused: self._leases_refused,
            said.DrainRequested: self._drain_requested,
            said.DiskMeasured: self._disk_measured,
        }
        self._words: dict[type, Callable[[int, Session, Any], None]] = {
            said.Granted: self._granted,
            said.HeartbeatAcked: self._heartbeat_acked,
            said.Judged: self._judged,
            said.ResultsAcked: self._results_acked,
            said.CancelOrdered: self._cancel_ordered,
            said.ReturnOrdered: self._return_ordered,
            said.Paused: self._paused,
            said.Resumed: self._resumed,
            said.DrainOrdered: self._drain_ordered,
            said.GoawayOrdered: self._goaway_ordered,
            said.Redirected: self._redirected,
            said.PeersNamed: self._peers_named,
            said.RunsMoved: self._runs_moved,
        }

    # --- the outside

    def handle(self, now: int, message: said.Input) -> list[do.Effect]:
        """What follows from an input, with what is to be settled after it."""
        return [*self.take(now, message), *self.settle(now)]

    def take(self, now: int, message: said.Input) -> list[do.Effect]:
        """What follows from an input: nobody waits for the rest, and `settle` is to be called when there is no further
        input. Words of any stream but the open, welcomed ones have no effect."""
        self._out = []
        if isinstance(message, said.Word):
            session = self.sessions.get(message.stream)
            if session is not None and _may_speak(session, message):
                session.heard_at = now
                self._words[type(message)](now, session, message)
        else:
            self._routes[type(message)](now, message)
        return self._out

    def settle(self, now: int) -> list[do.Effect]:
        """What follows from all that was taken: more credits, or the last word of one that is drained."""
        self._out = []
        self._settle(now)
        return self._out

    def next_deadline(self) -> int | None:
        check_at, spool_at = self._check_at, self.book.unacked.spool_at
        if len(self._speaking) == 1:
            session = self._speaking[0]
            return soonest(check_at, spool_at, self._drain_at, self._leave_at, session.heartbeat_at, session.resend_at)
        bound = soonest(check_at, spool_at, self._drain_at, self._leave_at, self._sharing.offer_at)
        for session in self._speaking:
            bound = soonest(bound, session.heartbeat_at, session.resend_at)
        return bound

    def handle_timer(self, now: int, chance: float) -> list[do.Effect]:
        """What is due. `chance`, evenly drawn from [0, 1), spreads heartbeats."""
        self._out = []
        if due(self._check_at, now):
            self._check_leases(now)
        if due(self.book.unacked.spool_at, now):
            self._spool(self.book.unacked.due_for_spool(now))
        if due(self._drain_at, now):
            self._end_patience(now)
        if due(self._sharing.offer_at, now):
            self._sharing.offer_at = None
        for session in self._speaking:
            if due(session.heartbeat_at, now):
                self._beat(now, session, chance)
            if due(session.resend_at, now):
                self._resend_results(now, session)
        self._settle(now)
        return self._out

    # --- leases come

    def _granted(self, now: int, session: Session, granted: said.Granted) -> None:
        deadline = session.deadline(granted.basis_seq, granted.ttl)
        accepted: list[Lease] = []
        rejected: list[tuple[LeaseKey, int, str, str]] = []
        returned: list[tuple[LeaseKey, int, bool]] = []
        session.active_at = now
        for grant in granted.grants:
            session.grants_seen = max(session.grants_seen, grant.grant_seq)
            old = self.book.held.get(grant.key)
            if old is not None and old.token == grant.token:
                continue
            refusal = self._refusal(now, session, grant, deadline, old)
            if refusal is not None:
                rejected.append((grant.key, grant.token, *refusal))
                continue
            if self.is_linked and self._has_no_place(session):
                if old is not None:
                    self._abandon(old)
                returned.append((grant.key, grant.token, False))
                continue
            assert deadline is not None
            accepted.append(self._take(now, session, grant, deadline, old))
        if accepted:
            self._check_by(deadline)
            self._out.append(do.Accept(session.stream, accepted))
        if rejected:
            self._out.append(do.Reject(session.stream, rejected))
        if returned:
            # Else the coordinator would place the same steps here again and again, as long as it has credits.
            session.grants_seen = max(session.grants_seen, session.limit_sent)
            self._out.append(do.SendReturned(session.stream, returned, session.grants_seen))

    def _has_no_place(self, session: Session) -> bool:
        """It was promised to somebody else, too, or to a member before a person has paused the agent. Short steps wait
        here."""
        if self.paused:
            return session.link != HOME
        mean = self.pace.mean
        return (mean is None or mean >= LONG) and self.book.unfinished >= self.slots

    def _refusal(
        self, now: int, session: Session, grant: Grant, deadline: int | None, old: Lease | None
    ) -> tuple[str, str] | None:
        if old is not None and old.token > grant.token:
            return "stale_token", "a newer lease of the step run is held"
        if grant.refusal is not None:
            return grant.refusal
        if self.draining:
            return "draining", self._drain_reason
        if grant.grant_seq > session.limit_sent:
            return "over_capacity", f"grant {grant.grant_seq} is beyond the limit {session.limit_sent}"
        if self._disk_full:
            return "no_space", f"less than {self._disk_floor} bytes of disk are free"
        if deadline is None or deadline <= now:
            return "deadline_passed", "the lease ended before it arrived"
        return None

    def _take(self, now: int, session: Session, grant: Grant, deadline: int, old: Lease | None) -> Lease:
        if old is not None:
            self._abandon(old)
        lease = self.book.enter(now, grant, deadline, session.link)
        self.book.wait_for_death(lease)
        return lease

    def _accepts_written(self, now: int, written: said.AcceptsWritten) -> None:
        ready: list[Lease] = []
        moved = False
        for handle in written.handles:
            lease = self.book.all.get(handle)
            if lease is None or lease.phase is not Phase.GRANTED:
                continue
            lease.phase = Phase.ACCEPTED
            lease.named_seq = written.seq
            moved |= lease.link == NOBODY
            if lease.waits_for not in self.book.all:
                ready.append(lease)
        if moved:
            self._hurry(now)
        self._start(now, ready)

    # --- leases go on

    def _heartbeat_acked(self, now: int, session: Session, ack: said.HeartbeatAcked) -> None:
        session.echo = ack.echo
        deadline = session.deadline(ack.basis_seq, ack.ttl)
        revoked = set(ack.revoked)
        for lease in list(self.book.held.values()):
            if lease.link != session.link:
                continue
            if (lease.key, lease.token) in revoked:
                if lease.phase is not Phase.FINISHED:
                    self._abandon(lease)
            elif deadline is not None and 0 < lease.named_seq <= ack.basis_seq:
                lease.deadline = max(lease.deadline, deadline)

    def _judged(self, now: int, session: Session, judged: said.Judged) -> None:
        """Of an orphan, whoever judges it speaks for it from then on. Verdicts on what others hold have no effect."""
        resend: list[Lease] = []
        for key, token, verdict, ttl in judged.verdicts:
            lease = self.book.find(key, token)
            if lease is None:
                continue
            if lease.link != session.link:
                if not self._takes_over(session, lease, verdict):
                    continue
                if lease.result is not None and verdict is not said.Verdict.DROP_RESULT:
                    # Whatever the verdict says of what had not ended: the answer to the result settles it.
                    resend.append(lease)
                    continue
            if verdict is said.Verdict.CONTINUE:
                deadline = session.deadline(judged.basis_seq, ttl)
                lease.deadline = max(lease.deadline, deadline or 0)
            elif verdict is said.Verdict.SEND_RESULT:
                if lease.result is not None and lease.result.sent_at is None:
                    resend.append(lease)
            elif (verdict is said.Verdict.DROP_RESULT) is (lease.phase is Phase.FINISHED):
                # What ended after the snapshot was made is kept: the answer to its result settles it.
                self._abandon(lease)
        self._send(now, resend)

    def _takes_over(self, session: Session, lease: Lease, verdict: said.Verdict) -> bool:
        """False: another coordinator speaks for the lease, or it was never named, as its acceptance is not written."""
        if lease.phase is Phase.GRANTED or not self.is_orphan(lease):
            return False
        lease.link = session.link
        # Every heartbeat that is written from now on names it as this coordinator's.
        lease.named_seq = session.seq + 1
        if verdict is said.Verdict.CONTINUE or verdict is said.Verdict.SEND_RESULT:
            self.counts.adopted += 1
        return True

    def _attempts_started(self, now: int, started: said.AttemptsStarted) -> None:
        for handle in started.handles:
            lease = self.book.all.get(handle)
            if lease is None or lease.phase is not Phase.ACCEPTED:
                continue
            self.book.start(now, lease)
            if lease.timeout is not None:
                self._check_by(now + lease.timeout)

    def _paused(self, now: int, session: Session, paused: said.Paused) -> None:
        session.paused = True
        if session.link != HOME:
            return
        was, self.paused = self.paused, paused.reason == said.REQUESTED
        if self.paused and not was:
            held = self.book.held.values()
            self._call_back([lease for lease in held if lease.link != HOME and not self.is_orphan(lease)])

    def _resumed(self, now: int, session: Session, resumed: said.Resumed) -> None:
        session.paused = False
        if session.link == HOME:
            self.paused = False

    # --- handing back, draining

    def _return_ordered(self, now: int, session: Session, order: said.ReturnOrdered) -> None:
        ordered = [self.book.find(key, token) for key, token in order.leases]
        self._call_back([lease for lease in ordered if lease is not None and lease.link == session.link])

    def _call_back(self, leases: list[Lease]) -> None:
        """Hand back what has not started."""
        waiting = [lease for lease in leases if lease.phase in (Phase.GRANTED, Phase.ACCEPTED)]
        entered = [lease.handle for lease in waiting if lease.entered]
        outside = [lease for lease in waiting if not lease.entered]
        for lease in outside:
            self._forget(lease)
        self._say_returned(outside)
        if entered:
            self._out.append(do.Withdraw(entered))

    def _drain_ordered(self, now: int, session: Session, drain: said.DrainOrdered) -> None:
        if session.link == HOME and not self.draining:
            self._drain(now, drain.deadline, drain.reason)

    def _drain_requested(self, now: int, drain: said.DrainRequested) -> None:
        if self.draining:
            self._end_patience(now)
        else:
            self._drain(now, drain.patience, drain.reason)

    def _drain(self, now: int, patience: int, reason: str) -> None:
        self.draining = True
        self._drain_at = now + patience
        self._drain_reason = reason
        for session in self._speaking:
            self._say_draining(now, session)
        self._call_back(list(self.book.held.values()))

    def _end_patience(self, now: int) -> None:
        """What still runs is stopped politely and handed back."""
        self._drain_at = None
        for lease in list(self.book.held.values()):
            self._stop(now, lease, Ending.HANDED_BACK, self._drain_reason, lease.stop_grace)

    @property
    def disk_full(self) -> bool:
        """Less disk is free than the floor, or it cannot be written: no work is taken."""
        return self._disk_full

    def _disk_measured(self, now: int, measured: said.DiskMeasured) -> None:
        self._disk_full = measured.broken or measured.free_bytes < self._disk_floor

    # --- after every input

    def _settle(self, now: int) -> None:
        if self.draining:
            self._leave(now)
        elif self._speaking:
            self._raise_credits(now)

    def _leave(self, now: int) -> None:
        if self.book.unfinished or self.left:
            return
        self._leave_at = self._leave_at or now + LEAVE_AFTER
        connected = self.home is not None and self.home.welcomed
        if now >= self._leave_at or (connected and not self.book.unacked.leases):
            self._leave_at = None
            self.left = True
            self._out.append(do.SendGoodbye(self._drain_reason))

    def _raise_credits(self, now: int) -> None:
        if self.paused or self._disk_full or len(self.book.unacked.leases) >= MOST_UNACKED:
            return
        began = (lease.started_at for lease in self.book.running.values())
        capacity = self.pace.capacity(now, self.slots, began)
        room = capacity - self.book.unfinished
        if len(self._speaking) > 1:
            self._share(now, room, capacity)
            return
        session = self._speaking[0]
        limit = session.grants_seen + room
        more = limit - session.limit_sent
        # Few messages while credits are left; at once when there are none.
        if more > 0 and (more * 4 >= capacity or session.limit_sent <= session.grants_seen) and not session.paused:
            session.active_at = now
            session.limit_sent = limit
            self._out.append(do.SendCredits(session.stream, limit))

    def _share(self, now: int, room: int, capacity: int) -> None:
        sessions = [session for session in self._speaking if not session.paused]
        for session, more in self._sharing.offers(now, room, capacity, self.slots, sessions):
            session.limit_sent = max(session.limit_sent, session.grants_seen) + more
            self._out.append(do.SendCredits(session.stream, session.limit_sent))


def _may_speak(session: Session, word: said.Word) -> bool:
    """A coordinator that does not welcome the agent may send it away, or to another one."""
    if session.over:
        return False
    return session.welcomed or isinstance(word, said.GoawayOrdered | said.Redirected)

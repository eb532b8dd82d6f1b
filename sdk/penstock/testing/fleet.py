"""The coordinator's end of agents' streams: the real lease table, reunion and roll, with the words of the protocol.

What is decided here, and is not the core's, is what the coordinator's own fleet decides: when a session is opened,
superseded, let go or closed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from penstock.testing import words
from penstock.testing.timeline import MILLISECOND
from penstock_agent.core.leases import Grant
from penstock_coordinator.core.dispatch.capacity import Capacity
from penstock_coordinator.core.fleet.acceptance import Acceptance
from penstock_coordinator.core.fleet.fairness import misplaced
from penstock_coordinator.core.fleet.leases import Holder, Lease, LeaseKey, LeaseTable, Lost, Stop, left_over
from penstock_coordinator.core.fleet.session import Held, Roll, Snapshot, Verdict, expired, is_outdated, reunite
from penstock_coordinator.core.fleet.settled import Settled
from penstock_coordinator.core.fleet.standing import Standing, fence_interval
from penstock_coordinator.core.run.commands import AckStatus
from penstock_coordinator.core.run.events import Charge, Failure, Outcome
from penstock_coordinator.core.run.messages import AttemptEnded, InputsUnresolved, LeaseGone
from penstock_coordinator.core.run.raised import MEMORY, memory_of
from penstock_coordinator.core.run.retrying import OUT_OF_MEMORY
from penstock_coordinator.runtime.actor import Mail

if TYPE_CHECKING:
    from collections.abc import Iterable

    from penstock.testing.coordinator import Coordinator
    from penstock.testing.network import End, Link
    from penstock_coordinator.core.plan.model import Line
    from penstock_coordinator.core.run.commands import AwaitLease, CallBackLease, GrantLeases, StopAttempt
    from penstock_coordinator.runtime.actor import Actor

ACK_DELAY = 20 * MILLISECOND
REJECTION_PAUSE = 100 * MILLISECOND
HEARTBEAT_WINDOW = 1.5
MISSED_BEATS = 3
SHORT_OF_MEMORY = 3
"""One in so many failures, of attempts with a limit of memory, is that they ran out of it."""

_OUTCOMES = {2: Outcome.FAILED, 3: Outcome.CANCELLED, 4: Outcome.TIMED_OUT, 5: Outcome.LOST}


class Session:
    """One connected stream of an agent."""

    def __init__(self, coordinator: Coordinator, link: Link, end: End, holder: Holder, capacity: Capacity) -> None:
        self._coordinator = coordinator
        self._link = link
        self._end = end
        self.holder = holder
        self.capacity = capacity
        self.roll = Roll()
        self.acceptance = Acceptance()
        self.read_at = coordinator.timeline.now
        """When the last word was read; true time."""
        self.basis_seq = 1
        self.draining = False
        self.said_goodbye = False
        self.closed = False
        self._plain: list[words.CoordinatorWord] = []
        self._grants: list[Grant] = []
        self._cancels: list[tuple[LeaseKey, int, str, int]] = []
        self._returns: list[words.Ref] = []
        self._acks: list[tuple[LeaseKey, int, bytes, int]] = []
        self._writing = False
        self._acks_due = False

    @property
    def epoch(self) -> int:
        return self.holder.session

    def send(self, word: words.CoordinatorWord) -> None:
        """Goes after every grant that was gathered before it."""
        self._plain += self._granting()
        self._plain.append(word)
        self._write_soon()

    def grant(self, grant: Grant) -> None:
        self._grants.append(grant)
        self._write_soon()

    def cancel(self, lease: Lease) -> None:
        assert lease.stop is not None
        self._cancels.append((lease.key, lease.token, lease.stop.reason, lease.stop.grace))
        self._write_soon()

    def call_back(self, lease: Lease) -> None:
        self._returns.append((lease.key, lease.token))
        self._write_soon()

    def acknowledge(self, key: LeaseKey, token: int, result_id: bytes, status: int) -> None:
        self._acks.append((key, token, result_id, status))
        if len(self._acks) == 1:
            self._coordinator.after(ACK_DELAY, self._write_acks)

    def _write_acks(self) -> None:
        self._acks_due = True
        self._write()

    def _write_soon(self) -> None:
        if not self._writing:
            self._writing = True
            self._coordinator.after(100, self._write)

    def _write(self) -> None:
        self._writing = False
        for word in self._gathered():
            self._coordinator.invariants.coordinator_says(self._coordinator, self, word)
            self._link.to_agent(word)
        if self.closed:
            self._link.close(self._end)

    def _gathered(self) -> list[words.CoordinatorWord]:
        found, self._plain = self._plain, []
        found += self._granting()
        if self._cancels:
            cancels, self._cancels = self._cancels, []
            found.append(words.Cancels(cancels))
        if self._returns:
            returns, self._returns = self._returns, []
            found.append(words.Returns(returns))
        if self._acks and (self._acks_due or self.closed):
            self._acks_due = False
            acks, self._acks = self._acks, []
            found.append(words.Acks(acks))
        return found

    def _granting(self) -> list[words.CoordinatorWord]:
        if not self._grants:
            return []
        grants, self._grants = self._grants, []
        return [words.Grants(grants, self.basis_seq, self._coordinator.timing.lease_ttl)]

    def close(self, reason: str = "") -> None:
        if reason:
            self.send(words.Goaway(reason))
        self.closed = True
        self._write_soon()


class Stream:
    """One stream as the coordinator reads it, from its Hello to its end."""

    def __init__(self, coordinator: Coordinator) -> None:
        self._coordinator = coordinator
        self.link: Link | None = None
        self.end: End | None = None
        self.session: Session | None = None
        self._over = False

    def hear(self, message: tuple[int, words.AgentWord]) -> None:
        seq, word = message
        session = self.session
        if session is None:
            if isinstance(word, words.Hello) and not self._over:
                self._coordinator.fleet.open(self, word)
            return
        if session.closed and not self._coordinator.timeline.random.random() < 0.5:
            # What is read in the moment between the decision to close and the end of the reader.
            return
        session.holder.heard_at = self._coordinator.clock.monotonic()
        session.basis_seq = seq
        session.read_at = self._coordinator.timeline.now
        self._coordinator.fleet.hear(session, word)

    def ended(self) -> None:
        """Without a goodbye, if none was said."""
        self._over = True
        if self.session is not None and not self.session.said_goodbye:
            self._coordinator.fleet.stream_ended(self.session)

    def refuse(self) -> None:
        self._over = True
        if self.link is not None and self.end is not None:
            self.link.close(self.end)

    @property
    def over(self) -> bool:
        return self._over


class SimulatedFleet:
    def __init__(self, coordinator: Coordinator) -> None:
        self._coordinator = coordinator
        self._timing = coordinator.timing
        self.leases = LeaseTable(self._timing.lease_ttl, self._timing.expiry_margin)
        self.standing = Standing(fence_interval(self._timing.expiry_margin))
        self.sessions: dict[int, Session] = {}
        self.paused = False
        """The database is away: no agent gets anything, and none asks."""
        self._settled = Settled()

    def session(self, epoch: int) -> Session | None:
        return self.sessions.get(epoch)

    # --- a session comes

    def open(self, stream: Stream, hello: words.Hello) -> None:
        """The session's number is committed, then what the agent holds is settled."""
        if hello.highest_coordinator_epoch > self._coordinator.epoch or not self._alone(hello):
            stream.refuse()
            return
        self._coordinator.read_store(lambda: self._opened(stream, hello))

    def _opened(self, stream: Stream, hello: words.Hello) -> None:
        coordinator = self._coordinator
        epoch = coordinator.store.open_session(hello.agent, hello.boot_id)
        if any(other.holder.agent == hello.agent and other.epoch > epoch for other in self.sessions.values()):
            stream.refuse()
            return
        # The answer takes its way, too.
        coordinator.after(500, self._enter, stream, hello, epoch)

    def _enter(self, stream: Stream, hello: words.Hello, epoch: int) -> None:
        coordinator = self._coordinator
        newer = any(other.holder.agent == hello.agent and other.epoch > epoch for other in self.sessions.values())
        outdated = is_outdated(self.leases, hello.agent, hello.boot_id, hello.stream)
        if newer or outdated or not self._alone(hello):
            stream.refuse()
            return
        alive = self._twin(hello) is not None
        self._supersede(hello.agent)
        now = coordinator.clock.monotonic()
        holder = self.leases.add_holder(
            Holder(hello.agent, epoch, hello.boot_id, now, stream=hello.stream, slots=hello.slots)
        )
        capacity = Capacity(epoch, hello.agent, hello.queues, dict(hello.labels), dict(hello.resources), hello.slots)
        assert stream.link is not None
        assert stream.end is not None
        session = Session(coordinator, stream.link, stream.end, holder, capacity)
        self.sessions[epoch] = session
        coordinator.invariants.session_opens(coordinator, session)
        timing = self._timing
        session.send(
            words.Welcome(
                epoch,
                coordinator.epoch,
                timing.heartbeat_interval,
                timing.lease_ttl,
                timing.result_resend_interval,
                1,
            )
        )
        self._reunite(session, hello, Charge.STARTED if alive else None)
        coordinator.dispatcher.add_session(capacity)
        coordinator.pump_offers()
        if stream.over:
            self.stream_ended(session)
            return
        stream.session = session

    def _alone(self, hello: words.Hello) -> bool:
        twin = self._twin(hello)
        window = self._timing.heartbeat_interval * HEARTBEAT_WINDOW
        return twin is None or twin.holder.heard_at < self._coordinator.clock.monotonic() - window

    def _twin(self, hello: words.Hello) -> Session | None:
        for session in self.sessions.values():
            if session.holder.agent == hello.agent and session.holder.boot_id != hello.boot_id:
                return session
        return None

    def _supersede(self, agent: str) -> None:
        for session in list(self.sessions.values()):
            if session.holder.agent == agent:
                session.close("superseded")
                self._detach(session)

    def _reunite(self, session: Session, hello: words.Hello, charge: Charge | None) -> None:
        held = [Held(*each) for each in hello.held]
        snapshot = Snapshot(held, frozenset(hello.given_up), hello.tells_given_up)
        reunion = reunite(self.leases, session.holder, snapshot)
        for lease in reunion.continued:
            session.capacity.adopt(lease.line)
        if reunion.verdicts:
            ttl = self._renewal()
            verdicts = [
                (held.key, held.token, int(verdict), ttl if verdict is Verdict.CONTINUE else 0)
                for held, verdict in reunion.verdicts
            ]
            session.send(words.Verdicts(verdicts, session.basis_seq))
        for lease in reunion.continued:
            if lease.stop is not None:
                session.cancel(lease)
        self._report_lost(reunion.lost, charge)

    # --- a session speaks

    def hear(self, session: Session, word: words.AgentWord) -> None:
        match word:
            case words.Results():
                self._results(session, word.results)
            case words.Heartbeat():
                self._heartbeat(session, word)
            case words.Credits():
                self._credits(session, word.grant_limit)
            case words.Accepted():
                self._accepted(session, word.leases)
            case words.Rejected():
                self._rejected(session, word.leases)
            case words.Returned():
                for key, token, started in word.leases:
                    self._released(session, key, token, started=started)
            case words.Draining():
                self.drain(session)
            case words.Goodbye():
                self._goodbye(session)

    def _results(self, session: Session, results: list[words.Result]) -> None:
        coordinator = self._coordinator
        now = coordinator.clock.now()
        for result in results:
            run_id, step, item = result.key
            if result.status == 1:
                outcome, failure = None, None
            else:
                outcome = _OUTCOMES[result.status]
                failure = Failure(self._why(result, outcome), "", result.error)
            jitter = coordinator.timeline.random.random()
            message = AttemptEnded(
                now,
                step,
                item,
                result.token,
                result.result_id,
                session.epoch,
                outcome,
                result.output,
                failure,
                jitter=jitter,
                memory_most=self._most_memory(),
            )
            if not coordinator.deliver(run_id, message):
                status = self.status_of_late(result.result_id)
                session.acknowledge(result.key, result.token, result.result_id, status)

    def _why(self, result: words.Result, outcome: Outcome) -> str:
        """Some attempts that may not hold more than so much memory fail because they did."""
        run_id, step, item = result.key
        actor = self._coordinator.actor(run_id)
        if outcome is not Outcome.FAILED:
            return outcome.name
        if actor is None or result.token % SHORT_OF_MEMORY or not actor.run.speaks(step, item, result.token):
            return "UserError"
        return OUT_OF_MEMORY if memory_of(actor.run.line_at(actor.run.agents_line(step, item))) else "UserError"

    def _most_memory(self) -> int:
        return max((int(s.capacity.resources.get(MEMORY, 0)) for s in self.sessions.values()), default=0)

    def settled(self, result_id: bytes) -> None:
        self._settled.add(result_id)

    def status_of_late(self, result_id: bytes) -> int:
        """Of a result that nobody waits for any more."""
        return int(AckStatus.DUPLICATE if result_id in self._settled else AckStatus.STALE)

    def _credits(self, session: Session, grant_limit: int) -> None:
        if session.draining or grant_limit <= session.capacity.grant_limit:
            return
        session.capacity.grant_limit = grant_limit
        self._coordinator.dispatcher.made_room(session.epoch)
        self._coordinator.pump_offers()

    def _accepted(self, session: Session, refs: Iterable[words.Ref]) -> None:
        session.acceptance.accepted()
        for key, token in refs:
            lease = self._spoken_of(session, key, token)
            if lease is not None:
                lease.accepted = True

    def _spoken_of(self, session: Session, key: LeaseKey, token: int) -> Lease | None:
        """The lease, if it is the session's own and has that token."""
        lease = self.leases.find(key)
        ours = lease is not None and lease.token == token and lease.holder is session.holder
        return lease if ours else None

    def _rejected(self, session: Session, leases: Iterable[tuple[LeaseKey, int, str, str]]) -> None:
        for key, token, reason, _ in leases:
            lease = self._spoken_of(session, key, token)
            if lease is not None:
                self.end_lease(key, token)
                self._coordinator.after(REJECTION_PAUSE, self._tell, lease, f"rejected: {reason}", Charge.NOBODY)

    def _released(self, session: Session, key: LeaseKey, token: int, *, started: bool) -> None:
        lease = self._spoken_of(session, key, token)
        if lease is not None:
            self.end_lease(key, token)
            self._tell(lease, "returned", Charge.STARTED if started else Charge.NOBODY)

    def _heartbeat(self, session: Session, beat: words.Heartbeat) -> None:
        held = [Held(*each) for each in beat.held]
        before = self._coordinator.mailed
        revoked, lost = session.roll.call(self.leases, session.holder, held, beat.echo, complete=True)
        for lease in session.holder.leases.values():
            if lease.stop is not None and lease.sent:
                session.cancel(lease)
        ack = words.HeartbeatAck(
            session.basis_seq,
            self._renewal(),
            [(each.key, each.token) for each in revoked],
            session.roll.next_ack(),
        )
        session.send(ack)
        self._coordinator.invariants.heartbeat_heard(before, self._coordinator.mailed, len(lost))
        for loss in lost:
            self._freed(loss.lease)
        self._report_lost(lost)
        others = (each.capacity for each in self.sessions.values() if each is not session)
        for lease in misplaced(session.holder, others):
            lease.called_back = True
            session.call_back(lease)

    def _renewal(self) -> int:
        """The ttl of leases that are renewed now."""
        self.standing.notice(self._coordinator.clock.monotonic(), database_away=self.paused)
        return 0 if self.standing.in_doubt else self._timing.lease_ttl

    def awake(self, now: int) -> None:
        self.standing.awake(now, database_away=self.paused)

    def drain(self, session: Session) -> None:
        session.draining = True
        self._open_or_close(session)

    def hold_back(self, *, paused: bool) -> None:
        """While the database is away agents are paused."""
        if paused == self.paused:
            return
        self.paused = paused
        for session in self.sessions.values():
            session.send(words.Pause() if paused else words.Resume())
            self._open_or_close(session)
        self._coordinator.pump_offers()

    def _open_or_close(self, session: Session) -> None:
        waits = session.acceptance.closed_until > self._coordinator.clock.monotonic()
        was, session.capacity.open = session.capacity.open, not (session.draining or self.paused or waits)
        if session.capacity.open and not was:
            self._coordinator.dispatcher.made_room(session.epoch)

    def order_drain(self, agent: str, deadline: int) -> None:
        """A person drains the agent."""
        for session in self.sessions.values():
            if session.holder.agent == agent:
                self.drain(session)
                session.send(words.Drain(deadline))

    # --- a session goes

    def _goodbye(self, session: Session) -> None:
        session.said_goodbye = True
        for lease in list(session.holder.leases.values()):
            self.leases.end(lease.key, lease.token)
            self._tell(lease, "goodbye", Charge.STARTED if lease.accepted else Charge.NOBODY)
        self._detach(session)
        self.leases.remove_holder(session.epoch)
        session.close()

    def stream_ended(self, session: Session) -> None:
        if session.epoch in self.sessions:
            window = self._timing.heartbeat_interval * HEARTBEAT_WINDOW
            session.holder.hung_up = session.holder.heard_at >= self._coordinator.clock.monotonic() - window
        self._detach(session)
        session.close()
        if not session.holder.leases:
            self.leases.remove_holder(session.epoch)

    def _detach(self, session: Session) -> None:
        if self.sessions.pop(session.epoch, None) is None:
            return
        session.holder.connected = False
        self._coordinator.dispatcher.remove_session(session.epoch)
        for lease in list(session.holder.leases.values()):
            if not lease.sent:
                self.leases.end(lease.key, lease.token)
                self._tell(lease, "session_gone", Charge.NOBODY)

    # --- leases

    def grant(self, actor: Actor, command: GrantLeases) -> None:
        session = self.session(command.session)
        now = self._coordinator.clock.now()
        if session is None:
            for step, item, _ in command.leases:
                actor.post(Mail(LeaseGone(now, step, item, command.token, "session_gone", Charge.NOBODY)))
            return
        for number, place, attempt in command.leases:
            leased = actor.plan.steps[number]
            key = (actor.run_id, number, place)
            lease = self._add_lease(session.holder, key, command.token, attempt, actor.run.line_at(command.line))
            if self._coordinator.behave(key, attempt).unresolvable:
                self.end_lease(key, command.token)
                failure = Failure("Input", "it cannot be made")
                actor.post(Mail(InputsUnresolved(now, number, place, command.token, failure)))
            else:
                self._deliver(session, lease, leased.timeouts.attempt, actor.plan.stop_grace)

    def _deliver(self, session: Session, lease: Lease, timeout: int | None, stop_grace: int) -> None:
        lease.sent = True
        lease.due_ack = session.roll.acks + 1
        lease.sent_at = self._coordinator.clock.monotonic()
        session.acceptance.sent(lease)
        number = session.capacity.grant()
        session.grant(Grant(number, lease.key, lease.token, lease.attempt, timeout, stop_grace, None))

    def _add_lease(self, holder: Holder, key: LeaseKey, token: int, attempt: int, line: Line) -> Lease:
        old = self.leases.find(key)
        if old is not None:
            self.leases.end(key, old.token)
        lease = self.leases.add(holder, key, token, attempt, line)
        if old is not None:
            self._freed(old)
        return lease

    def end_lease(self, key: LeaseKey, token: int) -> Lease | None:
        lease = self.leases.end(key, token)
        if lease is not None:
            self._freed(lease)
        return lease

    def _freed(self, lease: Lease) -> None:
        holder = lease.holder
        session = self.sessions.get(holder.session)
        if session is None:
            if not holder.leases:
                self.leases.remove_holder(holder.session)
            return
        if lease.sent:
            session.capacity.end(lease.line)
        else:
            session.capacity.take_back(lease.line, 1)
        self._coordinator.dispatcher.made_room(holder.session)
        self._coordinator.pump_offers()

    def stop(self, actor: Actor, command: StopAttempt) -> None:
        lease = self.leases.find((actor.run_id, command.step, command.item))
        if lease is None or lease.token != command.token:
            return
        lease.stop = Stop(command.grace, command.reason)
        session = self.sessions.get(lease.holder.session)
        if session is not None and lease.sent:
            session.cancel(lease)

    def call_back(self, actor: Actor, command: CallBackLease) -> None:
        lease = self.leases.find((actor.run_id, command.step, command.item))
        if lease is None or lease.token != command.token:
            return
        session = self.sessions.get(lease.holder.session)
        if session is not None and lease.sent:
            session.call_back(lease)

    def await_lease(self, actor: Actor, command: AwaitLease) -> None:
        holder = self.leases.holder(command.session)
        if holder is None:
            now = self._coordinator.clock.monotonic()
            last_boot = self._coordinator.boots.get(command.agent, (0, ""))
            holder = self.leases.add_holder(left_over(command.agent, command.session, last_boot, now))
        line = actor.run.line_at(actor.run.agents_line(command.step, command.item))
        key = (actor.run_id, command.step, command.item)
        lease = self._add_lease(holder, key, command.token, command.attempt, line)
        lease.sent = lease.accepted = True
        session = self.sessions.get(holder.session)
        if session is not None:
            session.capacity.adopt(line)

    def expire(self, now: int) -> None:
        for holder in self.leases.expired(now):
            session = self.sessions.get(holder.session)
            if session is not None:
                session.close("silent")
                self._detach(session)
            lost = expired(holder)
            for loss in lost:
                if self._coordinator.epoch == self._coordinator.store.epoch:
                    self._coordinator.invariants.lease_expires(self._coordinator, loss.lease)
                self.leases.end(loss.lease.key, loss.lease.token)
            self.leases.remove_holder(holder.session)
            self._report_lost(lost)

    def give_up_unaccepted(self, now: int) -> None:
        for session in self.sessions.values():
            for lease in session.acceptance.overdue(self.leases, now, self._timing.accept_timeout):
                session.call_back(lease)
            for lease in session.acceptance.lapsed(self.leases, now):
                self.end_lease(lease.key, lease.token)
                self._tell(lease, "not_accepted", Charge.STARTED)
            if session.acceptance.closed_until:
                self._open_or_close(session)
        self._coordinator.pump_offers()

    def close_silent(self, now: int) -> None:
        limit = now - self._timing.heartbeat_interval * MISSED_BEATS
        for session in [each for each in self.sessions.values() if each.holder.heard_at < limit]:
            self._coordinator.invariants.closes_as_silent(session)
            session.close("silent")
            # The stream's handler ends, and lets go of the session.
            self._coordinator.after(100, self.stream_ended, session)

    def _report_lost(self, lost: list[Lost], charge: Charge | None = None) -> None:
        for loss in lost:
            unaccepted = Charge.STARTED if loss.unsure else Charge.NOBODY
            paying = (Charge.POISON if loss.boot_id else Charge.INFRASTRUCTURE) if charge is None else charge
            self._tell(loss.lease, loss.cause, paying if loss.accepted else unaccepted, loss.boot_id)

    def _tell(self, lease: Lease, cause: str, charge: Charge, boot_id: str = "") -> None:
        run_id, step, item = lease.key
        actor = self._coordinator.actor(run_id)
        if actor is not None:
            now, jitter = self._coordinator.clock.now(), self._coordinator.timeline.random.random()
            actor.post(Mail(LeaseGone(now, step, item, lease.token, cause, charge, jitter, boot_id)))

"""The coordinator's agents: the shell around the real roster, which decides, with the words of the protocol."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from penstock.testing import words
from penstock.testing.late_words import LateWords, verdict_on
from penstock.testing.sessions import Session
from penstock.testing.timeline import MILLISECOND
from penstock_agent.core.leases import Grant
from penstock_coordinator.core.dispatch.capacity import Capacity
from penstock_coordinator.core.fleet.gate import DATABASE_AWAY
from penstock_coordinator.core.fleet.leases import Lease, LeaseKey, LeaseTable, Stop
from penstock_coordinator.core.fleet.pauses import PausedAgents
from penstock_coordinator.core.fleet.roster import Arrival, Roster
from penstock_coordinator.core.fleet.session import Beside, Held, Snapshot
from penstock_coordinator.core.fleet.settled import Settled
from penstock_coordinator.core.run.commands import AckStatus
from penstock_coordinator.core.run.events import Charge, Failure, MadeArtifact, Outcome
from penstock_coordinator.core.run.messages import AttemptEnded, InputsUnresolved, LeaseGone
from penstock_coordinator.core.run.raised import MEMORY, memory_of
from penstock_coordinator.core.run.retrying import OUT_OF_MEMORY
from penstock_coordinator.runtime.actor import Mail

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from penstock.testing.coordinator import Coordinator
    from penstock.testing.sessions import Stream
    from penstock_coordinator.core.fleet.leases import Holder
    from penstock_coordinator.core.fleet.ownership import CoordinatorRow
    from penstock_coordinator.core.run.commands import AwaitLease, CallBackLease, GrantLeases, StopAttempt
    from penstock_coordinator.runtime.actor import Actor

REJECTION_PAUSE = 100 * MILLISECOND
ANSWER = 500
"""Microseconds that the answer of the database takes on its way."""
STREAM_ENDS = 100
"""Microseconds from the end that the coordinator makes of a stream to when its reader has ended."""
SHORT_OF_MEMORY = 3
"""One in so many failures, of attempts with a limit of memory, is that they ran out of it."""
WITH_ARTIFACTS = 7
"""One in so many results refers to an artifact."""

_MADE = (MadeArtifact("data.csv", "sha256:" + 64 * "0", 1),)
_OUTCOMES = {2: Outcome.FAILED, 3: Outcome.CANCELLED, 4: Outcome.TIMED_OUT, 5: Outcome.LOST}


class SimulatedFleet:
    def __init__(self, coordinator: Coordinator) -> None:
        self._coordinator = coordinator
        self._timing = coordinator.timing
        self._roster: Roster[Session] = Roster(
            coordinator.timing,
            coordinator.dispatcher,
            PausedAgents(),
            self._tell,
            coordinator.pump_offers,
            self._judge_orphans,
        )
        self._late = LateWords(coordinator)
        self._peers: list[CoordinatorRow] = []
        self._has_had_members = False
        self._adopted = 0
        self.leasing = self._roster.leasing
        self.standing = self._roster.standing
        self.sessions = self._roster.sessions
        self._settled = Settled()
        self._changes: deque[Callable[[], None]] = deque()
        """Of rows of agents, one after the other in the order in which they were asked for; the first is under way."""

    @property
    def leases(self) -> LeaseTable:
        return self._roster.leases

    def session(self, epoch: int) -> Session | None:
        return self.sessions.get(epoch)

    def _monotonic(self) -> int:
        return self._coordinator.clock.monotonic()

    # --- a session comes

    def open(self, stream: Stream, hello: words.Hello) -> None:
        """The session's number is committed, then what the agent holds is settled. While the database is away an agent
        that comes back goes on with its former session."""
        arrival = _arrival(hello, self._roster.next_hello())
        coordinator = self._coordinator
        if self._roster.refuses(arrival, coordinator.epoch, self._monotonic(), coordinator.head_epoch) is not None:
            stream.refuse()
            return
        mark = self._roster.gate.pauses.mark(hello.agent)
        self._coordinator.ask_store(
            lambda: self._committed(stream, hello, arrival, mark), lambda: self._go_on(stream, hello, arrival)
        )

    def _committed(self, stream: Stream, hello: words.Hello, arrival: Arrival, mark: int) -> None:
        coordinator = self._coordinator
        if coordinator.is_head:
            epoch, paused = coordinator.store.open_session(hello.agent, hello.boot_id)
        else:
            # What is said of the agent in its row is the head's.
            epoch, paused = coordinator.store.open_link(hello.agent, coordinator.owner, hello.boot_id), False
        if coordinator.reach.loses_answer():
            coordinator.after(ANSWER, self._go_on, stream, hello, arrival)
        else:
            coordinator.after(ANSWER, self._enter, stream, hello, arrival, epoch, mark, paused)

    def _enter(self, stream: Stream, hello: words.Hello, arrival: Arrival, epoch: int, mark: int, paused: bool) -> None:
        self._roster.gate.pauses.read(hello.agent, mark, paused=paused)
        now = self._monotonic()
        if self._roster.refuses_committed(arrival, epoch, now) is not None:
            stream.refuse()
            return
        session = self._session(stream, hello, self._roster.holder_of(arrival, epoch, now))
        beside = arrival.snapshot
        if self._has_had_members or beside.open_sessions or beside.pending:
            # Before its leases are judged: what it held by a member that is gone is an orphan then. Also if there is
            # none any more: it goes on to try the last one that it heard of.
            session.tell_peers(self._peers)
        self._roster.enter(session, arrival)
        self._entered(stream, session)

    def _go_on(self, stream: Stream, hello: words.Hello, arrival: Arrival) -> None:
        former = self._roster.former_of(arrival, self._monotonic())
        if former is None:
            self._coordinator.invariants.turned_away(self._coordinator, hello)
            stream.refuse()
            return
        holder = self._roster.stand_in_for(former, arrival, self._monotonic())
        session = self._session(stream, hello, holder)
        self._coordinator.note("goes_on", hello.agent, former.committed)
        self._roster.enter_stand_in(session, arrival)
        self._entered(stream, session)

    def _session(self, stream: Stream, hello: words.Hello, holder: Holder) -> Session:
        coordinator, timing = self._coordinator, self._timing
        capacity = Capacity(
            holder.session, hello.agent, hello.queues, dict(hello.labels), dict(hello.resources), hello.slots
        )
        assert stream.link is not None
        assert stream.end is not None
        session = Session(coordinator, stream.link, stream.end, holder, capacity)
        session.links = hello.elsewhere.links
        session.send(
            words.Welcome(
                holder.committed,
                coordinator.epoch,
                timing.heartbeat_interval,
                timing.lease_ttl,
                timing.result_resend_interval,
                1,
                coordinator.owner,
                coordinator.head_epoch or coordinator.epoch,
            )
        )
        return session

    def _entered(self, stream: Stream, session: Session) -> None:
        self._count_adopted()
        self._coordinator.invariants.session_opens(self._coordinator, session)
        if stream.over:
            self.stream_ended(session)
        else:
            stream.session = session

    def _count_adopted(self) -> None:
        if self._roster.adopted > self._adopted:
            self._coordinator.count("orphans adopted", self._roster.adopted - self._adopted)
            self._adopted = self._roster.adopted

    # --- several owners

    def tell_peers(self, members: list[CoordinatorRow]) -> None:
        """By a head, at each change: these are its members."""
        if members != self._peers:
            self._peers = members
            self._has_had_members = True
            for session in self.sessions.values():
                session.tell_peers(members)

    def say_moved(self) -> None:
        """By one that gives its runs up: what agents hold by it is for the next owner."""
        for session in self.sessions.values():
            if session.holder.leases:
                session.tell_moved(list({run_id: None for run_id, _, _ in session.holder.leases}))

    def _judge_orphans(self, session: Session, orphans: list[Held]) -> None:
        """They are not known here."""
        coordinator = self._coordinator
        known = [(held, verdict) for held in orphans if (verdict := verdict_on(coordinator, held)) is not None]
        if known:
            session.judge(known, 0)
        absent = [held for held in orphans if coordinator.actor(held.key[0]) is None]
        if absent and coordinator.is_head:
            self._late.judge(session, absent)

    # --- a session speaks

    def hear(self, session: Session, word: words.AgentWord) -> None:
        match word:
            case words.Results():
                self._results(session, word.results)
            case words.Heartbeat():
                self._heartbeat(session, word)
            case words.Credits():
                self._roster.gate.raise_limit(session, word.grant_limit)
            case words.Accepted():
                self.leasing.accepted(session, word.leases)
            case words.Rejected():
                self._rejected(session, word.leases)
            case words.Returned():
                if word.void_credits:
                    session.capacity.void(word.void_credits)
                for key, token, started in word.leases:
                    self.leasing.released(session, key, token, "returned", started=started)
            case words.Draining():
                self._roster.gate.drain(session, self._monotonic())
            case words.Goodbye():
                self._roster.goodbye(session)

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
                artifacts=_MADE if outcome is None and result.token % WITH_ARTIFACTS == 0 else (),
            )
            if not coordinator.deliver(run_id, message):
                self._late.take(session, result.key, message)

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

    def _rejected(self, session: Session, leases: Iterable[tuple[LeaseKey, int, str, str]]) -> None:
        for key, token, reason, _ in leases:
            lease = self.leasing.taken_back(session, key, token)
            if lease is not None:
                self._coordinator.after(REJECTION_PAUSE, self._tell, lease, f"rejected: {reason}", Charge.NOBODY)

    def _heartbeat(self, session: Session, beat: words.Heartbeat) -> None:
        before = self._coordinator.mailed
        beside = None
        if beat.elsewhere is not None:
            session.links = beat.elsewhere.links
            if beat.elsewhere.held or beat.elsewhere.complete:
                beside = _beside(beat.elsewhere)
        held = [Held(*each) for each in beat.held]
        lost = self._roster.heartbeat(session, held, beat.echo, self._monotonic(), beside=beside)
        self._count_adopted()
        self._coordinator.invariants.heartbeat_heard(before, self._coordinator.mailed, len(lost))

    # --- no grants for a while

    def order_drain(self, agent: str, deadline: int) -> None:
        """A person drains the agent."""
        for session in self.sessions.values():
            if session.holder.agent == agent:
                self._roster.gate.drain(session, self._monotonic())
                session.send(words.Drain(deadline))

    def pause_agent(self, agent: str, answer: Callable[[bool | None], None], *, paused: bool) -> None:
        """By a person, or what lets it go on. `answer` is told whether there is such an agent; None: nobody knows."""
        self._changes.append(lambda: self._begin_pause(agent, answer, paused=paused))
        if len(self._changes) == 1:
            self._changes[0]()

    def _begin_pause(self, agent: str, answer: Callable[[bool | None], None], *, paused: bool) -> None:
        self._roster.gate.pauses.begin_change(agent)
        self._coordinator.ask_store(
            lambda: self._write_pause(agent, answer, paused=paused),
            lambda: self._pause_written(agent, answer, None, paused=paused),
        )

    def _write_pause(self, agent: str, answer: Callable[[bool | None], None], *, paused: bool) -> None:
        store = self._coordinator.store
        known = store.set_paused(agent, paused=paused)
        told = None if self._coordinator.reach.loses_answer() else known
        self._coordinator.after(ANSWER, lambda: self._pause_written(agent, answer, told, paused=paused))

    def _pause_written(
        self, agent: str, answer: Callable[[bool | None], None], known: bool | None, *, paused: bool
    ) -> None:
        self._roster.gate.pauses.end_change(agent, paused if known else None)
        self._changes.popleft()
        if self._changes:
            self._changes[0]()
        if not known:
            answer(known)
            return
        self._roster.gate.follow_person(agent, self._monotonic())
        # Who takes over after this look reads what was written.
        self._coordinator.ask_store(lambda: self._answer_if_current(answer), lambda: answer(None))

    def _answer_if_current(self, answer: Callable[[bool | None], None]) -> None:
        if self._coordinator.is_current():
            answer(True)
        else:
            answer(None)
            self._coordinator.fenced()

    # --- a session goes

    def stream_ended(self, session: Session) -> None:
        self._roster.stream_ended(session, self._monotonic())

    # --- leases

    def grant(self, actor: Actor, command: GrantLeases) -> None:
        session = self.session(command.session)
        now = self._coordinator.clock.now()
        if session is None:
            for step, item, _ in command.leases:
                actor.post(Mail(LeaseGone(now, step, item, command.token, "session_gone", Charge.NOBODY)))
            return
        line = actor.run.line_at(command.line)
        for number, place, attempt in command.leases:
            key = (actor.run_id, number, place)
            lease = self.leasing.add(session.holder, key, command.token, attempt, line)
            if self._coordinator.behave(key, attempt).unresolvable:
                self.leasing.end(key, command.token)
                failure = Failure("Input", "it cannot be made")
                actor.post(Mail(InputsUnresolved(now, number, place, command.token, failure)))
            else:
                self._deliver(session, lease, actor.plan.steps[number].timeouts.attempt, actor.plan.stop_grace)

    def _deliver(self, session: Session, lease: Lease, timeout: int | None, stop_grace: int) -> None:
        if self._roster.gate.refuses(session):
            self.leasing.end(lease.key, lease.token)
            self._tell(lease, "agent_paused", Charge.NOBODY)
            return
        self._coordinator.invariants.lease_sent(self._coordinator, session, lease.key)
        number = self.leasing.send(session, lease, self._monotonic())
        session.grant(Grant(number, lease.key, lease.token, lease.attempt, timeout, stop_grace, None))

    def stop(self, actor: Actor, command: StopAttempt) -> None:
        key = (actor.run_id, command.step, command.item)
        self.leasing.stop(key, command.token, Stop(command.grace, command.reason))

    def call_back(self, actor: Actor, command: CallBackLease) -> None:
        self.leasing.call_back((actor.run_id, command.step, command.item), command.token)

    def await_lease(self, actor: Actor, command: AwaitLease) -> None:
        last_boot = self._coordinator.boots.of(command.agent, command.session)
        key = (actor.run_id, command.step, command.item)
        line = actor.run.line_at(actor.run.agents_line(command.step, command.item))
        now, token, attempt = self._monotonic(), command.token, command.attempt
        self.leasing.wait_for(command.agent, command.session, key, token, attempt, line, last_boot, now)

    def _tell(self, lease: Lease, cause: str, charge: Charge, boot_id: str = "") -> None:
        run_id, step, item = lease.key
        actor = self._coordinator.actor(run_id)
        if actor is not None:
            now, jitter = self._coordinator.clock.now(), self._coordinator.timeline.random.random()
            actor.post(Mail(LeaseGone(now, step, item, lease.token, cause, charge, jitter, boot_id)))

    # --- time passes

    def awake(self, now: int) -> None:
        self._roster.awake(now)

    def run_periodic(self, now: int) -> None:
        coordinator = self._coordinator
        self._roster.gate.hold_back(DATABASE_AWAY if coordinator.reach.away else "", now)
        for loss in self._roster.expire(now):
            if coordinator.is_current():
                coordinator.invariants.lease_expires(coordinator, loss.lease)
        self._roster.give_up_unaccepted(now)
        for session in self._roster.close_silent(now):
            coordinator.invariants.closes_as_silent(session)
            # The stream's handler ends, and lets go of the session.
            coordinator.after(STREAM_ENDS, self.stream_ended, session)
        for session in self._roster.end_stand_ins(now):
            coordinator.after(STREAM_ENDS, self.stream_ended, session)


def _arrival(hello: words.Hello, number: int) -> Arrival:
    beside = _beside(hello.elsewhere)
    snapshot = Snapshot(
        [Held(*each) for each in hello.held],
        frozenset(hello.given_up),
        hello.tells_given_up,
        beside.elsewhere,
        beside.open_sessions,
        beside.pending,
        beside.newest_session,
    )
    newest = hello.highest_coordinator_epoch
    return Arrival(
        hello.agent, hello.boot_id, hello.stream, hello.slots, newest, snapshot, number, hello.highest_head_epoch, True
    )


def _beside(elsewhere: words.Elsewhere) -> Beside:
    held = [Held(*each) for each in elsewhere.held]
    return Beside(
        held,
        elsewhere.open_sessions,
        elsewhere.pending,
        elsewhere.complete,
        elsewhere.given_up,
        elsewhere.tells_given_up,
        elsewhere.newest_session,
    )

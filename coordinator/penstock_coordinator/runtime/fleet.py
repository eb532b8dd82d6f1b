"""The agents of this coordinator: their sessions, and what becomes of leases when a session comes, speaks or goes."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

import structlog

from penstock.agent.v1 import agent_service_pb2 as wire
from penstock_coordinator.core.fleet.fairness import misplaced
from penstock_coordinator.core.fleet.leases import Holder, Lease, LeaseKey, LeaseTable, Lost, Phase, Stop, left_over
from penstock_coordinator.core.fleet.negotiation import PROTOCOL_VERSIONS, common_version
from penstock_coordinator.core.fleet.session import Verdict, expired, is_outdated, may_go_on, reunite
from penstock_coordinator.core.fleet.settled import Settled
from penstock_coordinator.core.fleet.standing import Standing, fence_interval
from penstock_coordinator.core.run.commands import AckStatus
from penstock_coordinator.core.run.events import Charge, Failure
from penstock_coordinator.core.run.messages import InputsUnresolved, LeaseGone
from penstock_coordinator.ports import Unavailable
from penstock_coordinator.runtime.actor import Actor, Mail
from penstock_coordinator.runtime.agent_pauses import AgentPauses
from penstock_coordinator.runtime.hello import (
    IdInUse,
    StaleCoordinator,
    Superseded,
    UnsupportedProtocol,
    agent_row,
    capacity_of,
    held_of,
    snapshot_of,
)
from penstock_coordinator.runtime.left_agents import LeftAgents
from penstock_coordinator.runtime.session import AgentSession, lease_key, lease_ref, span
from penstock_coordinator.runtime.views import AgentView, NotConnected

if TYPE_CHECKING:
    from collections.abc import Iterable

    from penstock_coordinator.core.plan.model import Line
    from penstock_coordinator.core.run.commands import AwaitLease, CallBackLease, StopAttempt
    from penstock_coordinator.ports import AgentRow, RunId
    from penstock_coordinator.runtime.supervisor import Supervisor, Timing

CONNECTED, DRAINING, LOST = 1, 2, 3
"""States of penstock.v1.AgentState."""
HEARTBEAT_WINDOW = 1.5
"""Within so many heartbeat intervals something is heard of an agent that lives, with all that is added by chance."""
MISSED_BEATS = 3
"""So many heartbeats late, a stream counts as dead; its leases live on until their ttl."""


BUNDLE_UNAVAILABLE = "bundle_unavailable"
"""Why an agent rejects a lease whose code bundle the coordinator does not have."""
REJECTION_PAUSE = 0.1
"""Seconds."""
FAILURE_CHARACTERS = 2_000
DATABASE_AWAY, REQUESTED = "database_away", "requested"
"""Why agents are paused."""
DATABASE_BACK = "database_back"
"""Why those are to come back that went on without a session of their own."""

log = structlog.get_logger(__name__)


class Fleet:
    def __init__(self, supervisor: Supervisor, timing: Timing) -> None:
        self._supervisor = supervisor
        self._timing = timing
        self.leases = LeaseTable(timing.lease_ttl, timing.expiry_margin)
        self.standing = Standing(fence_interval(timing.expiry_margin))
        self.paused = ""
        """Why no agent gets anything now."""
        self.pauses = AgentPauses(supervisor.stores.agents)
        self.left = LeftAgents()
        self.discarded: Counter[str] = Counter()
        """Results that came too late, by agent."""
        self._settled = Settled()
        self._stand_ins = 0
        """How many there have been."""
        self._sessions: dict[int, AgentSession] = {}
        self._rows: dict[int, AgentRow] = {}

    def session(self, epoch: int) -> AgentSession | None:
        return self._sessions.get(epoch)

    def sessions(self) -> list[AgentSession]:
        return list(self._sessions.values())

    # --- a session comes

    async def open(self, hello: wire.Hello, basis_seq: int) -> AgentSession:
        """Commit the session, settle what the agent holds, and make its Welcome. While the database is away an agent
        that comes back goes on with its former session: what it runs goes on, and it gets nothing new.

        Raises `UnsupportedProtocol`, `StaleCoordinator`, `IdInUse`, `Superseded`, `Unavailable`.
        """
        version = common_version(PROTOCOL_VERSIONS, hello.protocol_versions)
        if version is None:
            raise UnsupportedProtocol(PROTOCOL_VERSIONS, hello.protocol_versions)
        if hello.highest_coordinator_epoch_seen > self._supervisor.epoch:
            raise StaleCoordinator(self._supervisor.epoch, hello.highest_coordinator_epoch_seen)
        self._check_alone(hello)
        row = agent_row(hello, self._supervisor.clock.now())
        mark = self.pauses.mark(hello.agent_id)
        try:
            epoch, paused = await self._supervisor.stores.agents.open_session(row)
        except Unavailable:
            self._still_there(hello)
            former = may_go_on(self.leases, hello.agent_id, hello.boot_id, hello.stream)
            if former is None or self._twin(hello) is not None:
                raise
            return self._stand_in(hello, row, former, self._welcome(former.committed, basis_seq, version))
        self.pauses.read(hello.agent_id, mark, paused=paused)
        newer = any(other.holder.agent == hello.agent_id and other.epoch > epoch for other in self.sessions())
        if newer or is_outdated(self.leases, hello.agent_id, hello.boot_id, hello.stream):
            raise Superseded(hello.agent_id)
        self._check_alone(hello)
        alive = self._twin(hello) is not None
        session = self._enter(hello, row, epoch, self._welcome(epoch, basis_seq, version))
        self._reunite(session, hello, former_lives=alive)
        if reason := self._pause_of(session):
            session.pause(reason)
            session.capacity.open = False
        self._call_back_unstarted(session)
        self._supervisor.dispatcher.add_session(session.capacity)
        self._supervisor.pump_offers()
        return session

    def _stand_in(self, hello: wire.Hello, row: AgentRow, former: Holder, welcome: wire.Welcome) -> AgentSession:
        """A stream that goes on with the former session, whose number is committed, until a new one can be. Nothing is
        placed on it. What was granted to the former session and is still to be committed finds that gone."""
        self._stand_ins += 1
        session = self._enter(hello, row, -self._stand_ins, welcome)
        session.holder.stands_for = former.committed
        self._reunite(session, hello, former_lives=False)
        session.capacity.open = False
        session.pause(self.paused or DATABASE_AWAY)
        log.info("session_goes_on", agent=hello.agent_id, session=former.committed)
        return session

    def _enter(self, hello: wire.Hello, row: AgentRow, number: int, welcome: wire.Welcome) -> AgentSession:
        """In place of every session that the agent has."""
        self._supersede(hello.agent_id)
        now = self._supervisor.clock.monotonic()
        holder = self.leases.add_holder(
            Holder(hello.agent_id, number, hello.boot_id, now, stream=hello.stream, slots=hello.slots)
        )
        session = AgentSession(holder, capacity_of(hello, number), welcome)
        self.left.is_back(hello.agent_id)
        self._sessions[number] = session
        self._rows[number] = replace(row, session_epoch=welcome.session_epoch)
        return session

    def end_stand_ins(self) -> None:
        """Their agents are to come back, for a session that gets work again. If the database is not back yet they go on
        once more, so none is sent away that has just come."""
        if self.paused == DATABASE_AWAY:
            return
        limit = self._supervisor.clock.monotonic() - self._timing.heartbeat_interval
        for session in self.sessions():
            if session.holder.stands_for and session.opened_at <= limit:
                session.close(DATABASE_BACK)

    def _still_there(self, hello: wire.Hello) -> None:
        """The agent is heard of, although no session can be committed while the database is away: what it holds waits
        for it."""
        for holder in self.leases.holders_of(hello.agent_id):
            if holder.boot_id == hello.boot_id:
                holder.heard_at = self._supervisor.clock.monotonic()

    def _check_alone(self, hello: wire.Hello) -> None:
        """An agent that was started again is another process too: the end of its former stream tells, or that nothing
        is heard on it."""
        twin = self._twin(hello)
        window = self._timing.heartbeat_interval * HEARTBEAT_WINDOW
        if twin is None or twin.holder.heard_at < self._supervisor.clock.monotonic() - window:
            return
        raise IdInUse(hello.agent_id, self._rows[twin.epoch].hostname)

    def _twin(self, hello: wire.Hello) -> AgentSession | None:
        """The session of another process with the same id."""
        for session in self.sessions():
            if session.holder.agent == hello.agent_id and session.holder.boot_id != hello.boot_id:
                return session
        return None

    def _supersede(self, agent: str) -> None:
        """At most one session of an agent lives: the newest."""
        for session in self.sessions():
            if session.holder.agent == agent:
                session.close("superseded")
                self._detach(session)

    def _welcome(self, epoch: int, basis_seq: int, version: int) -> wire.Welcome:
        timing = self._timing
        return wire.Welcome(
            session_epoch=epoch,
            coordinator_id=self._supervisor.coordinator_id,
            coordinator_epoch=self._supervisor.epoch,
            protocol_version=version,
            heartbeat_interval=span(timing.heartbeat_interval),
            lease_ttl=span(timing.lease_ttl),
            expiry_margin=span(timing.expiry_margin),
            max_output_bytes=timing.max_output_bytes,
            inline_output_bytes=timing.inline_output_bytes,
            basis_seq=basis_seq,
            result_resend_interval=span(timing.result_resend_interval),
            stop_grace=span(timing.stop_grace),
        )

    def _reunite(self, session: AgentSession, hello: wire.Hello, *, former_lives: bool) -> None:
        """If a former process of the agent may live, no budget pays for its attempts."""
        reunion = reunite(self.leases, session.holder, snapshot_of(hello))
        ttl = self._renewal()
        for lease in reunion.continued:
            session.capacity.adopt(lease.line)
        verdicts = [
            wire.LeaseVerdict(
                lease=lease_ref(held.key, held.token),
                verdict=wire.Verdict.ValueType(int(verdict)),
                ttl=span(ttl) if verdict is Verdict.CONTINUE else None,
            )
            for held, verdict in reunion.verdicts
        ]
        if verdicts:
            session.send(
                wire.CoordinatorMessage(
                    lease_verdicts=wire.LeaseVerdicts(verdicts=verdicts, basis_seq=session.basis_seq)
                )
            )
        for lease in reunion.continued:
            if lease.stop is not None:
                session.cancel(lease)
        self._report_lost(reunion.lost, None if not former_lives else Charge.STARTED)

    # --- a session speaks

    def credits(self, session: AgentSession, grant_limit: int) -> None:
        if session.draining or grant_limit <= session.capacity.grant_limit:
            return
        session.capacity.grant_limit = grant_limit
        self._supervisor.dispatcher.made_room(session.epoch)
        self._supervisor.pump_offers()

    def accepted(self, session: AgentSession, refs: Iterable[wire.LeaseRef]) -> None:
        session.acceptance.accepted()
        for ref in refs:
            lease = self._spoken_of(session, ref)
            if lease is not None:
                lease.accepted = True

    def _spoken_of(self, session: AgentSession, ref: wire.LeaseRef) -> Lease | None:
        """The lease, if it is the session's own and has that token: of others an agent has nothing to say."""
        lease = self.leases.find(lease_key(ref))
        ours = lease is not None and lease.token == ref.token and lease.holder is session.holder
        return lease if ours else None

    def is_of_another(self, session: AgentSession, ref: wire.LeaseRef) -> bool:
        """Another agent holds that very attempt: a token can be guessed, and who guesses it has no result."""
        lease = self.leases.find(lease_key(ref))
        return lease is not None and lease.token == ref.token and lease.holder.agent != session.holder.agent

    def rejected(self, session: AgentSession, leases: Iterable[wire.RejectedLease]) -> None:
        """The agent did not take them. One whose code is nowhere to be had can run on no agent; the others go back
        after a moment, so that an agent that rejects everything is not asked without end."""
        for rejected in leases:
            lease = self._spoken_of(session, rejected.lease)
            if lease is None:
                continue
            self.end_lease(lease.key, lease.token)
            if rejected.reason == BUNDLE_UNAVAILABLE:
                self._fail(lease, Failure("BundleUnavailable", rejected.message[:FAILURE_CHARACTERS]))
                continue
            cause = f"rejected: {rejected.reason}"[:200]
            asyncio.get_running_loop().call_later(REJECTION_PAUSE, self._tell, lease, cause, Charge.NOBODY)

    def _fail(self, lease: Lease, failure: Failure) -> None:
        run_id, step, item = lease.key
        actor = self._supervisor.actor(run_id)
        if actor is not None:
            actor.post(Mail(InputsUnresolved(self._supervisor.clock.now(), step, item, lease.token, failure)))

    def released(self, session: AgentSession, ref: wire.LeaseRef, cause: str, *, started: bool) -> None:
        """The agent gives a lease up."""
        lease = self._spoken_of(session, ref)
        if lease is not None:
            self.end_lease(lease.key, lease.token)
            charge = Charge.STARTED if started else Charge.NOBODY
            self._tell(lease, cause, charge)

    def heartbeat(self, session: AgentSession, beat: wire.Heartbeat) -> None:
        session.disk_low = beat.disk_low
        complete = beat.part + 1 >= beat.parts
        revoked, lost = session.roll.call(
            self.leases, session.holder, held_of(beat.leases), beat.echo, complete=complete
        )
        for lease in session.holder.leases.values():
            if lease.stop is not None and lease.sent:
                session.cancel(lease)
        ack = wire.HeartbeatAck(
            basis_seq=session.basis_seq,
            ttl=span(self._renewal()),
            revoked=[lease_ref(held.key, held.token) for held in revoked],
            echo=session.roll.next_ack(),
        )
        session.send(wire.CoordinatorMessage(heartbeat_ack=ack))
        for loss in lost:
            self._freed(loss.lease)
        self._report_lost(lost)
        if complete:
            self._share(session)

    def _renewal(self) -> int:
        """The ttl of leases that are renewed now. Nothing, while another incarnation may have taken over."""
        self.standing.notice(self._supervisor.clock.monotonic(), database_away=self.paused == DATABASE_AWAY)
        return 0 if self.standing.in_doubt else self._timing.lease_ttl

    def awake(self) -> None:
        """To be called often: who was not, stood still, and may have been replaced."""
        self.standing.awake(self._supervisor.clock.monotonic(), database_away=self.paused == DATABASE_AWAY)

    def _share(self, session: AgentSession) -> None:
        """Call back what waits on this agent while another one is idle."""
        others = (each.capacity for each in self._sessions.values() if each is not session)
        for lease in misplaced(session.holder, others):
            lease.called_back = True
            session.call_back(lease_ref(lease.key, lease.token))

    def draining(self, session: AgentSession) -> None:
        """The agent takes no new leases; what it has goes on."""
        session.draining = True
        self._open_or_close(session)

    # --- results

    def settled(self, result_id: bytes) -> None:
        """The result is committed: should it come again, it is no late one."""
        self._settled.add(result_id)

    def status_of_late(self, session: AgentSession, result_id: bytes) -> AckStatus:
        """Of a result that nobody waits for (any more)."""
        if result_id in self._settled:
            return AckStatus.DUPLICATE
        self.discarded[session.holder.agent] += 1
        return AckStatus.STALE

    # --- no grants for a while

    def hold_back(self, reason: str) -> None:
        """While there is a reason agents are paused: nothing is placed on them, and they ask for nothing."""
        if reason == self.paused:
            return
        was, self.paused = self.paused, reason
        log.info("agents_paused" if reason else "agents_resumed", reason=reason or was)
        for session in self.sessions():
            self._pause_or_resume(session)
        self._supervisor.pump_offers()

    def _pause_of(self, session: AgentSession) -> str:
        """Why the agent gets nothing now."""
        return self.paused or (REQUESTED if session.holder.agent in self.pauses else "")

    def _pause_or_resume(self, session: AgentSession) -> None:
        if reason := self._pause_of(session):
            session.pause(reason)
        else:
            session.resume()
        self._open_or_close(session)

    async def pause_agent(self, agent: str, *, paused: bool) -> bool:
        """By a person, or what lets it go on; kept. Returns whether there is such an agent. Raises `Unavailable`."""
        known = await self.pauses.change(agent, paused=paused)
        for session in self.sessions():
            if known and session.holder.agent == agent:
                self._pause_or_resume(session)
                self._call_back_unstarted(session)
        self._supervisor.pump_offers()
        return known

    def _call_back_unstarted(self, session: AgentSession) -> None:
        """Of an agent that a person has paused: what it holds and has not begun goes elsewhere."""
        if session.holder.agent not in self.pauses:
            return
        for lease in session.holder.leases.values():
            if lease.sent and lease.phase not in (Phase.RUNNING, Phase.FINISHED):
                lease.called_back = True
                session.call_back(lease_ref(lease.key, lease.token))

    def _open_or_close(self, session: AgentSession) -> None:
        was, session.capacity.open = session.capacity.open, not self._is_closed(session)
        if session.capacity.open and not was:
            self._supervisor.dispatcher.made_room(session.epoch)

    def _is_closed(self, session: AgentSession) -> bool:
        waits = session.acceptance.closed_until > self._supervisor.clock.monotonic()
        return session.draining or waits or bool(self._pause_of(session) or session.holder.stands_for)

    # --- a session goes

    def goodbye(self, session: AgentSession) -> None:
        """The agent has ended well: whatever it still held is given up."""
        session.said_goodbye = True
        self.left.says_goodbye(session.capacity)
        for lease in list(session.holder.leases.values()):
            self.leases.end(lease.key, lease.token)
            self._tell(lease, "goodbye", Charge.STARTED if lease.accepted else Charge.NOBODY)
        self._detach(session)
        self.leases.remove_holder(session.epoch)
        session.close()

    def stream_ended(self, session: AgentSession) -> None:
        """Without a goodbye: the leases live on until the ttl, or until the agent is back."""
        self._note_hung_up(session)
        self._detach(session)
        session.close()
        if not session.holder.leases:
            self.leases.remove_holder(session.epoch)

    def _note_hung_up(self, session: AgentSession) -> None:
        """The system of a process that dies ends its connections at once. What is cut off falls silent first."""
        if session.epoch in self._sessions:
            window = self._timing.heartbeat_interval * HEARTBEAT_WINDOW
            session.holder.hung_up = session.holder.heard_at >= self._supervisor.clock.monotonic() - window

    def _detach(self, session: AgentSession) -> None:
        """Nothing more can be sent: leases that were never sent end here."""
        if self._sessions.pop(session.epoch, None) is None:
            return
        self._rows.pop(session.epoch, None)
        session.holder.connected = False
        self._supervisor.dispatcher.remove_session(session.epoch)
        for lease in list(session.holder.leases.values()):
            if not lease.sent:
                self.leases.end(lease.key, lease.token)
                self._tell(lease, "session_gone", Charge.NOBODY)

    # --- leases

    def add_lease(self, holder: Holder, key: LeaseKey, token: int, attempt: int, line: Line) -> Lease:
        """A grant. An older lease of the step run, which was given up without a result, ends with it."""
        old = self.leases.find(key)
        if old is not None:
            self.leases.end(key, old.token)
        lease = self.leases.add(holder, key, token, attempt, line)
        if old is not None:
            self._freed(old)
        return lease

    def end_lease(self, key: LeaseKey, token: int) -> Lease | None:
        """The lease is over; its room is free. None if another token speaks."""
        lease = self.leases.end(key, token)
        if lease is not None:
            self._freed(lease)
        return lease

    def _freed(self, lease: Lease) -> None:
        holder = lease.holder
        session = self._sessions.get(holder.session)
        if session is None:
            if not holder.leases:
                self.leases.remove_holder(holder.session)
            return
        if lease.sent:
            session.capacity.end(lease.line)
        else:
            session.capacity.take_back(lease.line, 1)
        self._supervisor.dispatcher.made_room(holder.session)
        self._supervisor.pump_offers()

    def stop(self, run_id: RunId, command: StopAttempt) -> None:
        lease = self.leases.find((run_id, command.step, command.item))
        if lease is None or lease.token != command.token:
            return
        lease.stop = Stop(command.grace, command.reason)
        session = self._sessions.get(lease.holder.session)
        if session is not None and lease.sent:
            session.cancel(lease)

    def call_back(self, run_id: RunId, command: CallBackLease) -> None:
        """Ask for a lease back that has not started. One whose grant is not made yet is not sent any more."""
        lease = self.leases.find((run_id, command.step, command.item))
        if lease is None or lease.token != command.token:
            return
        session = self._sessions.get(lease.holder.session)
        if session is not None and lease.sent:
            session.call_back(lease_ref(lease.key, lease.token))

    def await_lease(self, actor: Actor, command: AwaitLease, last_boot: tuple[int, str]) -> None:
        """After a restart, of the coordinator or of the run's actor: the agent has a lease's whole life to come back
        with this one. `last_boot`: the agent's last session before the restart, and its boot id."""
        holder = self.leases.holder(command.session)
        if holder is None:
            now = self._supervisor.clock.monotonic()
            holder = self.leases.add_holder(left_over(command.agent, command.session, last_boot, now))
        line = actor.run.line_at(actor.run.agents_line(command.step, command.item))
        key = (actor.run_id, command.step, command.item)
        lease = self.add_lease(holder, key, command.token, command.attempt, line)
        lease.sent = lease.accepted = True
        session = self._sessions.get(holder.session)
        if session is not None:
            # The actor alone was made again: the lease takes its place on the session that it never left.
            session.capacity.adopt(line)

    def stand_still(self, span: int) -> None:
        """For so long nobody could be heard, whoever spoke."""
        self.leases.stand_still(span, self._supervisor.clock.monotonic())

    def expire(self) -> None:
        """Give up what was not heard of for a lease's whole life."""
        for holder in self.leases.expired(self._supervisor.clock.monotonic()):
            session = self._sessions.get(holder.session)
            if session is not None:
                session.close("silent")
                self._detach(session)
            lost = expired(holder)
            for loss in lost:
                self.leases.end(loss.lease.key, loss.lease.token)
            self.leases.remove_holder(holder.session)
            self._report_lost(lost)

    def give_up_unaccepted(self) -> None:
        """What an agent has neither accepted nor rejected in time is called back. It goes elsewhere once it cannot run
        there: if nothing else tells, when it has lapsed. No budget pays, but the attempt may have begun."""
        now = self._supervisor.clock.monotonic()
        for session in self.sessions():
            late = session.acceptance.overdue(self.leases, now, self._timing.accept_timeout)
            for lease in late:
                session.call_back(lease_ref(lease.key, lease.token))
            for lease in session.acceptance.lapsed(self.leases, now):
                self.end_lease(lease.key, lease.token)
                self._tell(lease, "not_accepted", Charge.STARTED)
            if late:
                log.warning("leases_not_accepted", agent=session.holder.agent, count=len(late))
            if session.acceptance.closed_until:
                self._open_or_close(session)
        self._supervisor.pump_offers()

    def close_silent(self) -> None:
        """End streams that missed their heartbeats; a hung agent does not hold a connection for ever."""
        silence = self._timing.heartbeat_interval * MISSED_BEATS
        limit = self._supervisor.clock.monotonic() - silence
        for session in self.sessions():
            if session.holder.heard_at < limit:
                session.close("silent")

    def _report_lost(self, lost: list[Lost], charge: Charge | None = None) -> None:
        """`charge`: who pays for what was accepted; None: as it was lost."""
        for loss in lost:
            unaccepted = Charge.STARTED if loss.unsure else Charge.NOBODY
            paying = (Charge.POISON if loss.boot_id else Charge.INFRASTRUCTURE) if charge is None else charge
            self._tell(loss.lease, loss.cause, paying if loss.accepted else unaccepted, loss.boot_id)

    def _tell(self, lease: Lease, cause: str, charge: Charge, boot_id: str = "") -> None:
        run_id, step, item = lease.key
        actor = self._supervisor.actor(run_id)
        if actor is not None:
            now, jitter = self._supervisor.clock.now(), self._supervisor.ids.jitter()
            actor.post(Mail(LeaseGone(now, step, item, lease.token, cause, charge, jitter, boot_id)))

    # --- people

    def views(self) -> dict[str, AgentView]:
        """Connected agents, and those whose leases are still waited for."""
        now = self._supervisor.clock.monotonic()
        seen: dict[str, AgentView] = {}
        for epoch, session in self._sessions.items():
            state = DRAINING if session.draining else CONNECTED
            age = now - session.holder.heard_at
            row = self._rows[epoch]
            discarded = self.discarded[row.agent_id]
            row = replace(row, paused=row.agent_id in self.pauses)
            seen[row.agent_id] = AgentView(row, state, len(session.holder.leases), age, discarded)
        return seen

    async def drain_agent(self, agent: str, deadline: int) -> AgentView:
        session = next((one for one in self._sessions.values() if one.holder.agent == agent), None)
        if session is None:
            raise NotConnected(agent)
        self.draining(session)
        session.send(wire.CoordinatorMessage(drain=wire.Drain(deadline=span(deadline), reason="requested")))
        return self.views()[agent]

    async def close_all(self, reason: str, patience: float) -> None:
        """Say Goaway on every stream and wait a little for it to be written."""
        sessions = self.sessions()
        for session in sessions:
            session.close(reason)
        for _ in range(int(patience * 100)):
            if not self._sessions:
                return
            await asyncio.sleep(0.01)

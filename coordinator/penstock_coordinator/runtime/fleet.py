"""The agents of this coordinator: the shell around the roster, which decides. It commits sessions, reads the words of
agents, and carries what was decided to the runs, to agents and to people."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

import structlog

from penstock.agent.v1 import agent_service_pb2 as wire
from penstock_coordinator.core.fleet.gate import DATABASE_AWAY
from penstock_coordinator.core.fleet.leases import Lease, LeaseTable, Stop
from penstock_coordinator.core.fleet.negotiation import PROTOCOL_VERSIONS, common_version
from penstock_coordinator.core.fleet.roster import Arrival, Refusal, Roster
from penstock_coordinator.core.fleet.settled import Settled
from penstock_coordinator.core.run.commands import AckStatus
from penstock_coordinator.core.run.events import Charge, Failure
from penstock_coordinator.core.run.messages import InputsUnresolved, LeaseGone
from penstock_coordinator.ports import OpenedSession, Unavailable
from penstock_coordinator.runtime.actor import Actor, Mail
from penstock_coordinator.runtime.agent_pauses import AgentPauses
from penstock_coordinator.runtime.hello import (
    DERIVES_TRACE,
    LINKS,
    IdInUse,
    StaleCoordinator,
    Superseded,
    UnsupportedProtocol,
    agent_row,
    arrival_of,
    beside_of,
    capacity_of,
    held_of,
    links_of,
)
from penstock_coordinator.runtime.late_results import LateResults, verdict_on
from penstock_coordinator.runtime.left_agents import LeftAgents
from penstock_coordinator.runtime.session import AgentSession, lease_key, span
from penstock_coordinator.runtime.views import AgentView, NotConnected

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from penstock_coordinator.core.fleet.leases import Holder
    from penstock_coordinator.core.fleet.ownership import CoordinatorRow
    from penstock_coordinator.core.fleet.session import Held, Verdict
    from penstock_coordinator.core.run.commands import AwaitLease, CallBackLease, StopAttempt
    from penstock_coordinator.runtime.supervisor import Supervisor, Timing

CONNECTED, DRAINING, LOST = 1, 2, 3
"""States of penstock.v1.AgentState."""
BUNDLE_UNAVAILABLE = "bundle_unavailable"
"""Why an agent rejects a lease whose code bundle the coordinator does not have."""
REJECTION_PAUSE = 0.1
"""Seconds."""
FAILURE_CHARACTERS = 2_000

log = structlog.get_logger(__name__)


class Fleet:
    def __init__(self, supervisor: Supervisor, timing: Timing) -> None:
        self._supervisor = supervisor
        self._timing = timing
        self.pauses = AgentPauses(supervisor.stores.agents)
        self._roster: Roster[AgentSession] = Roster(
            timing,
            supervisor.dispatcher,
            self.pauses,
            self._tell,
            supervisor.pump_offers,
            self._judge_orphans,
            supervisor.counts.adoptions,
        )
        self.head_epoch = 0
        """Of the head that this coordinator has joined; 0: it is a head itself. To be set before agents come."""
        self._peers = wire.Peers()
        self.has_had_members = False
        """Of a head: agents were told of some, so what they say may be of runs that are live there."""
        self.links_generation = 0
        """Another one when agents have come, gone, or have streams with other members than before."""
        self.late_results = LateResults(supervisor)
        self.leasing = self._roster.leasing
        self.standing = self._roster.standing
        self._silent = False
        self.left = LeftAgents()
        self.discarded: Counter[str] = Counter()
        """Results that came too late, by agent."""
        self._settled = Settled()
        self.urgent: dict[AgentSession, None] = {}
        """Those that have gathered what is waited for, in that order, until `hurry`."""

    def hurry(self) -> None:
        """To be called last of a callback that gave sessions something urgent to say: it is begun at once, if nothing
        else is being written, and not when the event loop has come round."""
        if self.urgent:
            urgent, self.urgent = self.urgent, {}
            for session in urgent:
                session.on_urgent()

    @property
    def leases(self) -> LeaseTable:
        return self._roster.leases

    @property
    def paused(self) -> str:
        """Why no agent gets anything now."""
        return self._roster.gate.paused

    def session(self, epoch: int) -> AgentSession | None:
        return self._roster.sessions.get(epoch)

    def sessions(self) -> list[AgentSession]:
        return list(self._roster.sessions.values())

    def _monotonic(self) -> int:
        return self._supervisor.clock.monotonic()

    # --- a session comes

    async def open(self, hello: wire.Hello, basis_seq: int, via: str = "") -> AgentSession:
        """Commit the session, settle what the agent holds, and make its Welcome. While the database is away an agent
        that comes back goes on with its former session: what it runs goes on, and it gets nothing new. `via`: the
        coordinator by which the stream comes.

        Raises `UnsupportedProtocol`, `StaleCoordinator`, `IdInUse`, `Superseded`, `Unavailable`.
        """
        version = common_version(PROTOCOL_VERSIONS, hello.protocol_versions)
        if version is None:
            raise UnsupportedProtocol(PROTOCOL_VERSIONS, hello.protocol_versions)
        arrival = arrival_of(hello, self._roster.next_hello())
        refusal = self._roster.refuses(arrival, self._supervisor.epoch, self._monotonic(), self.head_epoch)
        self._check(arrival, refusal)
        mark = self.pauses.mark(arrival.agent)
        try:
            epoch, paused = await self._commit(hello)
        except Unavailable:
            self.missed_database()
            former = self._roster.former_of(arrival, self._monotonic())
            if former is None:
                raise
            welcome = self._welcome(hello, former.committed, basis_seq, version)
            return self._stand_in(hello, arrival, former, welcome, via)
        self.found_database()
        self.pauses.read(arrival.agent, mark, paused=paused)
        now = self._monotonic()
        self._check(arrival, self._roster.refuses_committed(arrival, epoch, now))
        holder = self._roster.holder_of(arrival, epoch, now)
        session = self._session(hello, holder, self._welcome(hello, epoch, basis_seq, version), via)
        beside = arrival.snapshot
        if session.knows_links and (self.has_had_members or beside.open_sessions or beside.pending):
            # Before its leases are judged: what it held by a member that is gone is an orphan then. Also if there is
            # none any more: it goes on to try the last one that it heard of.
            session.tell_peers(self._peers)
        self._roster.enter(session, arrival)
        return session

    async def _commit(self, hello: wire.Hello) -> OpenedSession:
        """The session's number, and whether a person has paused the agent. That, and all else that is said of agents,
        is the head's: a member counts its own sessions."""
        agents = self._supervisor.stores.agents
        if self.head_epoch:
            number = await agents.open_link(hello.agent_id, self._supervisor.coordinator_id, hello.boot_id)
            return OpenedSession(number, paused=False)
        return await agents.open_session(agent_row(hello, self._supervisor.clock.now()))

    def _stand_in(
        self, hello: wire.Hello, arrival: Arrival, former: Holder, welcome: wire.Welcome, via: str
    ) -> AgentSession:
        holder = self._roster.stand_in_for(former, arrival, self._monotonic())
        session = self._session(hello, holder, welcome, via)
        self._roster.enter_stand_in(session, arrival)
        log.info("session_goes_on", agent=arrival.agent, session=former.committed)
        return session

    def _session(self, hello: wire.Hello, holder: Holder, welcome: wire.Welcome, via: str) -> AgentSession:
        row = replace(agent_row(hello, self._supervisor.clock.now()), session_epoch=welcome.session_epoch)
        self.left.is_back(holder.agent)
        sent = self._supervisor.counts.grants
        session = AgentSession(holder, capacity_of(hello, holder.session), row, welcome, self._may_speak, sent, via)
        session.knows_links = LINKS in hello.features
        session.links = links_of(hello.links)
        self.links_generation += 1
        session.derives_trace = DERIVES_TRACE in hello.features
        return session

    def _may_speak(self) -> bool:
        return not (self._silent or self.standing.is_over(self._monotonic()))

    def fall_silent(self) -> None:
        """From now on nothing is said to agents but that they are to go."""
        self._silent = True

    def _check(self, arrival: Arrival, refusal: Refusal | None) -> None:
        match refusal:
            case Refusal.STALE_COORDINATOR:
                seen = max(arrival.newest_coordinator, arrival.newest_head)
                raise StaleCoordinator(self._supervisor.epoch, seen)
            case Refusal.ID_IN_USE:
                twin = self._roster.twin(arrival)
                raise IdInUse(arrival.agent, "" if twin is None else twin.row.hostname)
            case Refusal.SUPERSEDED:
                raise Superseded(arrival.agent)

    def _welcome(self, hello: wire.Hello, epoch: int, basis_seq: int, version: int) -> wire.Welcome:
        timing, knows_links = self._timing, LINKS in hello.features
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
            features=[LINKS] if knows_links else (),
            head_epoch=(self.head_epoch or self._supervisor.epoch) if knows_links else 0,
        )

    # --- several owners

    def tell_peers(self, members: Sequence[CoordinatorRow]) -> None:
        """By a head, at each change: these are its members. One that is gone is among them until its runs are this
        coordinator's and live: agents let go then of what they held by it, and say so."""
        peers = wire.Peers(
            members=[
                wire.Peer(coordinator_id=row.coordinator_id, address=row.address, epoch=row.epoch)
                for row in sorted(members, key=lambda row: row.coordinator_id)
            ]
        )
        if peers != self._peers:
            self._peers = peers
            self.has_had_members = True
            for session in self.sessions():
                if session.knows_links:
                    session.tell_peers(peers)

    def say_moved(self) -> None:
        """By one that gives its runs up: what agents hold by it is for the next owner."""
        for session in self.sessions():
            if session.knows_links and session.holder.leases:
                session.tell_moved(list({run_id: None for run_id, _, _ in session.holder.leases}))

    def _judge_orphans(self, session: AgentSession, orphans: list[Held]) -> None:
        """They are not known here. Of a run that is at rest the head speaks, else its owner, and nobody else."""
        judged: list[tuple[Held, Verdict]] = []
        absent: list[Held] = []
        for held in orphans:
            verdict = verdict_on(self._supervisor, held)
            if verdict is not None:
                judged.append((held, verdict))
            elif self._supervisor.actor(held.key[0]) is None:
                absent.append(held)
        if judged:
            session.judge(judged, 0)
        if absent and not self.head_epoch:
            self.late_results.judge(session, absent)

    # --- a session speaks

    def credits(self, session: AgentSession, grant_limit: int) -> None:
        self._roster.gate.raise_limit(session, grant_limit)

    def void_credits(self, session: AgentSession, limit: int) -> None:
        session.capacity.void(limit)

    def accepted(self, session: AgentSession, refs: Iterable[wire.LeaseRef]) -> None:
        self.leasing.accepted(session, ((lease_key(ref), ref.token) for ref in refs))

    def is_of_another(self, session: AgentSession, ref: wire.LeaseRef) -> bool:
        """Another agent holds that very attempt: a token can be guessed, and who guesses it has no result."""
        return self.leasing.is_of_another(session, lease_key(ref), ref.token)

    def rejected(self, session: AgentSession, leases: Iterable[wire.RejectedLease]) -> None:
        """The agent did not take them. One whose code is nowhere to be had can run on no agent; the others go back
        after a moment, so that an agent that rejects everything is not asked without end."""
        for rejected in leases:
            lease = self.leasing.taken_back(session, lease_key(rejected.lease), rejected.lease.token)
            if lease is None:
                continue
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
        self.leasing.released(session, lease_key(ref), ref.token, cause, started=started)

    def heartbeat(self, session: AgentSession, beat: wire.Heartbeat) -> None:
        session.disk_low = beat.disk_low
        if not beat.part:
            session.notes = {}
        session.notes.update((lease_key(held.lease), held.note) for held in beat.leases if held.note)
        complete = beat.part + 1 >= beat.parts
        beside = beside_of(beat) if session.knows_links else None
        if session.knows_links and not beat.part:
            self._note_links(session, links_of(beat.links))
        self._roster.heartbeat(
            session, held_of(beat.leases), beat.echo, self._monotonic(), complete=complete, beside=beside
        )

    def _note_links(self, session: AgentSession, links: frozenset[str]) -> None:
        if links != session.links:
            session.links = links
            session.holder.shares_slots |= bool(links)
            self.links_generation += 1

    def draining(self, session: AgentSession) -> None:
        """The agent takes no new leases; what it has goes on."""
        self._roster.gate.drain(session, self._monotonic())

    # --- results

    def settled(self, result_id: bytes) -> None:
        """The result is committed: should it come again, it is no late one."""
        self._settled.add(result_id)

    def is_settled(self, result_id: bytes) -> bool:
        """It was committed here lately: what becomes of it is known, wherever its run is."""
        return result_id in self._settled

    def status_of_late(self, session: AgentSession, result_id: bytes) -> AckStatus:
        """Of a result that nobody waits for (any more)."""
        if result_id in self._settled:
            return AckStatus.DUPLICATE
        self.discarded[session.holder.agent] += 1
        return AckStatus.STALE

    # --- no grants for a while

    def hold_back(self, reason: str) -> None:
        """While there is a reason agents are paused: nothing is placed on them, and they ask for nothing."""
        was = self.paused
        if was == DATABASE_AWAY != reason:
            self.found_database()
        if self._roster.gate.hold_back(reason, self._monotonic()):
            self._count_pause(reason)
            log.info("agents_paused" if reason else "agents_resumed", reason=reason or was)

    def _count_pause(self, reason: str) -> None:
        counts, now = self._supervisor.counts.runs, self._supervisor.clock.now()
        if reason:
            counts.withhold(now)
        else:
            counts.go_on(now)

    async def pause_agent(self, agent: str, *, paused: bool) -> bool:
        """By a person, or what lets it go on; kept. Returns whether there is such an agent. Raises `Unavailable`. Who
        takes over after the look at the fence reads what was written."""
        known = await self.pauses.change(agent, paused=paused)
        if known:
            self._roster.gate.follow_person(agent, self._monotonic())
        await self._supervisor.look_at_fence()
        if self._supervisor.stopping:
            raise Unavailable("another coordinator has taken over: ask again")
        return known

    def refuses(self, session: AgentSession) -> bool:
        """What was decided before a person paused the agent is not sent to it any more."""
        return self._roster.gate.refuses(session)

    # --- a session goes

    def goodbye(self, session: AgentSession) -> None:
        """The agent has ended well: whatever it still held is given up."""
        self.links_generation += 1
        self.left.says_goodbye(session.capacity)
        self._roster.goodbye(session)

    def stream_ended(self, session: AgentSession) -> None:
        """Without a goodbye: the leases live on until the ttl, or until the agent is back."""
        self.links_generation += 1
        self._roster.stream_ended(session, self._monotonic())

    # --- leases

    def stop(self, actor: Actor, command: StopAttempt) -> None:
        key = (actor.run_id, command.step, command.item)
        self.leasing.stop(key, command.token, Stop(command.grace, command.reason))

    def call_back(self, actor: Actor, command: CallBackLease) -> None:
        self.leasing.call_back((actor.run_id, command.step, command.item), command.token)

    def await_lease(self, actor: Actor, command: AwaitLease, last_boot: tuple[int, str]) -> None:
        """`last_boot`: the agent's last session before the restart, and its boot id."""
        key = (actor.run_id, command.step, command.item)
        line = actor.run.line_at(actor.run.agents_line(command.step, command.item))
        now, token, attempt = self._monotonic(), command.token, command.attempt
        self.leasing.wait_for(command.agent, command.session, key, token, attempt, line, last_boot, now)

    def _tell(self, lease: Lease, cause: str, charge: Charge, boot_id: str = "") -> None:
        run_id, step, item = lease.key
        actor = self._supervisor.actor(run_id)
        if actor is not None:
            now, jitter = self._supervisor.clock.now(), self._supervisor.ids.jitter()
            actor.post(Mail(LeaseGone(now, step, item, lease.token, cause, charge, jitter, boot_id)))

    # --- time passes

    def awake(self) -> None:
        """To be called often: who was not, stood still, and may have been replaced."""
        self._roster.awake(self._monotonic())

    def missed_database(self) -> None:
        """It was asked something and is away: also while nothing waits to be committed."""
        self._roster.missed_database(self._monotonic())

    def found_database(self) -> None:
        """It has answered."""
        self._roster.found_database(self._monotonic())

    def stand_still(self, span: int) -> None:
        """For so long nobody could be heard, whoever spoke."""
        self.leases.stand_still(span, self._monotonic())

    def expire(self) -> None:
        """Give up what was not heard of for a lease's whole life."""
        self._roster.expire(self._monotonic())

    def run_periodic(self) -> None:
        """Once in a while: leases that ran out or were not accepted, streams that fell silent, agents that are to come
        back for a session of their own."""
        self.expire()
        now = self._monotonic()
        for agent, count in Counter(lease.holder.agent for lease in self._roster.give_up_unaccepted(now)).items():
            log.warning("leases_not_accepted", agent=agent, count=count)
        self._roster.close_silent(now)
        self._roster.end_stand_ins(now)

    # --- people

    def views(self) -> dict[str, AgentView]:
        """Connected agents, and those whose leases are still waited for."""
        now = self._monotonic()
        return {session.holder.agent: self._view(session, now) for session in self.sessions()}

    def _view(self, session: AgentSession, now: int) -> AgentView:
        agent, age = session.holder.agent, now - session.holder.heard_at
        state = DRAINING if session.draining else CONNECTED
        row = replace(session.row, paused=agent in self.pauses)
        links = tuple(sorted(session.links))
        return AgentView(row, state, len(session.holder.leases), age, self.discarded[agent], session.via, links)

    async def drain_agent(self, agent: str, deadline: int) -> AgentView:
        session = next((one for one in self.sessions() if one.holder.agent == agent), None)
        if session is None:
            raise NotConnected(agent)
        self.draining(session)
        session.send(wire.CoordinatorMessage(drain=wire.Drain(deadline=span(deadline), reason="requested")))
        return self._view(session, self._monotonic())

    async def close_all(self, reason: str, patience: float) -> None:
        """Say Goaway on every stream and wait a little for it to be written."""
        for session in self.sessions():
            session.close(reason)
        await self.gone(patience)

    def send_on(self, address: str) -> None:
        """Say on every stream where to go, and end it."""
        if self.head_epoch:
            self.say_moved()
        for session in self.sessions():
            session.send(wire.CoordinatorMessage(redirect=wire.Redirect(address=address, reason="handed_over")))
            session.close()

    async def gone(self, patience: float) -> None:
        """Returns when no stream is left, or after so many seconds. Nobody is answered any more."""
        self.late_results.close()
        for _ in range(int(patience * 100)):
            if not self._roster.sessions:
                return
            await asyncio.sleep(0.01)

"""What must hold of coordinators: of what they say, give up and remember."""

from __future__ import annotations

from typing import TYPE_CHECKING

from penstock.testing import words
from penstock.testing.ownership_promises import OwnershipPromises
from penstock.testing.timeline import SECOND
from penstock.testing.witness import Violation, broken, spelled
from penstock_coordinator.core.fleet.session import Verdict
from penstock_coordinator.core.fleet.standing import fence_interval
from penstock_coordinator.core.run.deadlines import next_deadline
from penstock_coordinator.core.run.invariants import check_invariants, fingerprint

if TYPE_CHECKING:
    from penstock.testing.coordinator import Coordinator
    from penstock.testing.sessions import Session
    from penstock_agent.core.leases import LeaseKey
    from penstock_coordinator.core.fleet.leases import Lease as CoordinatorLease
    from penstock_coordinator.core.run.state import Run
    from penstock_coordinator.runtime.actor import Actor, Turn

LOOKED_AT = 16
"""Of so many turns one is looked at as a whole: all counters, queues and timers of the run."""
COMPARED = 8
"""Of so many committed turns one is compared with what the journal folds to."""


class CoordinatorPromises(OwnershipPromises):
    def takes_over(self, coordinator: Coordinator) -> None:
        self.epochs_increase(coordinator)

    def epochs_increase(self, coordinator: Coordinator) -> None:
        """I9: every incarnation has a number of its own; a head's is greater than those before, a member's than its
        head's."""
        epoch = coordinator.epoch
        if epoch in self.epochs or epoch <= (self.epoch if coordinator.is_head else coordinator.head_epoch):
            broken("epochs_increase", f"epoch {epoch} follows {self.epoch}")
        self.epochs.add(epoch)
        self.epoch = epoch if coordinator.is_head else self.epoch

    def steps_down(self, coordinator: Coordinator) -> None:
        """4: only who is superseded is fenced."""
        if coordinator.is_current():
            broken("one_writer", "the newest incarnation was fenced")

    def session_opens(self, coordinator: Coordinator, session: Session) -> None:
        self.sessions_increase(session.epoch)
        self.one_session_lives(coordinator, session)

    def sessions_increase(self, session: int) -> None:
        """I9: every session has a greater number than those that were opened before."""
        if session in (0, self.session):
            broken("sessions_increase", f"session {session} was opened twice")
        self.session = max(self.session, session)

    def one_session_lives(self, coordinator: Coordinator, session: Session) -> None:
        """I10: at most one session of an agent lives on a coordinator."""
        same = [each for each in coordinator.fleet.sessions.values() if each.holder.agent == session.holder.agent]
        if len(same) > 1:
            broken("one_session_lives", f"{session.holder.agent} has {len(same)} sessions")
        for holder in coordinator.fleet.leases.holders_of(session.holder.agent):
            if holder.connected and holder is not session.holder and holder.session in coordinator.fleet.sessions:
                broken("one_session_lives", f"an older session of {holder.agent} is still heard")

    def coordinator_says(self, coordinator: Coordinator, session: Session, word: words.CoordinatorWord) -> None:
        if isinstance(word, words.Grants):
            self.acts(coordinator, "grants")
            for grant in word.grants:
                self.who_owns_a_run_grants(coordinator, grant.key)
                self.granted_after_commit(grant.key, grant.token, grant.attempt)
            self.within_credit(session)
        elif isinstance(word, words.Acks):
            self.acts(coordinator, "acknowledges")
            for key, token, _, status in word.acks:
                self.acknowledged_after_commit(key, token, status)
        elif isinstance(word, words.Verdicts):
            if any(ttl for *_, ttl in word.verdicts):
                self.acts(coordinator, "renews leases")
            for key, token, verdict, _ in word.verdicts:
                if verdict == Verdict.ABORT:
                    self.who_owns_a_run_ends_its_leases(coordinator, key, token)
        elif isinstance(word, words.HeartbeatAck) and word.ttl:
            self.acts(coordinator, "renews leases")

    def who_owns_a_run_grants(self, coordinator: Coordinator, key: LeaseKey) -> None:
        """4: of a run its owner alone grants, as the rows have it."""
        assert self.store is not None
        owner = self.store.runs[key[0]].owner
        if owner != coordinator.owner and not self.lone_acted and not coordinator.alone:
            broken("who_owns_a_run_grants", f"{spelled(key)} is {owner}'s, and {coordinator.name} grants it")

    def who_owns_a_run_ends_its_leases(self, coordinator: Coordinator, key: LeaseKey, token: int) -> None:
        """10: of a lease that lives, as the journal has it, nobody but the run's owner says that it is over."""
        assert self.store is not None
        granted, run = self.leases.get((key, token)), self.store.runs.get(key[0])
        if granted is None or granted.ended or run is None or run.owner == coordinator.owner:
            return
        if not self.lone_acted and not coordinator.alone:
            broken(
                "who_owns_a_run_ends_its_leases",
                f"{spelled(key)} is {run.owner}'s, and {coordinator.name} ends token {token}, which lives",
            )

    def granted_after_commit(self, key: LeaseKey, token: int, attempt: int) -> None:
        """2, I12: no lease is sent that is not in the journal."""
        granted = self.leases.get((key, token))
        if granted is None or granted.attempt != attempt:
            broken("granted_after_commit", f"{spelled(key)}: token {token} is sent, and the journal does not have it")

    def acknowledged_after_commit(self, key: LeaseKey, token: int, status: int) -> None:
        """2, I11: no result is acknowledged before its fate is in the journal."""
        granted = self.leases.get((key, token))
        if granted is not None and not granted.ended:
            broken(
                "acknowledged_after_commit", f"{spelled(key)}: token {token} is acknowledged ({status}) while it lives"
            )

    def within_credit(self, session: Session) -> None:
        """I7: never more grants than the agent has asked for."""
        if session.capacity.granted > session.capacity.grant_limit:
            broken("within_credit", f"{session.capacity.granted} grants, {session.capacity.grant_limit} credits")

    def agent_is_paused(self, agent: str) -> None:
        """A person was told so."""
        self.paused_agents.add(agent)

    def agent_goes_on(self, agent: str) -> None:
        """A person asks for it."""
        self.paused_agents.discard(agent)

    def lease_sent(self, coordinator: Coordinator, session: Session, key: LeaseKey) -> None:
        if coordinator.is_current() and coordinator.is_head:
            # A member does not know of it: its grant is refused by the agent, which has heard it of its head.
            self.paused_agents_get_nothing(session.holder.agent, key)

    def paused_agents_get_nothing(self, agent: str, key: LeaseKey) -> None:
        """Once a person was told that an agent is paused it gets no lease, over sessions and restarts."""
        if agent in self.paused_agents:
            broken("paused_agents_get_nothing", f"{spelled(key)} is sent to {agent}")

    def turned_away(self, coordinator: Coordinator, hello: words.Hello) -> None:
        """No session could be committed."""
        self.who_holds_leases_goes_on(coordinator, hello)

    def who_holds_leases_goes_on(self, coordinator: Coordinator, hello: words.Hello) -> None:
        """While the database is away a process that this incarnation knows, and that holds what it was given, is not
        turned away: what it runs goes on."""
        for key, token, *_ in hello.held:
            lease = coordinator.fleet.leases.find(key)
            if lease is None or lease.token != token or lease.holder.boot_id != hello.boot_id:
                continue
            if 0 < lease.holder.stream < hello.stream:
                broken("who_holds_leases_goes_on", f"{hello.agent} is turned away with {spelled(key)}")

    def leases_renewed(self, coordinator: Coordinator) -> None:
        if not coordinator.is_current():
            self.who_was_replaced_renews_nothing(coordinator)

    def who_was_replaced_renews_nothing(self, coordinator: Coordinator) -> None:
        """I6: who was replaced while it stood still renews nothing any more: the newer one gives up what it does not
        hear of. While the database is away nobody takes over, and there is no doubt."""
        assert self.store is not None
        pause = fence_interval(self.timing.expiry_margin)
        if coordinator.stood_still_at(self.store.raised_at[coordinator.owner], pause) and not self.store.was_away:
            broken("who_was_replaced_renews_nothing", f"epoch {coordinator.epoch} renews leases after its pause")

    def closes_as_silent(self, session: Session) -> None:
        self.who_speaks_is_heard(session)

    def who_speaks_is_heard(self, session: Session) -> None:
        """I6: a stream is not taken for dead while the agent's words are read on it."""
        silent = self.timeline.now - session.read_at
        if silent < self.timing.heartbeat_interval:
            broken("who_speaks_is_heard", f"{session.holder.agent} spoke {silent} us ago, and is taken for silent")

    def lease_expires(self, coordinator: Coordinator, lease: CoordinatorLease) -> None:
        self.no_lease_expires_early(lease)

    def no_lease_expires_early(self, lease: CoordinatorLease) -> None:
        """I6: when the coordinator gives a lease up, its agent has given it up before, by its own clock."""
        if self.lone_acted:
            return
        for agent in self.agents():
            held = agent.holder.book.find(lease.key, lease.token)
            if held is None or held.phase.name in ("FINISHED", "GRANTED"):
                continue
            left = held.deadline - agent.machine.clock.monotonic()
            if left > 0:
                broken("no_lease_expires_early", f"{spelled(lease.key)}: {agent.name} holds it for {left} us more")

    def turn_ends(self, actor: Actor, turn: Turn | None) -> None:
        self.turns += 1
        if turn is not None and self.turns % LOOKED_AT == 0:
            self.bookkeeping_is_right(actor.run)

    def bookkeeping_is_right(self, run: Run) -> None:
        """5, 8, I15: all that a run counts and queues follows from the states of its step runs."""
        try:
            check_invariants(run, clock_is_steady=False)
        except AssertionError as error:
            raise Violation("bookkeeping_is_right", str(error) or "see the trace") from error

    def settled(self, actor: Actor) -> None:
        """A turn is committed."""
        if not actor.in_flight and not actor.discarded and (self.turns + actor.run.seq) % COMPARED == 0:
            self.replays(actor.run)

    def replays(self, run: Run) -> None:
        """9, I18: folding the journal gives the state that the actor had."""
        shadow = self.shadows[run.run_id].run
        if shadow.seq != run.seq:
            return  # more has been decided
        if fingerprint(run) != fingerprint(shadow) or next_deadline(run) != next_deadline(shadow):
            broken("replays", "the journal folds to another state than the actor's")

    def heartbeat_heard(self, before: int, after: int, lost: int) -> None:
        self.heartbeats_write_nothing(after - before, lost)

    def heartbeats_write_nothing(self, mailed: int, lost: int) -> None:
        """I17: a heartbeat makes no work for a run, unless it says that a lease is not held."""
        if mailed and not lost:
            broken("heartbeats_write_nothing", f"a heartbeat made work for {mailed} runs")

    def look_around(self, coordinator: Coordinator) -> None:
        """Once in a while: what grows, and what should have ended."""
        self.memory_is_bounded(coordinator)
        self.stopped_attempts_end()

    def memory_is_bounded(self, coordinator: Coordinator) -> None:
        """8, I19: what a coordinator remembers is bounded by what lives."""
        table = coordinator.fleet.leases
        if len(table) > len(self.leases):
            live = sum(1 for granted in self.leases.values() if not granted.ended)
            if len(table) > live + len(self.leases):
                broken("memory_is_bounded", f"{len(table)} leases are remembered, and {live} live")
        empty = [h for h in table.holders() if not h.leases and h.session not in coordinator.fleet.sessions]
        if empty:
            broken("memory_is_bounded", f"{len(empty)} sessions are remembered that have ended")

    def stopped_attempts_end(self) -> None:
        """I13: what still runs of a run at rest ends within grace, ttl and margin."""
        timing = self.timing
        for key, executions in self.running.items():
            shadow = self.shadows[key[0]]
            if not shadow.ended:
                continue
            grace = shadow.run.plan.stop_grace
            most = grace + 2 * (timing.lease_ttl + timing.expiry_margin) + 5 * SECOND
            for execution in executions:
                if not execution.machine_paused and self.timeline.now - max(shadow.ended_at, execution.began) > most:
                    broken("stopped_attempts_end", f"{spelled(key)} still runs on {execution.agent}")

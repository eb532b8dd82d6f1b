"""What must hold of agents: of what they run, keep and ask for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from penstock.testing.timeline import MILLISECOND, SECOND
from penstock.testing.witness import Granted, Witness, broken, spelled

if TYPE_CHECKING:
    from penstock.testing.agents import AgentProcess
    from penstock.testing.executions import Execution
    from penstock_agent.core.leases import Lease, LeaseKey

SYNC_SLACK = SECOND
OFFERED = 50 * MILLISECOND
"""What was offered to one of several coordinators is kept free for so long."""
SHORT = 20 * MILLISECOND
"""Of steps that are shorter an agent takes as many at once as fill this span."""


class AgentPromises(Witness):
    def execution_begins(self, execution: Execution, lease: Lease) -> None:
        self.executions += 1
        key = execution.key
        self.runs_what_was_granted(execution)
        self.executions_do_not_overlap(execution)
        self.runs_on_free_slots(execution)
        granted = self.leases[key, execution.token]
        self.attempts_run_once(execution, granted)
        self.executed.add((*key, granted.generation, execution.attempt))
        self.running.setdefault(key, []).append(execution)

    def runs_what_was_granted(self, execution: Execution) -> None:
        """2, I12: user code runs only under a lease that is in the journal."""
        granted = self.leases.get((execution.key, execution.token))
        if granted is None or granted.attempt != execution.attempt:
            broken("runs_what_was_granted", f"{spelled(execution.key)} runs under token {execution.token}")

    def attempts_run_once(self, execution: Execution, granted: Granted) -> None:
        """10, I8: the number of an attempt is that of one execution."""
        if (*execution.key, granted.generation, execution.attempt) in self.executed:
            broken("attempts_run_once", f"{spelled(execution.key)}: attempt {execution.attempt} runs a second time")

    def executions_do_not_overlap(self, execution: Execution) -> None:
        """I4: two executions of one step run never overlap, unless a process stood still, or the first was given up; on
        the same agent not even then."""
        for other in self.running.get(execution.key, ()):
            granted = self.leases[other.key, other.token]
            excused = other.machine_paused or granted.given_up or self.lone_acted
            if other.agent == execution.agent or not excused:
                broken(
                    "executions_do_not_overlap",
                    f"{spelled(execution.key)} begins on {execution.agent} while it runs on {other.agent}"
                    f" (token {other.token}, {granted.ended or 'alive'})",
                )

    def runs_on_free_slots(self, execution: Execution) -> None:
        """I7: an agent runs no more at once than it has slots."""
        for agent in self.agents():
            if agent.name == execution.agent and len(agent.executor.running) > agent.machine.spec.slots:
                broken("runs_on_free_slots", f"{agent.name} runs {len(agent.executor.running)}")

    def execution_ends(self, execution: Execution) -> None:
        executions = self.running.get(execution.key)
        if executions is not None and execution in executions:
            executions.remove(execution)
            if not executions:
                del self.running[execution.key]

    def result_forgotten(self, agent: AgentProcess, lease: Lease) -> None:
        self.results_are_kept(agent, lease)

    def results_are_kept(self, agent: AgentProcess, lease: Lease) -> None:
        """I5: an agent forgets a result only once the journal says what became of the attempt."""
        granted = self.leases.get((lease.key, lease.token))
        if granted is not None and not granted.ended:
            broken("results_are_kept", f"{spelled(lease.key)}: {agent.name} forgets the result of token {lease.token}")

    def agent_boots(self, agent: AgentProcess) -> None:
        self.spooled_results_survive(agent)

    def spooled_results_survive(self, agent: AgentProcess) -> None:
        """I5: what is in the spool is known to the next process, which sends it again."""
        for result in agent.machine.disk.durable.values():
            held = agent.holder.book.held.get(result.key)
            if held is None or held.token < result.token:
                broken(
                    "spooled_results_survive", f"{agent.name} does not know of {spelled(result.key)} after a restart"
                )

    def agent_crashed(self, agent: AgentProcess) -> None:
        self.results_reach_the_disk(agent)

    def results_reach_the_disk(self, agent: AgentProcess) -> None:
        """I5: a result that is not acknowledged at once is on the disk, if that takes anything."""
        now = agent.machine.clock.monotonic()
        for lease in agent.holder.book.unacked.leases.values():
            result = lease.result
            assert result is not None
            late = min(now - result.ended_at, self.timeline.now - agent.thawed_at) > SYNC_SLACK
            if (
                late
                and not agent.frozen
                and not agent.machine.disk.was_full
                and (result.result_id not in agent.machine.disk.durable)
            ):
                broken("results_reach_the_disk", f"{agent.name} has kept {spelled(lease.key)} in memory alone")

    def lease_given_up(self, agent: AgentProcess, lease: Lease) -> None:
        self.leases_are_renewed(agent, lease)

    def leases_are_renewed(self, agent: AgentProcess, lease: Lease) -> None:
        """I6: who is answered does not lose its leases."""
        since = self.timeline.now - agent.acknowledged_at.get(lease.link, 0)
        steady = self.timeline.now - agent.thawed_at > 2 * self.timing.lease_ttl and not agent.machine.was_slow
        if steady and since < self.timing.heartbeat_interval:
            broken("leases_are_renewed", f"{agent.name} gives {spelled(lease.key)} up, and was just answered")

    def welcomed(self, agent: AgentProcess, member: str, epoch: int) -> None:
        """`member`: its name; "": by a head."""
        self.newest_coordinator_is_believed(agent, member, epoch)
        agent.newest_epochs[member] = epoch

    def newest_coordinator_is_believed(self, agent: AgentProcess, member: str, epoch: int) -> None:
        """I9: an agent that has seen a head belongs to no older one any more, nor to an older incarnation of a
        member."""
        newest = agent.newest_epochs.get(member, 0)
        if epoch < newest or (member and epoch < agent.newest_epochs.get("", 0)):
            broken("newest_coordinator_is_believed", f"{agent.name} is welcome at {epoch} after {newest}")

    def asks_for_work(self, agent: AgentProcess, stream: int, grant_limit: int) -> None:
        self.credits_follow_slots(agent, stream, grant_limit)

    def credits_follow_slots(self, agent: AgentProcess, stream: int, grant_limit: int) -> None:
        """I7: an agent asks for no more than its slots take; more per slot only of steps that are short."""
        session, slots = agent.holder.sessions[stream], agent.machine.spec.slots
        each = max(1.0, SHORT / max(agent.holder.pace.mean or SHORT, 1.0))
        asked = grant_limit - session.grants_seen + agent.holder.book.unfinished
        if asked > slots * each:
            broken("credits_follow_slots", f"{agent.name} asks for {asked} with {slots} slots")
        self.room_is_offered_once(agent, stream, grant_limit, slots * each)

    def room_is_offered_once(self, agent: AgentProcess, stream: int, grant_limit: int, most: float) -> None:
        """I7: of several coordinators each is offered its own part of the room, until it has left it unused for a
        while. One that has nothing to do leaves all of them with as many credits as it has slots."""
        sessions, unfinished = agent.holder.sessions, agent.holder.book.unfinished
        offers = agent.offers.setdefault(stream, [])
        offers.append((agent.now() if unfinished else agent.now() - OFFERED, grant_limit))
        for gone in agent.offers.keys() - sessions.keys():
            del agent.offers[gone]
        now = agent.now()
        # Not counted with are those who give nothing for a while, and those who are not listened to any more.
        silent = {number for number, session in sessions.items() if session.paused or session.over}
        free = {number: each for number, each in agent.offers.items() if number not in silent}
        fresh = sum(_kept_free(now, each, sessions[number].grants_seen) for number, each in free.items())
        if unfinished and unfinished + fresh > most:
            broken("room_is_offered_once", f"{agent.name} holds {unfinished}, and keeps {fresh} more free")

    def takes_no_work(self, agent: AgentProcess, key: LeaseKey) -> None:
        """I14: who drains, or whose disk is full, takes no new lease."""
        broken("takes_no_work", f"{agent.name} took {spelled(key)}, and it drains, or its disk is full")

    def agent_left(self, agent: AgentProcess) -> None:
        self.drained_agents_are_empty(agent)

    def drained_agents_are_empty(self, agent: AgentProcess) -> None:
        """I14: a drained agent ends without leases; without results too, if there was somebody to take them."""
        if agent.holder.book.unfinished or agent.executor.running:
            broken("drained_agents_are_empty", f"{agent.name} has left, and something still runs")


def _kept_free(now: int, offers: list[tuple[int, int]], used: int) -> int:
    """Of what was offered to one coordinator, with the numbers that credits had counted up to. Forgets what is old."""
    while len(offers) > 1 and offers[1][0] <= now - OFFERED:
        del offers[0]
    before = offers[0][1] if offers[0][0] <= now - OFFERED else 0
    return max(0, offers[-1][1] - max(used, before))

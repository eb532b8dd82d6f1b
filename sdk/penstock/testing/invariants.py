"""What must always hold. One function for each promise; the simulation calls them with every step that concerns them.

They see everything: the journal as it is stored, every word as it is said, what user code really did, and true time.
Of the coordinator's and the agents' own bookkeeping they believe nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NoReturn

from penstock.testing import words
from penstock.testing.timeline import MILLISECOND, SECOND
from penstock_coordinator.core.plan.limits import DEFAULT_RUN_LIMITS
from penstock_coordinator.core.plan.model import TriggerRule
from penstock_coordinator.core.run import events as e
from penstock_coordinator.core.run.deadlines import next_deadline
from penstock_coordinator.core.run.evolve import evolve
from penstock_coordinator.core.run.invariants import check_invariants, fingerprint
from penstock_coordinator.core.run.state import Run
from penstock_coordinator.core.run.states import RunState
from penstock_coordinator.core.run.states import StepState as S

if TYPE_CHECKING:
    from collections.abc import Callable

    from penstock.testing.agents import AgentProcess
    from penstock.testing.coordinator import Coordinator, Timing
    from penstock.testing.executions import Execution
    from penstock.testing.journal import Store
    from penstock.testing.sessions import Session
    from penstock.testing.timeline import Timeline
    from penstock_agent.core.leases import Lease, LeaseKey
    from penstock_coordinator.core.fleet.leases import Lease as CoordinatorLease
    from penstock_coordinator.core.plan.model import Plan
    from penstock_coordinator.ports import Record, RunId
    from penstock_coordinator.runtime.actor import Actor, Turn

MOST_DEATHS = 3
LOOKED_AT = 16
"""Of so many turns one is looked at as a whole: all counters, queues and timers of the run."""
COMPARED = 8
"""Of so many committed turns one is compared with what the journal folds to."""
KILL_SLACK = 50 * MILLISECOND
SYNC_SLACK = SECOND
SHORT = 20 * MILLISECOND
"""Of steps that are shorter an agent takes as many at once as fill this span."""


class Violation(Exception):
    """A promise was broken: `invariant` is the name of the function below that says so."""

    def __init__(self, invariant: str, what: str) -> None:
        super().__init__(f"{invariant}: {what}")
        self.invariant = invariant
        self.what = what


def _broken(invariant: str, what: str) -> NoReturn:
    raise Violation(invariant, what)


@dataclass(slots=True)
class Granted:
    """A lease, as the journal has it."""

    attempt: int
    generation: int
    agent: str
    ended: str = ""
    """The event that ended it."""
    given_up: bool = False
    """It ended before its result came: what runs under it may go on for a while."""


@dataclass(slots=True)
class Story:
    """One step run in one generation, as the journal tells of it."""

    token: int = 0
    failures: int = 0
    losses: int = 0
    deaths: list[str] = field(default_factory=list)
    """The boots of agents that died while they ran it."""
    completed: bool = False
    at_rest: bool = False


@dataclass(slots=True)
class Shadow:
    """A run that is folded from the journal, and from nothing else."""

    run: Run
    stories: dict[tuple[int, int], Story] = field(default_factory=dict)
    ended: bool = False
    ended_at: int = 0

    def story(self, step: int, item: int) -> Story:
        found = self.stories.get((step, item))
        if found is None:
            found = self.stories[step, item] = Story()
        return found


class Invariants:
    def __init__(self, timeline: Timeline, timing: Timing, plan_of: Callable[[str, Plan | None], Plan]) -> None:
        self.timeline = timeline
        self.timing = timing
        self.plan_of = plan_of
        self.store: Store | None = None
        self.shadows: dict[RunId, Shadow] = {}
        self.leases: dict[tuple[LeaseKey, int], Granted] = {}
        self.running: dict[LeaseKey, list[Execution]] = {}
        self.executed: set[tuple[RunId, int, int, int, int]] = set()
        """(run, step, item, generation, attempt)"""
        self.requests: dict[tuple[str, str], RunId] = {}
        self.epoch = 0
        self.session = 0
        self.turns = 0
        self.paused_agents: set[str] = set()
        """Those of which a person was told so, and that nobody has asked to go on."""
        self.events: dict[str, int] = {}
        """How many of each kind were written."""
        self.executions = 0
        self.observers: list[Callable[[Run, Any], None]] = []
        """Told of every event that is stored, with the run before it."""

    # --- the journal

    def appended(self, epoch: int, record: Record, events: list[e.Event]) -> None:
        """A record is durable from now on."""
        self.one_writer(epoch, record)
        self.same_request_same_run(record)
        shadow = self.shadows.get(record.run_id)
        if shadow is None:
            first = events[0]
            if not isinstance(first, e.RunStarted):
                _broken("one_writer", f"a journal begins with {first}")
            shadow = self.shadows[record.run_id] = Shadow(Run(self.plan_of(first.version_digest, None), record.run_id))
        run = shadow.run
        for seq, event in enumerate(events, record.first_seq):
            self._read(shadow, seq, event)
            digest = getattr(event, "version_digest", None)
            if digest is not None and digest != run.plan.digest:
                run.plans = {digest: self.plan_of(digest, run.plan)}
            for observe in self.observers:
                observe(run, event)
            evolve(run, seq, event)
            name = type(event).__name__
            self.events[name] = self.events.get(name, 0) + 1
            self.timeline.note(
                "journal", name, record.run_id, seq, getattr(event, "step", -1), getattr(event, "item", -1)
            )

    def one_writer(self, epoch: int, record: Record) -> None:
        """4, I9: of one owner alone are appends to a run accepted, and they follow each other without a gap: so tokens,
        which are numbers of events, increase."""
        assert self.store is not None
        if epoch != self.store.epoch:
            _broken("one_writer", f"an append of epoch {epoch} was stored in epoch {self.store.epoch}")
        shadow = self.shadows.get(record.run_id)
        expected = 1 if shadow is None else shadow.run.seq + 1
        if record.first_seq != expected:
            _broken("one_writer", f"a record begins with {record.first_seq} where {expected} was due")

    def _read(self, shadow: Shadow, seq: int, event: e.Event) -> None:
        if shadow.ended and not isinstance(event, e.RunReopened):
            _broken("rest_is_rest", f"{type(event).__name__} came after the end of the run")
        reader = _READERS.get(type(event))
        if reader is not None:
            reader(self, shadow, seq, event)

    def same_request_same_run(self, record: Record) -> None:
        """7: of all records with the same request one is stored."""
        if record.request is None:
            return
        key = (record.request.key.method, record.request.key.id)
        if self.requests.setdefault(key, record.run_id) != record.run_id:
            _broken("same_request_same_run", f"{key} is the request of two runs")

    def read_leased(self, shadow: Shadow, seq: int, event: e.StepsLeased) -> None:
        run = shadow.run
        self.paused_runs_start_nothing(run)
        self.spent_budgets_start_nothing(run)
        for step, item, attempt in event.leases:
            story = shadow.story(step, item)
            key = (run.run_id, step, item)
            self.rest_is_rest(key, story)
            self.another_attempt_has_a_cause(key, story)
            self.cancelled_runs_start_nothing(run, step)
            story.token = seq
            self.leases[key, seq] = Granted(attempt, run.generation, event.agent)

    def read_child_started(self, shadow: Shadow, seq: int, event: e.ChildStarted) -> None:
        self.paused_runs_start_nothing(shadow.run)
        self.spent_budgets_start_nothing(shadow.run)
        self.cancelled_runs_start_nothing(shadow.run, event.step)
        self.rest_is_rest((shadow.run.run_id, event.step, event.item), shadow.story(event.step, event.item))

    def read_completed(self, shadow: Shadow, seq: int, event: e.StepCompleted) -> None:
        story = shadow.story(event.step, event.item)
        key = (shadow.run.run_id, event.step, event.item)
        self.completes_once(key, story)
        if event.token:
            self.newest_token_speaks(key, story, event.token)
            self._end_lease(key, event.token, "StepCompleted")
        story.completed = story.at_rest = True

    def read_failed_attempt(self, shadow: Shadow, seq: int, event: e.AttemptFailed) -> None:
        story = shadow.story(event.step, event.item)
        key = (shadow.run.run_id, event.step, event.item)
        self.newest_token_speaks(key, story, event.token)
        self._end_lease(key, event.token, "AttemptFailed", given_up=not event.reported)
        story.failures += 1
        self.budgets_hold(shadow.run, key, story)

    def read_lost_lease(self, shadow: Shadow, seq: int, event: e.LeaseLost) -> None:
        story = shadow.story(event.step, event.item)
        key = (shadow.run.run_id, event.step, event.item)
        self.newest_token_speaks(key, story, event.token)
        self._end_lease(key, event.token, "LeaseLost")
        if event.charge is e.Charge.NOBODY:
            self.nobody_pays_for_nothing(key, event)
        story.losses += event.charge is e.Charge.INFRASTRUCTURE
        story.deaths += [event.boot] if event.charge is e.Charge.POISON else []
        self.budgets_hold(shadow.run, key, story)

    def read_step_over(self, shadow: Shadow, seq: int, event: e.StepFailed | e.StepCancelled) -> None:
        story = shadow.story(event.step, event.item)
        key = (shadow.run.run_id, event.step, event.item)
        self.rest_is_rest(key, story)
        self._end_lease(key, story.token, type(event).__name__, given_up=True)
        story.at_rest = True

    def read_readied(self, shadow: Shadow, seq: int, event: e.StepsReadied) -> None:
        for first, stop in event.ranges:
            for step in range(first, stop):
                self.starts_in_order(shadow.run, step)

    def read_reopened(self, shadow: Shadow, seq: int, event: e.RunReopened) -> None:
        shadow.ended = False
        # What is reset begins a new story; its tokens go on.
        whole = {step for first, stop in event.steps for step in range(first, stop)}
        items = {(step, item) for step, ranges in event.items for a, b in ranges for item in range(a, b)}
        for (step, item), story in list(shadow.stories.items()):
            if step in whole or (step, item) in items:
                shadow.stories[step, item] = Story(token=story.token)

    def read_run_ended(self, shadow: Shadow, seq: int, event: e.RunEnded) -> None:
        shadow.ended = True
        shadow.ended_at = self.timeline.now

    def _end_lease(self, key: LeaseKey, token: int, by: str, *, given_up: bool = False) -> None:
        granted = self.leases.get((key, token))
        if granted is not None and not granted.ended:
            granted.ended = by
            granted.given_up = given_up

    # --- promises about the journal

    def completes_once(self, key: LeaseKey, story: Story) -> None:
        """1, I1: a step run completes at most once."""
        if story.completed or story.at_rest:
            _broken("completes_once", f"{_spelled(key)} completes, and it was at rest")

    def newest_token_speaks(self, key: LeaseKey, story: Story, token: int) -> None:
        """1, I2: what is committed of a step run is said with its newest token."""
        if token != story.token:
            _broken("newest_token_speaks", f"{_spelled(key)}: token {token} was heard, and {story.token} is the newest")

    def rest_is_rest(self, key: LeaseKey, story: Story) -> None:
        """6: what is at rest stays at rest, until a new generation."""
        if story.at_rest:
            _broken("rest_is_rest", f"{_spelled(key)} was at rest")

    def another_attempt_has_a_cause(self, key: LeaseKey, story: Story) -> None:
        """10, I8: an attempt follows another one only if the journal says why that one is over."""
        former = self.leases.get((key, story.token))
        if former is not None and not former.ended:
            _broken("another_attempt_has_a_cause", f"{_spelled(key)}: nothing says why token {story.token} is over")

    def cancelled_runs_start_nothing(self, run: Run, step: int) -> None:
        """I13: once a run's cancel is committed no step starts but for cleanup."""
        if run.state is RunState.CANCELLING and run.doomed(step):
            _broken("cancelled_runs_start_nothing", f"step {step} of a run that is being cancelled was leased")

    def spent_budgets_start_nothing(self, run: Run) -> None:
        """While nothing is left of a run's budget nothing of it is leased but what cleans up or undoes."""
        if run.over_budget or run.overspent:
            _broken("spent_budgets_start_nothing", "a step run of a run without a budget left was leased")

    def paused_runs_start_nothing(self, run: Run) -> None:
        """While a run is paused nothing of it is leased."""
        if run.state is RunState.PAUSED:
            _broken("paused_runs_start_nothing", "a step run of a paused run was leased")

    def budgets_hold(self, run: Run, key: LeaseKey, story: Story) -> None:
        """I20: no more failures than the step's retries allow, no more lost agents than its budget, and no more that
        died of it than three, each once."""
        retry = run.plan.steps[key[1]].retry
        most = retry.max_attempts
        if story.failures > most:
            _broken("budgets_hold", f"{_spelled(key)} failed {story.failures} times, and {most} attempts are allowed")
        if story.losses > (retry.max_losses or DEFAULT_RUN_LIMITS.losses):
            _broken("budgets_hold", f"{_spelled(key)} has lost {story.losses} agents")
        if len(story.deaths) > MOST_DEATHS or len(set(story.deaths)) < len(story.deaths):
            _broken("budgets_hold", f"{_spelled(key)} has taken the agents {story.deaths} with it")

    def nobody_pays_for_nothing(self, key: LeaseKey, event: e.LeaseLost) -> None:
        """I8: a lease that is charged to nobody was one under which no user code had started, so that the number of an
        attempt is never used for two executions."""
        granted = self.leases[key, event.token]
        if (*key, granted.generation, granted.attempt) in self.executed:
            _broken(
                "nobody_pays_for_nothing",
                f"{_spelled(key)}: attempt {granted.attempt} had started, and is charged to nobody ({event.cause})",
            )

    def starts_in_order(self, run: Run, step: int) -> None:
        """5, I15: a step starts only if its trigger rule holds over committed states."""
        node = run.plan.steps[step]
        if any(run.plan.steps[number].map is not None for number in node.upstream):
            return  # the rules count items: looked at by check_invariants
        states = [_seen(run, number) for number in node.upstream]
        if states and not _holds(node.rule, states):
            names = ", ".join(state.name for state in states)
            _broken("starts_in_order", f"step {step} starts by {node.rule.name} over {names}")

    # --- the coordinator

    def takes_over(self, coordinator: Coordinator) -> None:
        self.epochs_increase(coordinator.epoch)

    def epochs_increase(self, epoch: int) -> None:
        """I9: every incarnation has a greater number."""
        if epoch <= self.epoch:
            _broken("epochs_increase", f"epoch {epoch} follows {self.epoch}")
        self.epoch = epoch

    def steps_down(self, coordinator: Coordinator) -> None:
        """4: only who is superseded is fenced."""
        assert self.store is not None
        if coordinator.epoch == self.store.epoch:
            _broken("one_writer", "the newest incarnation was fenced")

    def session_opens(self, coordinator: Coordinator, session: Session) -> None:
        self.sessions_increase(session.epoch)
        self.one_session_lives(coordinator, session)

    def sessions_increase(self, session: int) -> None:
        """I9: every session has a greater number than those that were opened before."""
        if session in (0, self.session):
            _broken("sessions_increase", f"session {session} was opened twice")
        self.session = max(self.session, session)

    def one_session_lives(self, coordinator: Coordinator, session: Session) -> None:
        """I10: at most one session of an agent lives on a coordinator."""
        same = [each for each in coordinator.fleet.sessions.values() if each.holder.agent == session.holder.agent]
        if len(same) > 1:
            _broken("one_session_lives", f"{session.holder.agent} has {len(same)} sessions")
        for holder in coordinator.fleet.leases.holders_of(session.holder.agent):
            if holder.connected and holder is not session.holder and holder.session in coordinator.fleet.sessions:
                _broken("one_session_lives", f"an older session of {holder.agent} is still heard")

    def coordinator_says(self, coordinator: Coordinator, session: Session, word: words.CoordinatorWord) -> None:
        if isinstance(word, words.Grants):
            for grant in word.grants:
                self.granted_after_commit(grant.key, grant.token, grant.attempt)
            self.within_credit(session)
        elif isinstance(word, words.Acks):
            for key, token, _, status in word.acks:
                self.acknowledged_after_commit(key, token, status)

    def granted_after_commit(self, key: LeaseKey, token: int, attempt: int) -> None:
        """2, I12: no lease is sent that is not in the journal."""
        granted = self.leases.get((key, token))
        if granted is None or granted.attempt != attempt:
            _broken("granted_after_commit", f"{_spelled(key)}: token {token} is sent, and the journal does not have it")

    def acknowledged_after_commit(self, key: LeaseKey, token: int, status: int) -> None:
        """2, I11: no result is acknowledged before its fate is in the journal."""
        granted = self.leases.get((key, token))
        if granted is not None and not granted.ended:
            _broken(
                "acknowledged_after_commit", f"{_spelled(key)}: token {token} is acknowledged ({status}) while it lives"
            )

    def within_credit(self, session: Session) -> None:
        """I7: never more grants than the agent has asked for."""
        if session.capacity.granted > session.capacity.grant_limit:
            _broken("within_credit", f"{session.capacity.granted} grants, {session.capacity.grant_limit} credits")

    def agent_is_paused(self, agent: str) -> None:
        """A person was told so."""
        self.paused_agents.add(agent)

    def agent_goes_on(self, agent: str) -> None:
        """A person asks for it."""
        self.paused_agents.discard(agent)

    def lease_sent(self, coordinator: Coordinator, session: Session, key: LeaseKey) -> None:
        if coordinator.is_current():
            self.paused_agents_get_nothing(session.holder.agent, key)

    def paused_agents_get_nothing(self, agent: str, key: LeaseKey) -> None:
        """Once a person was told that an agent is paused it gets no lease, over sessions and restarts."""
        if agent in self.paused_agents:
            _broken("paused_agents_get_nothing", f"{_spelled(key)} is sent to {agent}")

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
                _broken("who_holds_leases_goes_on", f"{hello.agent} is turned away with {_spelled(key)}")

    def closes_as_silent(self, session: Session) -> None:
        self.who_speaks_is_heard(session)

    def who_speaks_is_heard(self, session: Session) -> None:
        """I6: a stream is not taken for dead while the agent's words are read on it."""
        silent = self.timeline.now - session.read_at
        if silent < self.timing.heartbeat_interval:
            _broken("who_speaks_is_heard", f"{session.holder.agent} spoke {silent} us ago, and is taken for silent")

    def lease_expires(self, coordinator: Coordinator, lease: CoordinatorLease) -> None:
        self.no_lease_expires_early(lease)

    def no_lease_expires_early(self, lease: CoordinatorLease) -> None:
        """I6: when the coordinator gives a lease up, its agent has given it up before, by its own clock."""
        for agent in self.agents():
            held = agent.holder.book.find(lease.key, lease.token)
            if held is None or held.phase.name in ("FINISHED", "GRANTED"):
                continue
            left = held.deadline - agent.machine.clock.monotonic()
            if left > 0:
                _broken("no_lease_expires_early", f"{_spelled(lease.key)}: {agent.name} holds it for {left} us more")

    def agents(self) -> list[AgentProcess]:
        """Processes that live; the simulation says which."""
        return []

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
            _broken("replays", "the journal folds to another state than the actor's")

    def heartbeat_heard(self, before: int, after: int, lost: int) -> None:
        self.heartbeats_write_nothing(after - before, lost)

    def heartbeats_write_nothing(self, mailed: int, lost: int) -> None:
        """I17: a heartbeat makes no work for a run, unless it says that a lease is not held."""
        if mailed and not lost:
            _broken("heartbeats_write_nothing", f"a heartbeat made work for {mailed} runs")

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
                _broken("memory_is_bounded", f"{len(table)} leases are remembered, and {live} live")
        empty = [h for h in table.holders() if not h.leases and h.session not in coordinator.fleet.sessions]
        if empty:
            _broken("memory_is_bounded", f"{len(empty)} sessions are remembered that have ended")

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
                    _broken("stopped_attempts_end", f"{_spelled(key)} still runs on {execution.agent}")

    # --- agents

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
            _broken("runs_what_was_granted", f"{_spelled(execution.key)} runs under token {execution.token}")

    def attempts_run_once(self, execution: Execution, granted: Granted) -> None:
        """10, I8: the number of an attempt is that of one execution."""
        if (*execution.key, granted.generation, execution.attempt) in self.executed:
            _broken("attempts_run_once", f"{_spelled(execution.key)}: attempt {execution.attempt} runs a second time")

    def executions_do_not_overlap(self, execution: Execution) -> None:
        """I4: two executions of one step run never overlap, unless a process stood still, or the first was given up; on
        the same agent not even then."""
        for other in self.running.get(execution.key, ()):
            granted = self.leases[other.key, other.token]
            if other.agent == execution.agent or not (other.machine_paused or granted.given_up):
                _broken(
                    "executions_do_not_overlap",
                    f"{_spelled(execution.key)} begins on {execution.agent} while it runs on {other.agent}"
                    f" (token {other.token}, {granted.ended or 'alive'})",
                )

    def runs_on_free_slots(self, execution: Execution) -> None:
        """I7: an agent runs no more at once than it has slots."""
        for agent in self.agents():
            if agent.name == execution.agent and len(agent.executor.running) > agent.machine.spec.slots:
                _broken("runs_on_free_slots", f"{agent.name} runs {len(agent.executor.running)}")

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
            _broken(
                "results_are_kept", f"{_spelled(lease.key)}: {agent.name} forgets the result of token {lease.token}"
            )

    def agent_boots(self, agent: AgentProcess) -> None:
        self.spooled_results_survive(agent)

    def spooled_results_survive(self, agent: AgentProcess) -> None:
        """I5: what is in the spool is known to the next process, which sends it again."""
        for result in agent.machine.disk.durable.values():
            held = agent.holder.book.held.get(result.key)
            if held is None or held.token < result.token:
                _broken(
                    "spooled_results_survive", f"{agent.name} does not know of {_spelled(result.key)} after a restart"
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
                _broken("results_reach_the_disk", f"{agent.name} has kept {_spelled(lease.key)} in memory alone")

    def lease_given_up(self, agent: AgentProcess, lease: Lease) -> None:
        self.leases_are_renewed(agent, lease)

    def leases_are_renewed(self, agent: AgentProcess, lease: Lease) -> None:
        """I6: who is answered does not lose its leases."""
        since = self.timeline.now - agent.acknowledged_at
        steady = self.timeline.now - agent.thawed_at > 2 * self.timing.lease_ttl and not agent.machine.was_slow
        if steady and since < self.timing.heartbeat_interval:
            _broken("leases_are_renewed", f"{agent.name} gives {_spelled(lease.key)} up, and was just answered")

    def welcomed(self, agent: AgentProcess, epoch: int) -> None:
        self.newest_coordinator_is_believed(agent, epoch)

    def newest_coordinator_is_believed(self, agent: AgentProcess, epoch: int) -> None:
        """I9: an agent that has seen a coordinator belongs to no older one any more."""
        if epoch < agent.newest_epoch:
            _broken("newest_coordinator_is_believed", f"{agent.name} is welcome at {epoch} after {agent.newest_epoch}")

    def asks_for_work(self, agent: AgentProcess, grant_limit: int) -> None:
        self.credits_follow_slots(agent, grant_limit)

    def credits_follow_slots(self, agent: AgentProcess, grant_limit: int) -> None:
        """I7: an agent asks for no more than its slots take; more per slot only of steps that are short."""
        session, slots = agent.holder.session, agent.machine.spec.slots
        assert session is not None
        each = max(1.0, SHORT / max(agent.holder.pace.mean or SHORT, 1.0))
        asked = grant_limit - session.grants_seen + agent.holder.book.unfinished
        if asked > slots * each:
            _broken("credits_follow_slots", f"{agent.name} asks for {asked} with {slots} slots")

    def takes_no_work(self, agent: AgentProcess, key: LeaseKey) -> None:
        """I14: who drains, or whose disk is full, takes no new lease."""
        _broken("takes_no_work", f"{agent.name} took {_spelled(key)}, and it drains, or its disk is full")

    def agent_left(self, agent: AgentProcess) -> None:
        self.drained_agents_are_empty(agent)

    def drained_agents_are_empty(self, agent: AgentProcess) -> None:
        """I14: a drained agent ends without leases; without results too, if there was somebody to take them."""
        if agent.holder.book.unfinished or agent.executor.running:
            _broken("drained_agents_are_empty", f"{agent.name} has left, and something still runs")


def _spelled(key: LeaseKey) -> str:
    run_id, step, item = key
    return f"run {int.from_bytes(run_id, 'big')} step {step}" + (f"[{item}]" if item >= 0 else "")


# --- trigger rules, by their plain definition

_BAD = (S.FAILED, S.UPSTREAM_FAILED, S.CANCELLED)


def _seen(run: Run, number: int) -> S:
    """The state of an upstream as rules see it: an allowed failure is a success."""
    state = run.state_of(number)
    return S.COMPLETED if state is S.FAILED and run.plan.steps[number].allow_failure else state


def _holds(rule: TriggerRule, states: list[S]) -> bool:
    done = [state for state in states if state.at_rest]
    good = [state for state in done if state is S.COMPLETED]
    bad = [state for state in done if state in _BAD]
    skipped = [state for state in done if state is S.SKIPPED]
    everything = len(done) == len(states)
    match rule:
        case TriggerRule.ALL_SUCCESS:
            return everything and len(good) == len(states)
        case TriggerRule.ALL_FAILED:
            return everything and len(bad) == len(states)
        case TriggerRule.ALL_DONE:
            return everything
        case TriggerRule.ONE_SUCCESS:
            return bool(good)
        case TriggerRule.ONE_FAILED:
            return bool(bad)
        case TriggerRule.ONE_DONE:
            return bool(good or bad)
        case TriggerRule.NONE_FAILED:
            return everything and not bad
        case TriggerRule.NONE_FAILED_MIN_ONE_SUCCESS:
            return everything and not bad and bool(good)
        case TriggerRule.NONE_SKIPPED:
            return everything and not skipped
        case TriggerRule.ALL_SKIPPED:
            return everything and len(skipped) == len(states)
        case TriggerRule.ALWAYS:
            return True


_READERS: dict[type, Callable[[Invariants, Shadow, int, Any], None]] = {
    e.StepsLeased: Invariants.read_leased,
    e.ChildStarted: Invariants.read_child_started,
    e.StepCompleted: Invariants.read_completed,
    e.AttemptFailed: Invariants.read_failed_attempt,
    e.LeaseLost: Invariants.read_lost_lease,
    e.StepFailed: Invariants.read_step_over,
    e.StepCancelled: Invariants.read_step_over,
    e.StepsReadied: Invariants.read_readied,
    e.RunReopened: Invariants.read_reopened,
    e.RunEnded: Invariants.read_run_ended,
}

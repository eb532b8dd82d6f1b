"""What must hold of the journal, with every record that is stored."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from penstock.testing.trigger_rules import holds, seen_state
from penstock.testing.witness import Granted, Shadow, Story, Witness, broken, spelled
from penstock_coordinator.core.plan.limits import DEFAULT_RUN_LIMITS
from penstock_coordinator.core.run import events as e
from penstock_coordinator.core.run.evolve import evolve
from penstock_coordinator.core.run.state import Run
from penstock_coordinator.core.run.states import RunState

if TYPE_CHECKING:
    from collections.abc import Callable

    from penstock_agent.core.leases import LeaseKey
    from penstock_coordinator.ports import Record

MOST_DEATHS = 3


class JournalPromises(Witness):
    def appended(self, owner: str, epoch: int, record: Record, events: list[e.Event]) -> None:
        """A record is durable from now on."""
        self.one_writer(owner, epoch, record)
        self.same_request_same_run(record)
        shadow = self.shadows.get(record.run_id)
        if shadow is None:
            first = events[0]
            if not isinstance(first, e.RunStarted):
                broken("one_writer", f"a journal begins with {first}")
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

    def one_writer(self, owner: str, epoch: int, record: Record) -> None:
        """4, I9: of one owner alone are appends to a run accepted, and they follow each other without a gap: so tokens,
        which are numbers of events, increase."""
        assert self.store is not None
        if epoch != self.store.fences.get(owner):
            broken("one_writer", f"an append of epoch {epoch} was stored in epoch {self.store.fences.get(owner)}")
        if self.store.runs[record.run_id].owner != owner:
            broken("one_writer", f"an append of {owner} was stored to a run of {self.store.runs[record.run_id].owner}")
        shadow = self.shadows.get(record.run_id)
        expected = 1 if shadow is None else shadow.run.seq + 1
        if record.first_seq != expected:
            broken("one_writer", f"a record begins with {record.first_seq} where {expected} was due")

    def _read(self, shadow: Shadow, seq: int, event: e.Event) -> None:
        if shadow.ended and not isinstance(event, e.RunReopened):
            broken("rest_is_rest", f"{type(event).__name__} came after the end of the run")
        reader = _READERS.get(type(event))
        if reader is not None:
            reader(self, shadow, seq, event)

    def same_request_same_run(self, record: Record) -> None:
        """7: of all records with the same request one is stored."""
        if record.request is None:
            return
        key = (record.request.key.method, record.request.key.id)
        if self.requests.setdefault(key, record.run_id) != record.run_id:
            broken("same_request_same_run", f"{key} is the request of two runs")

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
            broken("completes_once", f"{spelled(key)} completes, and it was at rest")

    def newest_token_speaks(self, key: LeaseKey, story: Story, token: int) -> None:
        """1, I2: what is committed of a step run is said with its newest token."""
        if token != story.token:
            broken("newest_token_speaks", f"{spelled(key)}: token {token} was heard, and {story.token} is the newest")

    def rest_is_rest(self, key: LeaseKey, story: Story) -> None:
        """6: what is at rest stays at rest, until a new generation."""
        if story.at_rest:
            broken("rest_is_rest", f"{spelled(key)} was at rest")

    def another_attempt_has_a_cause(self, key: LeaseKey, story: Story) -> None:
        """10, I8: an attempt follows another one only if the journal says why that one is over."""
        former = self.leases.get((key, story.token))
        if former is not None and not former.ended:
            broken("another_attempt_has_a_cause", f"{spelled(key)}: nothing says why token {story.token} is over")

    def cancelled_runs_start_nothing(self, run: Run, step: int) -> None:
        """I13: once a run's cancel is committed no step starts but for cleanup."""
        if run.state is RunState.CANCELLING and run.doomed(step):
            broken("cancelled_runs_start_nothing", f"step {step} of a run that is being cancelled was leased")

    def spent_budgets_start_nothing(self, run: Run) -> None:
        """While nothing is left of a run's budget nothing of it is leased but what cleans up or undoes."""
        if run.over_budget or run.overspent:
            broken("spent_budgets_start_nothing", "a step run of a run without a budget left was leased")

    def paused_runs_start_nothing(self, run: Run) -> None:
        """While a run is paused nothing of it is leased."""
        if run.state is RunState.PAUSED:
            broken("paused_runs_start_nothing", "a step run of a paused run was leased")

    def budgets_hold(self, run: Run, key: LeaseKey, story: Story) -> None:
        """I20: no more failures than the step's retries allow, no more lost agents than its budget, and no more that
        died of it than three, each once."""
        retry = run.plan.steps[key[1]].retry
        most = retry.max_attempts
        if story.failures > most:
            broken("budgets_hold", f"{spelled(key)} failed {story.failures} times, and {most} attempts are allowed")
        if story.losses > (retry.max_losses or DEFAULT_RUN_LIMITS.losses):
            broken("budgets_hold", f"{spelled(key)} has lost {story.losses} agents")
        if len(story.deaths) > MOST_DEATHS or len(set(story.deaths)) < len(story.deaths):
            broken("budgets_hold", f"{spelled(key)} has taken the agents {story.deaths} with it")

    def nobody_pays_for_nothing(self, key: LeaseKey, event: e.LeaseLost) -> None:
        """I8: a lease that is charged to nobody was one under which no user code had started, so that the number of an
        attempt is never used for two executions."""
        granted = self.leases[key, event.token]
        if (*key, granted.generation, granted.attempt) in self.executed:
            broken(
                "nobody_pays_for_nothing",
                f"{spelled(key)}: attempt {granted.attempt} had started, and is charged to nobody ({event.cause})",
            )

    def starts_in_order(self, run: Run, step: int) -> None:
        """5, I15: a step starts only if its trigger rule holds over committed states."""
        node = run.plan.steps[step]
        if any(run.plan.steps[number].map is not None for number in node.upstream):
            return  # the rules count items: looked at by check_invariants
        states = [seen_state(run, number) for number in node.upstream]
        if states and not holds(node.rule, states):
            names = ", ".join(state.name for state in states)
            broken("starts_in_order", f"step {step} starts by {node.rule.name} over {names}")


_READERS: dict[type, Callable[[JournalPromises, Shadow, int, Any], None]] = {
    e.StepsLeased: JournalPromises.read_leased,
    e.ChildStarted: JournalPromises.read_child_started,
    e.StepCompleted: JournalPromises.read_completed,
    e.AttemptFailed: JournalPromises.read_failed_attempt,
    e.LeaseLost: JournalPromises.read_lost_lease,
    e.StepFailed: JournalPromises.read_step_over,
    e.StepCancelled: JournalPromises.read_step_over,
    e.StepsReadied: JournalPromises.read_readied,
    e.RunReopened: JournalPromises.read_reopened,
    e.RunEnded: JournalPromises.read_run_ended,
}

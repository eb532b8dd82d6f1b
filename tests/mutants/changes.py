"""The mutants: what each of them breaks, and where."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Mutant:
    name: str
    breaks: str
    """The promise that does not hold any more."""
    file: str
    """In the part."""
    before: str
    after: str
    part: str = "coordinator/penstock_coordinator/core"
    """The folder that the file is in; its package is copied."""
    hunter: str = "rules"
    """Who is to find it."""
    faults: tuple[str, ...] = ()
    """The kinds that a simulator hunts it with; all if there are none."""
    also: Mutant | None = None
    """What stands against it as a second line, and is broken too."""

    @property
    def package(self) -> str:
        """The folder of the package."""
        return "/".join(self.part.split("/")[:2])

    @property
    def changes(self) -> tuple[Mutant, ...]:
        return (self,) if self.also is None else (self, *self.also.changes)

    def apply(self, package: Path) -> None:
        """To a copy of the package."""
        path = package.joinpath(*self.part.split("/")[2:], self.file)
        text = path.read_text()
        path.write_text(self.changed(text))

    def changed(self, text: str) -> str:
        assert text.count(self.before) == 1, f"{self.name}: {self.file} has {text.count(self.before)} such places"
        return text.replace(self.before, self.after)


MUTANTS = (
    Mutant(
        "old tokens are heard",
        "once: only the newest token speaks",
        "run/state.py",
        "return active if active is not None and token and active.token == token else None",
        "return active if active is not None and token else None",
    ),
    Mutant(
        "a lost lease costs a retry",
        "losses are charged to the infrastructure, not to the step's retries",
        "run/evolve/attempts.py",
        "        active.losses += 1",
        "        active.failures += 1",
    ),
    Mutant(
        "one attempt too many",
        "max_attempts counts executions",
        "run/rules/attempts.py",
        "active.failures >= retry.max_attempts",
        "active.failures > retry.max_attempts",
    ),
    Mutant(
        "a skip does not pass on",
        "order: a skip passes on through all_success",
        "run/tallies.py",
        "TriggerRule.ALL_SUCCESS: lambda t: _UPSTREAM_FAILED if t.bad else _SKIPPED if t.skipped else _READY",
        "TriggerRule.ALL_SUCCESS: lambda t: _UPSTREAM_FAILED if t.bad else _READY",
    ),
    Mutant(
        "an allowed failure is a failure",
        "an allowed failure counts as success for the run",
        "run/evolve/steps.py",
        "if run.first_failure is None and not run.plan.steps[step].allow_failure:",
        "if run.first_failure is None:",
    ),
    Mutant(
        "paused runs lease",
        "nothing starts while a run is paused",
        "run/state.py",
        "if queue is None or line < 0 or self.sweeping or self.stands_still:",
        "if queue is None or line < 0 or self.sweeping:",
    ),
    Mutant(
        "queued clocks run on in a pause",
        "queued clocks stand still while a run is paused",
        "run/evolve/control.py",
        "due=timer.due + at - max(since, timer.since)",
        "due=timer.due",
    ),
    Mutant(
        "cancel spares what waits",
        "a cancelled run starts nothing but cleanup steps",
        "run/rules/control.py",
        'rb"[\\x01\\x02\\x04]"',
        'rb"[\\x01\\x02]"',
    ),
    Mutant(
        "cleanup steps do not outlive a cancel",
        "a polite cancel runs cleanup steps",
        "run/state.py",
        "return self.state == RunState.CANCELLING and (self.immediate or not self.plan.steps[step].cleanup)",
        "return self.state == RunState.CANCELLING",
    ),
    Mutant(
        "backoff without an end",
        "a wait ends",
        "run/evolve/attempts.py",
        "    if event.until is not None:",
        "    if event.until is None:",
    ),
    Mutant(
        "max_parallel is forgotten",
        "no more than max_parallel step runs hold a lease",
        "run/state.py",
        "return queue.count if not limit else min(queue.count, max(limit - self.running, 0))",
        "return queue.count",
    ),
    Mutant(
        "the run ends a step too early",
        "a run is at rest when all of its steps are",
        "run/decide.py",
        "elif run.open_steps or run.held is not None:",
        "elif run.open_steps > 1 or run.held is not None:",
    ),
    Mutant(
        "a stopped run forgets why",
        "the first verdict of a stop stands",
        "run/rules/endings.py",
        "elif run.verdict is not None:",
        "elif run.verdict is not None and run.first_failure is None:",
    ),
    Mutant(
        "recovery forgets to stop",
        "resume derives the stops of a cancel again",
        "run/resume.py",
        "        owed += stop_doomed(run)",
        "        owed += []",
    ),
    Mutant(
        "the overall clock starts anew",
        "the overall timeout counts from the first READY",
        "run/evolve/readying.py",
        "        due = at + step.timeouts.overall",
        "        due = at + 2 * step.timeouts.overall",
    ),
    Mutant(
        "items do not wait for theirs",
        "an item of a map over a map waits for the item that it goes along with",
        "run/evolve/following.py",
        "        _due(run, step.number, mapped, *found.span())",
        "        _due(run, step.number, mapped, 0, found.span()[1])",
    ),
    Mutant(
        "one child too many",
        "a step that is a run has max_attempts of them",
        "run/rules/children.py",
        "active.failures >= retry.max_attempts",
        "active.failures > retry.max_attempts",
    ),
    Mutant(
        "a stopped step gets another child",
        "a cancelled run starts nothing but cleanup steps",
        "run/rules/children.py",
        "        stopped(run, active, now, ledger)\n    elif",
        "        ledger.emit(StepReturned(now, step, item))\n    elif",
    ),
    Mutant(
        "a refused child is tried again",
        "a run that cannot be started fails its step for good",
        "run/rules/children.py",
        "ledger.emit(StepFailed(now, step, item, message.failure))",
        "ledger.emit(StepReturned(now, step, item))",
    ),
    Mutant(
        "children know no backoff",
        "the next run of a step waits for its backoff",
        "run/rules/children.py",
        "elif wait := backoff(retry, active.failures, message.jitter):",
        "elif wait := 0:",
    ),
    Mutant(
        "children share a name",
        "each attempt is a run of its own",
        "run/rules/children.py",
        "child_run_id(run.run_id, step, run.kept_number(step, item), attempt, now)",
        "child_run_id(run.run_id, step, run.kept_number(step, item), 1, 0)",
    ),
    Mutant(
        "any child is heard",
        "nothing is heard of a run that is not waited for",
        "run/state.py",
        "if self.children.get((step, item)) == run_id else None",
        "if (step, item) in self.children else None",
    ),
    Mutant(
        "recovery forgets who was given up",
        "a run that its parent does not wait for any more is cancelled, whatever is lost in between",
        "run/resume.py",
        "for run_id in run.given_up]",
        "for run_id in ()]",
    ),
    Mutant(
        "attempts are counted from one again",
        "the number of an attempt only grows",
        "run/rules/reopening.py",
        "attempts=tuple(_attempts(run, plan, reset)),",
        "attempts=(),",
    ),
    Mutant(
        "a retry does without cleanup",
        "cleanup steps run at the end of every generation",
        "run/rules/reopening.py",
        "    reset_cleanup(run.plan, reset)\n    return reset",
        "    return reset",
    ),
    Mutant(
        "a retry does all again",
        "a retry keeps what is COMPLETED",
        "run/resets.py",
        "AGAIN = frozenset({",
        "AGAIN = frozenset({StepState.COMPLETED, ",
    ),
    Mutant(
        "a rerun disturbs what runs",
        "nothing that is under way runs again",
        "run/rules/reopening.py",
        "    _check_quiet(run, reset)\n",
        "",
    ),
    Mutant(
        "a retry has all the time",
        "the timeout of a run holds in every generation",
        "run/rules/reopening.py",
        "return None if timeout is None or message.held is not None else message.now + timeout",
        "return None",
    ),
    Mutant(
        "poison is a failure of the step",
        "agents that die of a step are counted apart from its retries",
        "run/evolve/attempts.py",
        "        active.deaths = (*active.deaths, event.boot)",
        "        active.failures += 1",
    ),
    Mutant(
        "a process dies twice",
        "each process that died counts once",
        "run/rules/attempts.py",
        "    if message.boot in active.deaths:\n",
        "    if not message.boot:\n",
    ),
    Mutant(
        "agents are lost without end",
        "the budget of lost leases ends",
        "run/rules/attempts.py",
        "    elif active.losses >= (run.plan.steps[number].retry.max_losses or ledger.limits.losses):",
        "    elif active.losses < 0:",
    ),
    Mutant(
        "a requeue leaves the letter open",
        "what runs again is no dead letter any more",
        "../runtime/projection.py",
        "(*event.steps, *left), event.items)",
        "left, ())",
    ),
    Mutant(
        "a requeue forgets what was stopped",
        "what a failure stopped goes on with it",
        "run/rules/reopening.py",
        "        if stopped and not step.cleanup:\n",
        "        if False:\n",
    ),
    Mutant(
        "what was done first is undone first",
        "a rollback undoes the latest first",
        "run/evolve/resting.py",
        "run.rested[step.number] = run.seq + 1",
        "run.rested[step.number] = 2**40 - run.seq",
    ),
    Mutant(
        "what did not complete is undone",
        "only what is COMPLETED is undone",
        "run/compensating.py",
        "and run.states[undone] == _COMPLETED",
        "and run.states[undone] >= _COMPLETED",
    ),
    Mutant(
        "a rollback begins while the run goes on",
        "nothing else goes on while a run is rolled back",
        "run/decide.py",
        "elif run.open_steps or run.held is not None:",
        "elif (run.open_steps and not (run.plan.rolls_back and run.first_failure)) or run.held is not None:",
    ),
    Mutant(
        "what something rests on is undone all the same",
        "what cannot be undone keeps what it rests on from being undone",
        "run/evolve/passing.py",
        "            if not done:\n                undoing.blocked[other] = True\n",
        "",
    ),
)

"""Random plans, and random histories of them. Stimuli are chosen against the state of the run: who holds a lease, what
is due next, which tokens are old."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from random import Random

from tests.unit.run.driver import Driver, failed_step_runs
from tests.unit.run.plans import SECOND, Node, build, parameter, several, values, when
from tests.unit.run.runs_below import RunsBelow
from tests.unit.run.values_elsewhere import ValuesElsewhere

from penstock_coordinator.core.plan.budget import Amounts, CostBudget, OnExceeded
from penstock_coordinator.core.plan.conditions import Condition
from penstock_coordinator.core.plan.model import MapSource, Plan, Retry, StepMap, Timeouts, TriggerRule
from penstock_coordinator.core.run.commands import AcknowledgeResult, AckStatus
from penstock_coordinator.core.run.deadlines import next_deadline
from penstock_coordinator.core.run.events import WHOLE, AttemptFailed, CacheSource, Charge, Failure, Outcome
from penstock_coordinator.core.run.invariants import fingerprint
from penstock_coordinator.core.run.ledger import Ledger
from penstock_coordinator.core.run.messages import (
    AdmitRun,
    AttemptEnded,
    CacheAnswer,
    CancelRun,
    ChildRefused,
    ChildReported,
    ClockTick,
    Continue,
    DisplaceReady,
    DisplaceStep,
    InputsUnresolved,
    LeaseGone,
    PauseRun,
    RaiseBudget,
    RequeueSteps,
    RerunStep,
    ResumeRun,
    RetryRun,
    RollbackRun,
    SlotsOffered,
    StartRun,
    ValueAwaited,
    ValueFound,
    ValueMissing,
)
from penstock_coordinator.core.run.resume import resume
from penstock_coordinator.core.run.state import Run
from penstock_coordinator.core.run.states import RunState

_AT_REST = [state for state in RunState if state.at_rest]
PARAMETERS = b'{"three": [1, 2, 3], "none": [], "word": "x"}'


def random_nodes(random: Random) -> list[Node]:
    nodes: list[Node] = []
    for number in range(random.randint(1, 9)):
        nodes.append(_random_node(random, f"s{number}", nodes))
    return nodes + _random_undoing(random, nodes)


def _random_undoing(random: Random, nodes: list[Node]) -> list[Node]:
    """Steps that undo some of them; in half of the plans none."""
    share = random.choice([0, 0, 0.5, 0.9])
    undone = [node for node in nodes if not node.cleanup and not node.undoes and random.random() < share]
    return [_random_undo(random, node.name) for node in undone]


def _random_undo(random: Random, undone: str) -> Node:
    node = _random_node(random, f"u_{undone}", [])
    return replace(node, undoes=undone, rule=None, when=None, over=None, parallel=0, cleanup=False, cache=False)


def random_plan(random: Random, nodes: list[Node], digest: str = "0" * 64, onto: Plan | None = None) -> Plan:
    return build(
        nodes,
        timeout=random.choice([None, None, None, 40 * SECOND]),
        max_parallel=random.choice([0, 0, 1, 2]),
        fail_fast=random.random() < 0.2,
        rolls_back=any(node.undoes for node in nodes) and random.random() < 0.5,
        digest=digest,
        onto=onto,
        budget=random_budget(Random(f"{digest} {[(node.name, node.queue, *node.after) for node in nodes]}")),
    )


def random_budget(random: Random) -> CostBudget | None:
    """In a third of the plans. Attempts take the time of their lease."""
    action = OnExceeded.STOP if random.random() < 0.25 else OnExceeded.HOLD
    limits = Amounts(slot_time=random.choice([1, 2, 4]) * SECOND)
    return random.choice([CostBudget(limits, on_exceeded=action), None, None])


def changed_nodes(random: Random, nodes: list[Node]) -> list[Node]:
    """Another version: steps with other code, steps that are quite different, and steps that are gone or new."""
    found: list[Node] = []
    for node in nodes:
        chance = random.random()
        if chance < 0.1 or (node.undoes and not any(each.name == node.undoes and not each.cleanup for each in found)):
            continue
        if node.undoes:
            found.append(replace(node, code=node.code + "+") if chance < 0.4 else node)
            continue
        if chance < 0.25 or not _fits(node, found):
            found.append(_random_node(random, node.name, found))
        else:
            found.append(replace(node, code=node.code + "+" if chance < 0.45 else node.code))
    names = {node.name for node in nodes}
    for number in range(random.choice([0, 0, 1, 2])):
        name = random.choice([f"s{number}", f"n{number}"])
        if name not in names:
            found.append(_random_node(random, name, found))
    undone = {node.undoes for node in found} | {node.name for node in found if node.undoes}
    if random.random() < 0.2:
        more = _random_undoing(random, [node for node in found if node.name not in undone])
        found += [node for node in more if node.name not in {each.name for each in found}]
    return found or [Node("s0")]


def changed_undoing(random: Random, nodes: list[Node]) -> list[Node]:
    """Another version in which the same is done, and undone in another way."""
    found = [node for node in nodes if not node.undoes]
    for node in [node for node in nodes if node.undoes]:
        other = _random_undo(random, node.undoes)
        found += random.choice([[node], [other], [replace(other, name=f"v_{node.undoes}")], []])
    return found


def _fits(node: Node, before: list[Node]) -> bool:
    """Whether all that it names is there."""
    there = {each.name: each for each in before if node.cleanup or not each.cleanup}
    over = node.over if isinstance(node.over, str) else ""
    named = {*node.after, *(node.when.steps if node.when is not None else ()), *([_named(over)] if over else ())}
    return named <= there.keys() and not (over.startswith("nested:") and there[_named(over)].over is None)


def _random_node(random: Random, name: str, before: list[Node]) -> Node:
    cleanup = random.random() < 0.15
    before = [node for node in before if not node.undoes]
    possible = [node.name for node in before if cleanup or not node.cleanup]
    after = random.sample(possible, min(len(possible), random.choice([0, 1, 1, 2, 3])))
    over = _random_source(random, [node for node in before if node.name in possible]) if random.random() < 0.4 else None
    if isinstance(over, str) and random.random() < 0.7:
        # Named elsewhere too, it would be waited for as a whole.
        after = [each for each in after if each != _named(over)]
    child = random.random() < 0.2
    rules = [rule for rule in TriggerRule if rule is not TriggerRule.ALWAYS or not isinstance(over, str)]
    return Node(
        name,
        after,
        rule=random.choice([None, None, None, *rules]),
        parallel=random.choice([0, 0, 1, 2]),
        when=_random_condition(random, after, over is not None) if random.random() < 0.2 else None,
        over=over,
        retry=Retry(
            max_attempts=random.randint(1, 3),
            initial_backoff=random.choice([0, SECOND]),
            jitter=0.5,
            max_losses=random.choice([0, 1, 2, 3]),
        ),
        timeouts=Timeouts(
            queued=None if child else random.choice([None, None, 5 * SECOND]),
            overall=random.choice([None, None, None, 8 * SECOND]),
        ),
        queue=random.choice(["default", "default", "gpu"]),
        allow_failure=random.random() < 0.2,
        cleanup=cleanup,
        child="below" if child else "",
        cache=not child and not cleanup and random.random() < 0.25,
    )


def _random_condition(random: Random, after: list[str], mapped: bool) -> Condition:
    choices = ["params.word == 'x'", "params.word != 'x'"]
    if mapped:
        choices += ["item != 2", "item == 1 && params.word == 'x'", "item > 1"] * 2
    if after:
        choices += [f"steps.{after[0]}.state == 'COMPLETED'", f"steps.{after[0]}.output[0] == 1"] * 2
    return when(random.choice(choices))


def _random_source(random: Random, before: list[Node]) -> MapSource | StepMap | str:
    """A list that is there, several, or what other steps give."""
    if before and random.random() < 0.6:
        mapped = [node for node in before if node.over is not None]
        node = random.choice(mapped if mapped and random.random() < 0.8 else before)
        kinds = ["", "", "", "joined:", "nested:", "nested:"] if node.over is not None else [""]
        return random.choice(kinds) + node.name
    if random.random() < 0.2:
        parallel = random.choice([0, 1])
        return several({}, zipped=random.random() < 0.5, parallel=parallel, x=values(1, 2), y=parameter("three"))
    choices: list[MapSource] = [values(*range(random.randint(0, 5))), parameter("three")] * 4
    return random.choice([*choices, parameter("none"), parameter("word")])


def _named(over: str) -> str:
    return over.rpartition(":")[2]


def give_memory(nodes: list[Node], random: Random) -> None:
    """Some steps may not hold more than so much, and may ask for more."""
    for node in nodes:
        if not node.child:
            node.memory_bytes = random.choice([0, 0, 100])
            node.retry = replace(node.retry, memory_factor=random.choice([1.0, 1.5, 3.0]))


class Schedule:
    """One history: first chaos, then everything goes well and the run must end."""

    def __init__(self, random: Random) -> None:
        self.random = random
        self.nodes = random_nodes(random)
        give_memory(self.nodes, Random(len(self.nodes)))
        self.driver = Driver(random_plan(random, self.nodes), limit=random.choice([1, 3, 2_000]))
        self.versions = 1
        self.below = RunsBelow()
        self.elsewhere = ValuesElsewhere()
        self.answers: list[CacheAnswer] = []
        self.old: list[tuple[int, int, int]] = []
        """Leases that were granted at some time."""

    @property
    def run(self) -> Run:
        return self.driver.run

    def play(self) -> None:
        self.start()
        stimuli = [
            self.offer, self.offer, self.offer, self.complete, self.complete, self.complete, self.fail, self.lose,
            self.fail, self.lose, self.go_on, self.go_on, self.ring, self.pass_time, self.old_result, self.unresolved,
            self.displace, self.pause, self.unpause, self.rerun, self.reopen, self.restart, self.carry_out,
            self.child_ends, self.child_ends, self.child_refused, self.old_child, self.answer, self.answer, self.answer,
            self.old_answer,
        ]  # fmt: skip
        if self.random.random() < 0.3:
            stimuli.append(self.cancel)
        if self.run.plan.budget is not None:
            stimuli.append(self.raise_budget)
        self.live(stimuli)
        while self.random.random() < 0.4 and self.reopen():
            self.live(stimuli)
        self.old_result()
        self.old_child()
        self.cancel()

    def live(self, stimuli: Sequence[Callable[[], object]]) -> None:
        """One generation: first anything, then everything goes well."""
        for _ in range(self.random.randint(0, 90)):
            if self.run.at_rest:
                break
            self.random.choice(stimuli)()
        self.heal()
        assert self.run.at_rest
        assert not self.run.children
        self.carry_out()
        self.check_verdict()

    def reopen(self) -> bool:
        """A retry, or a rerun of anything. Whether there is a new generation."""
        before = self.run.generation
        held = ("k", 2) if self.random.random() < 0.2 and self.run.at_rest else None
        if self.random.random() < 0.4:
            ledger = self.renew(held)
        elif self.random.random() < 0.4:
            ledger = self.driver.send(RollbackRun(self.driver.now, "eve", "a mistake", held=held))
        else:
            ledger = self.driver.send(RetryRun(self.driver.now, "ann", held=held))
        assert bool(ledger.refusal) != (self.run.generation > before)
        if ledger.refusal and self.run.at_rest:
            self.rerun()
        if self.run.held is not None:
            assert not self.run.demanded_lines()
            self.driver.send(AdmitRun(self.driver.now))
        return self.run.generation > before

    def renew(self, held: tuple[str, int] | None) -> Ledger:
        """A retry or a rollback with another version; sometimes with one that the run was of before."""
        former, undo = self.nodes, self.random.random() < 0.4
        change = changed_undoing if self.random.random() < (0.8 if undo else 0.2) else changed_nodes
        nodes = change(self.random, former) if self.random.random() < 0.8 else former
        self.versions += 1
        plan = random_plan(self.random, nodes, f"{self.versions}", self.run.plan)
        ledger = self.driver.renew(plan, "ann", held=held, undo=undo)
        if not ledger.refusal:
            self.nodes = nodes
            assert fingerprint(self.driver.again()) == fingerprint(self.run)
        return ledger

    def rerun(self) -> None:
        """Of any step or item, also while the run is under way; or of some that failed."""
        failed = failed_step_runs(self.run)
        if failed and self.random.random() < 0.5:
            self.requeue(self.random.sample(failed, self.random.randint(1, len(failed))))
            return
        number = self.random.choice(list(self.run.plan.numbers.values()))
        items = self.run.items_of(number)
        item = self.random.randrange(len(items)) if items and self.random.random() < 0.6 else WHOLE
        before = self.run.generation
        state = self.run.state_of(number, item)
        ledger = self.driver.send(RerunStep(self.driver.now, number, item, "bob"))
        assert bool(ledger.refusal) != (self.run.generation > before)
        assert ledger.refusal or state.at_rest

    def requeue(self, targets: list[tuple[int, int]]) -> None:
        before = self.run.generation
        ledger = self.driver.send(RequeueSteps(self.driver.now, tuple(targets), "cat"))
        assert bool(ledger.refusal) != (self.run.generation > before)

    def start(self) -> None:
        """Most runs begin at once; some are held for a while, some are refused."""
        chance = self.random.random()
        if chance < 0.05:
            self.driver.send(StartRun(self.driver.now, PARAMETERS, refused="another has the key"))
            return
        held = ("k", 2) if chance < 0.3 else None
        self.driver.send(StartRun(self.driver.now, PARAMETERS, held=held))
        if held is not None:
            for _ in range(self.random.randint(0, 5)):
                self.random.choice([self.offer, self.pass_time, self.go_on, self.complete, self.pause, self.unpause])()
            assert self.run.state in (RunState.PENDING, RunState.PAUSED)
            assert not self.run.active
            assert not self.run.maps
            if self.random.random() < 0.2:
                self.cancel()
                self.driver.drain()
                assert self.run.at_rest
            self.driver.send(AdmitRun(self.driver.now))
        self.driver.send(AdmitRun(self.driver.now))

    def pause(self) -> None:
        """By a person, perhaps twice."""
        if self.random.random() < 0.7:
            return
        for _ in range(self.random.randint(1, 2)):
            before = self.run.state
            self.driver.send(PauseRun(self.driver.now, "ann", "dinner"))
            # What a former turn has left may stop the run in this one, end it, or begin to roll it back.
            assert before not in (RunState.CANCELLING, *_AT_REST) or self.run.state is not RunState.PAUSED
            assert RunState.PAUSED < before != RunState.ROLLING_BACK or self.run.state >= RunState.PAUSED
        assert self.run.state is not RunState.PAUSED or not self.run.demanded_lines()

    def unpause(self) -> None:
        for _ in range(self.random.randint(1, 2)):
            self.driver.send(ResumeRun(self.driver.now, "bob"))
        assert self.run.state is not RunState.PAUSED

    def raise_budget(self) -> None:
        """To less than it is nobody can."""
        spending = self.run.spending
        wanted = self.random.randint(1, 8) * SECOND
        ledger = self.driver.send(RaiseBudget(self.driver.now, wanted, requested_by="dan"))
        if not self.run.at_rest and spending is not None:
            assert bool(ledger.refusal) == (spending.limits.slot_time > wanted or self.run.undoing is not None)

    def displace(self) -> None:
        if self.random.random() < 0.8:
            return
        now = self.driver.now
        if (tokens := self.driver.tokens()) and self.random.random() < 0.5:
            step, item, _ = self.random.choice(tokens)
            for _ in range(self.random.randint(1, 2)):
                self.driver.send(DisplaceStep(now, step, item, "k", "r"))
        elif lines := self.run.demanded_lines():
            self.driver.send(DisplaceReady(now, self.random.choice(lines), "k", "r"))

    def heal(self) -> None:
        """Bounded: every round settles something."""
        for _ in range(2_000):
            if self.run.at_rest:
                return
            self.driver.drain()
            self.unpause()
            if self.run.over_budget and self.run.spending is not None:
                self.driver.send(RaiseBudget(self.driver.now, self.run.spending.used.slot_time + SECOND))
            self.offer(every=True)
            for step, item, token in self.driver.tokens():
                self._end(step, item, token, None)
            self.children_complete()
            while asking := self.asking():
                # One at a time: what the answer leads to may take the others' questions back.
                self._answer(*asking[0], self.random.choice([self._value_found, self._value_missing]))
            self.driver.drain()
            if not self.run.children and not self.run.demanded_lines() and not self.run.running:
                self.ring()
        raise AssertionError("the run does not end")

    def offer(self, every: bool = False) -> None:
        for line in self.run.demanded_lines():
            if every or self.random.random() < 0.7:
                count = 1_000 if every else self.random.randint(1, 3)
                demand = self.run.demand(line)
                ledger = self.driver.send(SlotsOffered(self.driver.now, line, 7, "agent", count))
                leased = [lease for _, event in ledger.events for lease in event.leases]  # type: ignore[union-attr]
                assert len(leased) == min(count, demand)
        self.old = list({*self.old, *self.driver.tokens()})

    def complete(self) -> None:
        if tokens := self.driver.tokens():
            self._end(*self.random.choice(tokens), None)

    def fail(self) -> None:
        if tokens := self.driver.tokens():
            self._end(*self.random.choice(tokens), self.random.choice(list(Outcome)))

    def lose(self) -> None:
        if tokens := self.driver.tokens():
            step, item, token = self.random.choice(tokens)
            charge = self.random.choice([Charge.INFRASTRUCTURE, *Charge])
            boot = self.random.choice("abcd")
            self.driver.send(LeaseGone(self.driver.now, step, item, token, "expired", charge, boot=boot))

    def unresolved(self) -> None:
        if (tokens := self.driver.tokens()) and self.random.random() < 0.3:
            step, item, token = self.random.choice(tokens)
            self.driver.send(InputsUnresolved(self.driver.now, step, item, token, Failure("Input", "too large")))

    def old_result(self) -> None:
        """A result or a loss by a token that does not speak any more changes nothing."""
        self.driver.drain()
        stale = [lease for lease in self.old if not self.run.speaks(*lease)]
        if not stale:
            return
        step, item, token = self.random.choice(stale)
        seq = self.run.seq
        given_up = any(
            isinstance(event, AttemptFailed)
            and event.failure.reason in ("OverallTimeout", "Cancelled")
            and (event.step, event.item, event.token) == (step, item, token)
            for event in self.driver.events
        )
        answer = self._end(step, item, token, self.random.choice([None, *Outcome]))
        assert not given_up or answer is AckStatus.STALE
        self.driver.send(LeaseGone(self.driver.now, step, item, token, "expired", Charge.INFRASTRUCTURE))
        assert self.run.seq == seq

    # --- the runs that steps are

    def restart(self) -> None:
        """What was decided last is in the journal, and nothing of it was done."""
        if self.run.at_rest or self.random.random() < 0.5:
            self.carry_out()
        else:
            self.driver.restart()
            # What nobody renews any more runs out.
            self.elsewhere.reserved.clear()
            self.carry_out()

    def carry_out(self) -> None:
        """And hear of those that ended before they were asked after."""
        self._carry_out()
        self.below.check(self.run)
        self.elsewhere.check(self.run)
        while self.below.unsaid:
            self._report(self.below.unsaid.pop())
            self._carry_out()

    def _carry_out(self) -> None:
        self.below.carry_out(self.driver.commands)
        self.elsewhere.carry_out(self.driver.commands)
        self.driver.commands.clear()

    # --- values that are there already

    def asking(self) -> list[tuple[int, int]]:
        return [key for key in self.run.lookups if self.run.awaits_value(*key)]

    def answer(self) -> None:
        if asking := self.asking():
            kinds = [self._value_found, self._value_missing, self._value_missing, self._value_awaited]
            self._answer(*self.random.choice(asking), self.random.choice(kinds))

    def _answer(self, step: int, item: int, kind: Callable[[int, int, int], CacheAnswer]) -> None:
        answer = kind(step, item, self.run.lookups[step, item].token)
        self.driver.send(answer)
        self.answers.append(answer)

    def _value_found(self, step: int, item: int, token: int) -> CacheAnswer:
        output = self.random.choice([b"[1, 2]", b"3", b"{"])
        return ValueFound(self.driver.now, step, item, token, output, CacheSource(b"r" * 16, "s", 1, 0, b"k"))

    def _value_missing(self, step: int, item: int, token: int) -> CacheAnswer:
        reserved = self.random.random() < 0.7
        key = b"k" if reserved or self.random.random() < 0.5 else b""
        return ValueMissing(self.driver.now, step, item, token, key, reserved)

    def _value_awaited(self, step: int, item: int, token: int) -> CacheAnswer:
        return ValueAwaited(self.driver.now, step, item, token, b"r" * 16, self.random.choice("st"))

    def old_answer(self) -> None:
        """What the cache says again, or too late, changes nothing; what it has reserved for nothing is given back."""
        self.driver.drain()
        old = [each for each in self.answers if self.run.asker(each.step, each.item, each.token) is None]
        if old:
            seq = self.run.seq
            self.driver.send(self.random.choice(old))
            assert self.run.seq == seq

    def child_ends(self) -> None:
        """Of any run below, waited for or not; whether that is heard is another matter."""
        self.carry_out()
        if not self.below.live:
            return
        run_id = self.random.choice(list(self.below.live))
        self.below.end(run_id, self.random.choice([RunState.COMPLETED, RunState.FAILED, RunState.CANCELLED]))
        for _ in range(self.random.choice([0, 1, 1, 2])):
            self._report(run_id)

    def child_refused(self) -> None:
        if self.run.children and self.random.random() < 0.3:
            self.carry_out()
        if self.run.children and self.random.random() < 0.3:
            (step, item), run_id = self.random.choice(list(self.run.children.items()))
            self.below.live.pop(run_id, None)
            self.below.over[run_id] = RunState.FAILED
            self.driver.send(ChildRefused(self.driver.now, step, item, run_id, Failure("SubPipeline", "no pipeline")))
            assert self.run.children.get((step, item)) != run_id

    def old_child(self) -> None:
        """What a run says that is not waited for, or not any more, changes nothing."""
        self.driver.drain()
        gone = [run_id for run_id in self.below.whose if run_id not in self.run.children.values()]
        if not gone:
            return
        run_id = self.random.choice(gone)
        seq = self.run.seq
        self._report(run_id)
        self.driver.send(ChildRefused(self.driver.now, *self.below.whose[run_id], run_id, Failure("SubPipeline")))
        assert self.run.seq == seq

    def children_complete(self) -> None:
        self.carry_out()
        for run_id in list(self.run.children.values()):
            if run_id in self.below.live:
                self.below.end(run_id, RunState.COMPLETED)
            self._report(run_id)

    def _report(self, run_id: bytes) -> None:
        step, item = self.below.whose[run_id]
        state, jitter = self.below.over.get(run_id, RunState.FAILED), self.random.random()
        output = self.random.choice([b"[1, 2]", b"3", b"", b"{"]) if state is RunState.COMPLETED else b""
        self.driver.send(ChildReported(self.driver.now, step, item, run_id, state, output, jitter=jitter))
        assert self.run.children.get((step, item)) != run_id

    def go_on(self) -> None:
        if self.driver.continues:
            self.driver.continues -= 1
            self.driver.send(Continue(self.driver.now))

    def ring(self) -> None:
        """To the next deadline."""
        due = next_deadline(self.run)
        if due is not None:
            self.driver.now = max(self.driver.now, due)
            self.driver.send(ClockTick(self.driver.now))

    def pass_time(self) -> None:
        self.driver.now += self.random.randint(0, 3 * SECOND)
        open_at = self.random.choice([0, self.driver.now + SECOND])
        for _ in range(100):
            self.driver.send(ClockTick(self.driver.now, open_at))
            due = next_deadline(self.run, open_at)
            if due is None or due > self.driver.now:
                self.driver.drain()
                if open_at <= self.driver.now:
                    self.driver.auditor.check_clocks(self.driver.now)
                return
        raise AssertionError("what was due is still due")

    def cancel(self) -> None:
        """By a person, perhaps twice."""
        rest = self.run.at_rest
        seq = self.run.seq
        immediate = self.random.random() < 0.4
        self.driver.send(CancelRun(self.driver.now, immediate, "enough"))
        assert rest or not immediate or self.run.at_rest or self.run.immediate
        assert (self.run.seq == seq) if rest else (self.run.verdict is RunState.CANCELLED)

    def check_verdict(self) -> None:
        if self.run.verdict is not None:
            assert self.run.state is self.run.verdict
        elif self.run.undoing is not None:
            self.check_rollback()
        elif self.run.first_failure is not None or self.run.earlier_failure is not None:
            assert self.run.state is RunState.FAILED
            assert self.run.reason.startswith("step ")
        elif self.run.left_cancelled:
            assert self.run.state is RunState.CANCELLED
        else:
            assert self.run.state is RunState.COMPLETED
            assert not self.run.reason
        assert resume(self.run) == []

    def check_rollback(self) -> None:
        assert self.run.undoing is not None
        if self.run.first_failure is None:
            assert self.run.state is RunState.ROLLED_BACK
            assert self.run.reason == self.run.undoing.reason
        else:
            assert self.run.state is RunState.FAILED
            assert self.run.reason.startswith("not all is undone: step ")

    def _end(self, step: int, item: int, token: int, outcome: Outcome | None) -> AckStatus:
        short = outcome is Outcome.FAILED and self.random.random() < 0.3
        failure = None if outcome is None else Failure("OutOfMemory" if short else "UserError", "boom", "app.Boom")
        most = self.random.choice([0, 120, 1_000]) if short else 0
        output = self.random.choice([b"[1, 2]", b"[3]", b"[1, 2, 3]", b"3", b""]) if outcome is None else b""
        jitter = self.random.random()
        message = AttemptEnded(
            self.driver.now, step, item, token, b"r", 7, outcome, output, failure, jitter=jitter, memory_most=most
        )
        ledger = self.driver.send(message)
        (answer,) = [command for command in ledger.commands if isinstance(command, AcknowledgeResult)]
        return answer.status

"""The reckoning of the chaos test finds what it is there for: each kind of wrong, made by hand."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from tests.chaos.checking import Check
from tests.chaos.faults import Fault
from tests.chaos.journal import RunStory, Telling
from tests.chaos.ledger import Execution, Key

from penstock_coordinator.core.run.events import (
    AttemptFailed,
    Charge,
    Event,
    Failure,
    LeaseLost,
    Outcome,
    StepCompleted,
    StepsLeased,
)
from penstock_coordinator.core.run.states import RunState

RUN = "r1"
SECOND = 1_000_000
BEGIN = 1_000 * SECOND
WHOLE = -1


class Tale:
    """A run of five steps that went well, each after the other; tests change one thing of it."""

    def __init__(self) -> None:
        self.story = RunStory(RUN, RunState.COMPLETED, at_rest=True)
        self.telling = Telling(self.story, [f"s{number}" for number in range(5)])
        self.executions: dict[Key, list[Execution]] = {}
        self.faults: list[Fault] = []
        self.accepted, self.stored = [RUN], [RUN]
        self._seq = 0
        self.now = BEGIN
        for step in range(5):
            token = self.leased(step)
            self.ran(step)
            self.completed(step, token)

    def hear(self, event: Event) -> int:
        self._seq += 1
        self.telling.hear(self._seq, event)
        return self._seq

    def leased(self, step: int, attempt: int = 1, agent: str = "a1") -> int:
        self.now += SECOND
        return self.hear(StepsLeased(self.now, 1, agent, ((step, WHOLE, attempt),)))

    def lost(self, step: int, token: int, cause: str = "lease_expired") -> None:
        self.now += SECOND
        self.hear(LeaseLost(self.now, step, WHOLE, token, cause, Charge.INFRASTRUCTURE))

    def failed(self, step: int, token: int, reason: str, error_class: str = "") -> None:
        self.hear(AttemptFailed(self.now, step, WHOLE, token, Outcome.FAILED, Failure(reason, "", error_class)))

    def completed(self, step: int, token: int) -> None:
        self.hear(StepCompleted(self.now, step, WHOLE, token))

    def ran(self, step: int, nonce: str = "", attempt: int = 1, agent: str = "a1", *, fails: bool = False) -> None:
        key = (RUN, f"s{step}", "None")
        nonce = nonce or f"n{step}"
        given = frozenset({f"n{step - 1}"} if step else ())
        self.executions.setdefault(key, []).append(
            Execution(attempt, agent, 7, nonce, self.now, given, self.now, failed=fails)
        )
        if not fails:
            self.story.outputs[key] = f'"{nonce}"'

    def fault(self, kind: str, target: str, name: str) -> None:
        at = self.now / SECOND
        self.faults.append(Fault(kind, target, name, 0.0, 1.0, began=at, ended=at + 1.0))

    def check(self) -> Check:
        check = Check(self.faults, self.executions)
        check.acknowledged(self.accepted, self.stored)
        check.run(self.story)
        return check


@pytest.fixture
def tale() -> Tale:
    return Tale()


def redo(tale: Tale, step: int) -> None:
    """As if the step had not been done."""
    key = (RUN, f"s{step}", "None")
    tale.story.grants.pop(key, None)
    tale.telling.forget(key)
    tale.executions.pop(key, None)
    tale.story.outputs.pop(key, None)


def test_a_run_that_went_well_has_no_problem(tale: Tale) -> None:
    verdict = tale.check().verdict
    assert verdict.problems == []
    assert (verdict.completed, verdict.steps, verdict.executions) == (1, 5, 5)
    assert not verdict.doubles


def lost_run(tale: Tale) -> None:
    tale.stored.clear()


def started_twice(tale: Tale) -> None:
    tale.stored.append("r2")


def acknowledged_twice(tale: Tale) -> None:
    tale.accepted.append(RUN)


def stuck(tale: Tale) -> None:
    tale.story.state, tale.story.at_rest = RunState.RUNNING, False


def failed_run(tale: Tale) -> None:
    tale.story.state, tale.story.reason = RunState.FAILED, "s4 UserError: no"


def missing_step(tale: Tale) -> None:
    redo(tale, 4)


def committed_twice(tale: Tale) -> None:
    tale.completed(4, tale.story.grants[RUN, "s4", "None"][-1].token)


def leased_after_its_end(tale: Tale) -> None:
    tale.leased(4, 2)


def leased_while_leased(tale: Tale) -> None:
    redo(tale, 4)
    tale.leased(4)
    token = tale.leased(4, 2, "a2")
    tale.ran(4, attempt=2, agent="a2")
    tale.completed(4, token)


def old_token(tale: Tale) -> None:
    redo(tale, 4)
    token = tale.leased(4)
    tale.ran(4)
    tale.fault("freeze", "agent", "a1")
    tale.lost(4, token)
    tale.leased(4, 2, "a2")
    tale.completed(4, token)


def output_of_an_old_token(tale: Tale) -> None:
    redo(tale, 4)
    token = tale.leased(4)
    tale.ran(4, "old")
    tale.fault("freeze", "agent", "a1")
    tale.lost(4, token)
    token = tale.leased(4, 2, "a2")
    tale.ran(4, "new", attempt=2, agent="a2")
    tale.completed(4, token)
    tale.story.outputs[RUN, "s4", "None"] = '"old"'


def output_of_nobody(tale: Tale) -> None:
    tale.story.outputs[RUN, "s4", "None"] = '"invented"'


def output_of_one_that_never_ended(tale: Tale) -> None:
    tale.executions[RUN, "s4", "None"][0].ended = 0


def given_what_was_never_committed(tale: Tale) -> None:
    tale.executions[RUN, "s4", "None"][0].given = frozenset({"stale"})


def ran_without_a_lease(tale: Tale) -> None:
    tale.ran(4, "extra", attempt=2, agent="a2")
    tale.story.outputs[RUN, "s4", "None"] = '"n4"'


def one_lease_ran_twice(tale: Tale) -> None:
    tale.ran(4, "again")
    tale.story.outputs[RUN, "s4", "None"] = '"n4"'


def ran_again_for_no_reason(tale: Tale) -> None:
    _ran_again(tale)


def ran_again_for_another_agents_fault(tale: Tale) -> None:
    tale.fault("freeze", "agent", "a2")
    _ran_again(tale)


def ran_again_long_after_the_fault(tale: Tale) -> None:
    tale.fault("freeze", "agent", "a1")
    tale.now += 60 * SECOND
    _ran_again(tale)


def restarted_without_a_kill(tale: Tale) -> None:
    tale.fault("freeze", "agent", "a1")
    _ran_again(tale, "agent_restarted")


def _ran_again(tale: Tale, cause: str = "lease_expired") -> None:
    redo(tale, 4)
    token = tale.leased(4)
    tale.ran(4, "first")
    tale.lost(4, token, cause)
    token = tale.leased(4, 2, "a2")
    tale.ran(4, "second", attempt=2, agent="a2")
    tale.completed(4, token)


def crashed_without_a_kill(tale: Tale) -> None:
    tale.fault("freeze", "agent", "a1")
    redo(tale, 4)
    token = tale.leased(4)
    tale.ran(4, "first")
    tale.failed(4, token, "Crash")
    token = tale.leased(4, 2)
    tale.ran(4, "second", attempt=2)
    tale.completed(4, token)


WRONGS = [
    *(lost_run, started_twice, acknowledged_twice, stuck, failed_run, missing_step, committed_twice),
    *(leased_after_its_end, leased_while_leased, old_token, output_of_an_old_token, output_of_nobody),
    *(output_of_one_that_never_ended, given_what_was_never_committed, ran_without_a_lease, one_lease_ran_twice),
    *(ran_again_for_no_reason, ran_again_for_another_agents_fault, ran_again_long_after_the_fault),
    *(restarted_without_a_kill, crashed_without_a_kill),
]


@pytest.mark.parametrize("wrong", WRONGS, ids=lambda wrong: wrong.__name__)
def test_what_is_wrong_is_found(tale: Tale, wrong: Callable[[Tale], None]) -> None:
    wrong(tale)
    assert tale.check().verdict.problems


@pytest.mark.parametrize(
    ("fault", "cause", "title"),
    [
        (("freeze", "agent", "a1"), "lease_expired", "freeze agent (lost: lease_expired)"),
        (("deaf", "link", "a1"), "lease_expired", "deaf link (lost: lease_expired)"),
        (("kill", "agent", "a1"), "agent_restarted", "kill agent (lost: agent_restarted)"),
        (("freeze", "coordinator", "coordinator"), "lease_expired", "freeze coordinator (lost: lease_expired)"),
    ],
)
def test_what_a_fault_explains_is_charged_to_it(
    tale: Tale, fault: tuple[str, str, str], cause: str, title: str
) -> None:
    tale.fault(*fault)
    _ran_again(tale, cause)
    verdict = tale.check().verdict
    assert verdict.problems == []
    assert dict(verdict.doubles) == {title: 1}


def test_failures_that_were_planned_are_counted_apart(tale: Tale) -> None:
    redo(tale, 4)
    token = tale.leased(4)
    tale.ran(4, "first", fails=True)
    tale.failed(4, token, "UserError", "chaos_flows.FailsNowAndThen")
    token = tale.leased(4, 2)
    tale.ran(4, "second", attempt=2)
    tale.completed(4, token)
    verdict = tale.check().verdict
    assert (verdict.problems, verdict.planned, dict(verdict.doubles)) == ([], 1, {})

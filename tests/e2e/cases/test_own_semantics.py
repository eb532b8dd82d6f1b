"""Behaviours that the public cases leave open, and every trigger rule over every mix of parents."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tests.e2e.cases.case_runs import play
from tests.e2e.cases.case_verdicts import differences
from tests.e2e.cases.case_words import event, given, step
from tests.e2e.cases.neutral_conditions import UnknownInCase
from tests.e2e.cases.neutral_pipelines import specification
from tests.e2e.cases.own_semantics import OWN_CASES

if TYPE_CHECKING:
    from penstock.client.sync import SyncClient


@pytest.mark.parametrize("name", OWN_CASES)
def test_a_behaviour(client: SyncClient, tmp_path: Path, name: str) -> None:
    told, expected = OWN_CASES[name]
    assert differences(play(client, told, tmp_path), expected) == []


RULES = (
    "all_success",
    "all_failed",
    "all_done",
    "one_success",
    "one_failed",
    "one_done",
    "none_failed",
    "none_failed_min_one_success",
    "none_skipped",
    "all_skipped",
    "always",
)
# Parents: S succeeded, F failed, K skipped, U not run because of its upstream, A failed and allowed to.
# Outcomes in the order of the rules: r it runs, s it is skipped, u it is not run because of its upstream.
MIXES = {
    "S": "rsrrsrrrrsr",
    "SS": "rsrrsrrrrsr",
    "SF": "usrrrruursr",
    "F": "urrurruursr",
    "FF": "urrurruursr",
    "SK": "ssrrsrrrssr",
    "K": "ssrsssrssrr",
    "KK": "ssrsssrssrr",
    "FK": "usrurruussr",
    "SU": "usrrrruursr",
    "U": "urrursuursr",
    "UU": "urrursuursr",
    "UK": "usrursuussr",
    "FU": "urrurruursr",
    "A": "rsrrsrrrrsr",
    "AF": "usrrrruursr",
    "AK": "ssrrsrrrssr",
    "SFKU": "usrrrruussr",
}
OUTCOMES = {"r": "SUCCEEDED", "s": "SKIPPED", "u": "NOT_RUN_UPSTREAM"}


def test_every_rule_over_every_mix_of_parents(client: SyncClient, tmp_path: Path) -> None:
    parents: list[dict[str, Any]] = [step("gone", do="fail")]
    for number in range(2):
        parents += [
            step(f"S{number}"),
            step(f"F{number}", do="fail"),
            step(f"K{number}", run_if=False),
            step(f"U{number}", "gone"),
            step(f"A{number}", do="fail", allow_failure=True),
        ]
    children, states = [], {}
    for mix, outcomes in MIXES.items():
        names = [f"{kind}{mix[:at].count(kind)}" for at, kind in enumerate(mix)]
        for rule, outcome in zip(RULES, outcomes, strict=True):
            child = step(f"{mix}-{rule}", *names, join=rule)
            children.append(child)
            states[child["id"]] = OUTCOMES[outcome]
    played = play(client, given(*parents, *children), tmp_path)
    executions = {name: int(state == "SUCCEEDED") for name, state in states.items()}
    assert differences(played, {"run": "FAILED", "steps": states, "executions": executions}) == []


@pytest.mark.parametrize(
    "strange",
    [
        step("a", do={"teleport": 1}, teleport=2),
        step("a", join="most_success"),
        step("a", run_if={"xor": [True, False]}),
        step("a", retry={"max_attempts": 2, "until": "noon"}),
        step("a", scatter={"over": {"param": "p"}, "method": "product"}),
    ],
    ids=["field", "join", "condition", "retry", "scatter"],
)
def test_what_nobody_understands_is_not_left_out(strange: dict[str, Any]) -> None:
    with pytest.raises(UnknownInCase):
        specification("p", given(strange), "ledger", "0" * 64)


def test_a_script_that_nobody_understands_fails(client: SyncClient, tmp_path: Path) -> None:
    played = play(client, given(step("a", do={"teleport": 1}, allow_failure=False)), tmp_path)
    assert differences(played, {"run": "SUCCEEDED"}) != []
    assert "nobody taught" in played.run.reason


WRONG = {
    "run": "FAILED",
    "steps": {"a": "FAILED"},
    "executions": {"a": 2},
    "outputs": {"a": True},
    "order": [["b", "a"]],
    "overlap": [["a", "b"]],
    "max_total_s": 0.001,
    "min_total_s": 60,
    "same_run_id": False,
    "second_submission": "ALREADY_EXISTS",
    "reasons": {"a": "Timeout"},
    "most_at_once": 0,
}


def test_every_kind_of_expectation_can_fail(client: SyncClient, tmp_path: Path) -> None:
    """A verdict that says yes to everything would be worth nothing."""
    told = given(step("a", do={"output": 1}), step("b", "a"), events=[event("at once", "submit_again_same")])
    played = play(client, told, tmp_path / "played")
    assert [what for what, wanted in WRONG.items() if not differences(played, {what: wanted})] == []
    with pytest.raises(UnknownInCase):
        differences(played, {"weather": "fair"})

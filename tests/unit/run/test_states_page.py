"""docs/states.md is what the code says, and says what it has to."""

from __future__ import annotations

from scripts.describe_states import PAGE, REMEDY, documented, observations, page

from penstock_coordinator.core.run.states import StepState


def test_the_page_is_up_to_date() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), REMEDY


def test_the_page_names_all_that_was_seen() -> None:
    assert documented(page()) == observations().transitions


def test_only_a_new_generation_and_a_rollback_lead_out_of_rest() -> None:
    at_rest = {state.name for state in StepState if state.at_rest}
    assert {each.event for each in observations().transitions if each.before in at_rest} == {
        "RunReopened",
        "RunRollingBack",
        "StepsRolledBack",
        "ItemsRolledBack",
    }

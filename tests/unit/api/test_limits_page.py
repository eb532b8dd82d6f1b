"""Every setting that is a limit is on the page, and has a test at the limit and one past it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from penstock_coordinator.core.plan.limits import LOWERABLE, RAISABLE, setting_of
from penstock_coordinator.settings import Settings, shown_settings, variable

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "limits.md").read_text()
LIMITS = sorted(name for name in Settings.model_fields if name.startswith("max_"))

PIPELINES = "tests/unit/plan/test_plan_limits.py"
WIRE = "tests/integration/api/test_limits_over_the_wire.py"
RUNS = "tests/integration/api/test_limits_of_runs.py"
BUNDLES = "tests/integration/api/test_bundles_over_the_wire.py"
COMMANDS = "tests/integration/agent/test_agent_commands.py"
OVERLOAD = "tests/integration/api/test_overload_over_the_wire.py"
LETTERS = "tests/integration/runtime/test_dead_letters.py"
STRAIN = "tests/integration/runtime/test_strain.py"
TESTS = {
    **{setting_of(limit): (PIPELINES, "test_at_a_limit_and_past_it") for limit in (*RAISABLE, *LOWERABLE)},
    "max_spec_size": (WIRE, "test_a_specification"),
    "max_constants_size": (PIPELINES, "test_the_bytes_of_all_constants"),
    "max_parameters_size": (WIRE, "test_the_parameters_of_a_run"),
    "max_nesting": (RUNS, "test_the_nesting_of_a_parameter"),
    "max_message_size": (WIRE, "test_the_bytes_of_a_message"),
    "max_name_length": (RUNS, "test_the_length_of_names"),
    "max_map_levels": (RUNS, "test_the_levels_of_maps"),
    "max_losses": (LETTERS, "test_agents_that_fall_silent_use_up_what_the_setting_allows"),
    "max_live_runs": (WIRE, "test_live_runs_are_started_all_or_none"),
    "max_backlog": (OVERLOAD, "test_runs_that_wait_to_begin_are_bounded"),
    "max_loop_lag": (STRAIN, "test_a_loop_that_is_late_again_and_again"),
    "max_commit_lag": (STRAIN, "test_a_commit_that_takes_long"),
    "max_memory": (STRAIN, "test_memory_near_its_bound"),
    "max_watchers": (WIRE, "test_watchers_of_a_run_and_in_all"),
    "max_watchers_of_run": (WIRE, "test_watchers_of_a_run_and_in_all"),
    "max_output_size": (RUNS, "test_the_output_of_a_step"),
    "max_run_output_size": (RUNS, "test_the_output_of_a_run"),
    "max_inputs_size": (RUNS, "test_the_inputs_of_an_attempt"),
    "max_items_of_step": (RUNS, "test_the_items_of_a_map_over_an_output"),
    "max_sub_pipeline_depth": (RUNS, "test_the_depth_of_sub_pipelines"),
    "max_attempt_log_size": (RUNS, "test_the_stored_bytes_of_an_attempts_log"),
    "max_artifact_size": ("tests/integration/api/test_artifacts_over_the_wire.py", "test_the_size_of_an_artifact"),
    "max_bundle_size": (BUNDLES, "test_a_bundle_at_its_limits_and_one_past_them"),
    "max_bundle_unpacked_size": (BUNDLES, "test_a_bundle_at_its_limits_and_one_past_them"),
    "max_bundle_files": (BUNDLES, "test_a_bundle_at_its_limits_and_one_past_them"),
}
OF_AGENTS = {
    "PENSTOCK_AGENT_LOG_LINES": (COMMANDS, "test_the_log_lines_of_an_attempt_have_a_limit"),
    "PENSTOCK_AGENT_LOG_BYTES": (COMMANDS, "test_the_log_bytes_of_an_attempt_have_a_limit"),
}


def test_every_limit_has_a_test() -> None:
    assert sorted(TESTS) == LIMITS


@pytest.mark.parametrize("name", LIMITS)
def test_the_page_names_it_with_its_default(name: str) -> None:
    rows = [line for line in PAGE.splitlines() if line.startswith("|") and f"`{variable(name)}`" in line]
    settings = Settings.model_validate({"database_url": "postgresql://u@127.0.0.1/d"})
    value = next(each.value for each in shown_settings(settings) if each.name == name)
    assert re.sub(r"(?<=\d)(?=[KMG]iB)", " ", f"{int(value):,}" if value.isdigit() else value) in rows[0]


@pytest.mark.parametrize("where", sorted({*TESTS.values(), *OF_AGENTS.values()}), ids=lambda where: where[1])
def test_its_test_is_there(where: tuple[str, str]) -> None:
    file, test = where
    assert re.search(rf"^(async )?def {test}", (ROOT / file).read_text(), re.MULTILINE)


@pytest.mark.parametrize("name", OF_AGENTS)
def test_the_page_names_those_of_agents(name: str) -> None:
    assert f"`{name}`" in PAGE

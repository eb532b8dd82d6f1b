"""Refusals name the command as well as the method, and the step as well as its number."""

from __future__ import annotations

import pytest

from penstock.v1 import pipeline_pb2
from penstock.v1 import run_service_pb2 as pb
from penstock_coordinator.api.errors import CallError, unknown_version
from penstock_coordinator.api.fields import run_id_of
from penstock_coordinator.api.pipeline_service import _problems
from penstock_coordinator.api.run_keys import key_taken
from penstock_coordinator.api.versions import unknown_pipeline
from penstock_coordinator.core.plan.limits import Limits
from penstock_coordinator.core.run.states import RunState
from penstock_coordinator.ports import KeyTaken


def test_what_is_not_there_names_the_command_that_lists() -> None:
    assert "`penstock list pipelines` (List)" in unknown_pipeline("nope", "pipeline").message
    assert "`penstock list versions --pipeline etl` (ListVersions)" in unknown_version("etl", 9).message
    with pytest.raises(CallError, match=r"'etl' is no run id: `penstock list`"):
        run_id_of("etl")


@pytest.mark.parametrize(
    ("state", "reuse", "words"),
    [
        (RunState.RUNNING, pb.RUN_KEY_REUSE_ALLOW, "`--use-existing` (RUN_KEY_CONFLICT_USE_EXISTING)"),
        (RunState.FAILED, pb.RUN_KEY_REUSE_REJECT, "`--run-key-reuse after_failure` (RUN_KEY_REUSE_AFTER_FAILURE)"),
        (RunState.COMPLETED, pb.RUN_KEY_REUSE_REJECT, "`--run-key-reuse allow` (RUN_KEY_REUSE_ALLOW)"),
    ],
)
def test_a_taken_run_key_names_options_and_values(state: RunState, reuse: pb.RunKeyReuse.ValueType, words: str) -> None:
    request = pb.StartRunRequest(pipeline="p", run_key="k", run_key_reuse=reuse)
    assert words in key_taken(request, KeyTaken(bytes(16), int(state))).message


def test_problems_name_the_step_that_the_path_counts_to() -> None:
    spec = pipeline_pb2.PipelineSpec(name="p")
    for name, when in (("a", ""), ("b", ""), ("c", "steps.a.output > 1")):
        spec.steps.add(name=name, when=when).command.argv.append("true")
    (problem,) = _problems(spec, Limits())
    assert problem.field == "steps[2].when"
    assert problem.description.startswith("in the step 'c': the step 'a' is no direct upstream")

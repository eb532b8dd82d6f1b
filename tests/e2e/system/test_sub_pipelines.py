"""Pipelines in pipelines: parameters go down, outputs come up, and so do stops, pauses and deaths."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from tests.e2e.system.conftest import DevSystem, until

if TYPE_CHECKING:
    from pathlib import Path

LEAF = """
name: {name}
parameters: {{n: {{type: int, default: 1}}}}
steps:
  work:
    command:
      shell: '{command}'
      outputs: {{doubled: {{stdout: true, format: json}}}}
    inputs: {{n: '${{params.n}}'}}
output: ${{steps.work.output.doubled}}
"""
PARENT = """
name: {name}
parameters: {{n: {{type: int, default: 20}}}}
steps:
  child: {{pipeline: {child}, inputs: {{n: '${{params.n}}'}}{options}}}
outputs: {{result: '${{steps.child.output}}'}}
"""
DOUBLE = "echo $((PENSTOCK_INPUT_N * 2))"


def apply(system: DevSystem, folder: Path, text: str, name: str, **words: str) -> str:
    path = folder / f"{name}.yaml"
    path.write_text(text.format(name=name, **words))
    said = system.penstock("apply", str(path))
    assert said.returncode == 0, said.stderr
    return name


def run(system: DevSystem, pipeline: str, **parameters: Any) -> str:
    with system.client() as client:
        return client.start(pipeline, parameters).id


def shown(system: DevSystem, run_id: str) -> dict[str, Any]:
    """Nothing while the coordinator is away."""
    said = system.penstock("get", run_id, "--json")
    return {} if said.returncode else dict(json.loads(said.stdout))


def state(system: DevSystem, run_id: str) -> str:
    return str(shown(system, run_id).get("run", {}).get("state", "")).removeprefix("RUN_STATE_")


def step(system: DevSystem, run_id: str, name: str = "child") -> dict[str, Any]:
    return next((each for each in shown(system, run_id).get("stepRuns", []) if each["step"] == name), {})


def is_at_rest(system: DevSystem, run_id: str) -> bool:
    return state(system, run_id) in ("COMPLETED", "FAILED", "CANCELLED")


def children(system: DevSystem, run_id: str) -> list[str]:
    with system.client() as client:
        return [each.id for each in client.list_runs(parent_run_id=run_id)]


def waiting(system: DevSystem, folder: Path, name: str) -> tuple[str, str, Path]:
    """A run that waits for its child, the child, and the file that lets the child's step end."""
    gate, begun = folder / f"{name}-gate", folder / f"{name}-begun"
    command = f"touch {begun}; until [ -e {gate} ]; do sleep 0.05; done; {DOUBLE}"
    apply(system, folder, LEAF, f"{name}-leaf", command=command)
    apply(system, folder, PARENT, name, child=f"{name}-leaf", options="")
    run_id = run(system, name)
    until(begun.exists, 100.0)
    child = step(system, run_id)["childRunId"]
    return run_id, child, gate


def test_parameters_go_down_and_outputs_come_up(system: DevSystem, tmp_path: Path) -> None:
    leaf = apply(system, tmp_path, LEAF, "sub-leaf", command=DOUBLE)
    middle = apply(system, tmp_path, PARENT, "sub-middle", child=leaf, options="")
    top = apply(system, tmp_path, PARENT, "sub-top", child=middle, options="")
    run_id = run(system, top)
    until(lambda: is_at_rest(system, run_id), 100.0)
    found = shown(system, run_id)
    assert found["run"]["state"] == "RUN_STATE_COMPLETED"
    assert json.loads(found["run"]["outputJson"]) == {"result": {"result": 40}}
    below = shown(system, step(system, run_id)["childRunId"])
    assert below["run"]["parent"] == {"runId": run_id, "step": "child", "item": []}
    assert below["run"]["depth"] == 1
    deepest = shown(system, step(system, below["run"]["id"])["childRunId"])
    assert (deepest["run"]["depth"], deepest["run"]["outputJson"]) == (2, "40")


def test_a_pipeline_that_is_not_there_is_refused(system: DevSystem, tmp_path: Path) -> None:
    path = tmp_path / "lost.yaml"
    path.write_text(PARENT.format(name="sub-lost", child="nowhere-to-be-found", options=""))
    said = system.penstock("apply", str(path))
    assert said.returncode != 0
    assert "there is no pipeline 'nowhere-to-be-found': apply it first" in said.stderr


def test_a_failing_run_is_tried_again(system: DevSystem, tmp_path: Path) -> None:
    ledger = tmp_path / "ledger"
    command = f"echo x >> {ledger}; [ $(wc -l < {ledger}) -ge 3 ] && {DOUBLE}"
    leaf = apply(system, tmp_path, LEAF, "sub-flaky", command=command)
    options = ", retry: {max_attempts: 3, initial_backoff: 10ms}"
    run_id = run(system, apply(system, tmp_path, PARENT, "sub-retry", child=leaf, options=options))
    until(lambda: is_at_rest(system, run_id), 100.0)
    assert state(system, run_id) == "COMPLETED"
    assert step(system, run_id)["attemptCount"] == 3
    assert len(children(system, run_id)) == 3


def test_a_failure_that_is_allowed(system: DevSystem, tmp_path: Path) -> None:
    leaf = apply(system, tmp_path, LEAF, "sub-broken", command="exit 3")
    options = ", allow_failure: true"
    run_id = run(system, apply(system, tmp_path, PARENT, "sub-allowed", child=leaf, options=options))
    until(lambda: is_at_rest(system, run_id), 100.0)
    found = shown(system, run_id)["run"]
    assert (found["state"], json.loads(found["outputJson"])) == ("RUN_STATE_COMPLETED", {"result": None})
    failure = step(system, run_id)["failure"]
    assert failure["reason"] == "SubPipeline"
    assert "is FAILED" in failure["message"]


def test_a_mapped_sub_pipeline(system: DevSystem, tmp_path: Path) -> None:
    leaf = apply(system, tmp_path, LEAF, "sub-item", command=DOUBLE)
    path = tmp_path / "mapped.yaml"
    path.write_text(
        f"name: sub-mapped\nsteps:\n  child:\n    pipeline: {{name: {leaf}, version_number: 1}}\n"
        "    inputs: {n: '${item}'}\n"
        f"    map: {{values: {list(range(50))}, max_parallel: 5}}\noutput: ${{steps.child.output}}\n"
    )
    assert system.penstock("apply", str(path)).returncode == 0
    run_id = run(system, "sub-mapped")
    until(lambda: is_at_rest(system, run_id), 100.0)
    found = shown(system, run_id)["run"]
    assert json.loads(found["outputJson"]) == [2 * n for n in range(50)]


def test_recursion_ends_by_a_condition_or_by_its_depth(system: DevSystem, tmp_path: Path) -> None:
    path = tmp_path / "again.yaml"
    path.write_text(
        """
name: sub-again
parameters: {n: {type: int}, least: {type: int}}
steps:
  less:
    command:
      shell: 'echo $((PENSTOCK_INPUT_N - 1))'
      outputs: {n: {stdout: true, format: json}}
    inputs: {n: '${params.n}'}
  child:
    pipeline: {name: sub-again}
    when: params.n > params.least
    depends_on: [less]
    inputs: {n: '${steps.less.output.n}', least: '${params.least}'}
"""
    )
    assert system.penstock("apply", str(path)).returncode == 0

    def descend(depth: int) -> str:
        run_id = run(system, "sub-again", n=depth, least=0)
        until(lambda: is_at_rest(system, run_id), 100.0)
        return run_id

    assert state(system, descend(16)) == "COMPLETED"
    failed = shown(system, descend(17))["run"]
    assert failed["state"] == "RUN_STATE_FAILED"
    assert "SubPipeline" in failed["reason"]


def test_a_stop_goes_down(system: DevSystem, tmp_path: Path) -> None:
    for name, options in (("sub-polite", ()), ("sub-now", ("--now",))):
        run_id, child, _ = waiting(system, tmp_path, name)
        assert system.penstock("cancel", run_id, *options).returncode == 0
        until(lambda run_id=run_id: is_at_rest(system, run_id), 100.0)  # type: ignore[misc]  # the default binds it
        assert (state(system, run_id), state(system, child)) == ("CANCELLED", "CANCELLED")


def test_a_pause_goes_down(system: DevSystem, tmp_path: Path) -> None:
    run_id, child, gate = waiting(system, tmp_path, "sub-paused")
    assert system.penstock("pause", run_id).returncode == 0
    until(lambda: state(system, child) == "PAUSED", 100.0)
    assert system.penstock("resume", run_id).returncode == 0
    until(lambda: state(system, child) == "RUNNING", 100.0)
    said = system.penstock("explain", run_id, "child").stdout
    assert f'It waits for the run {child} of "sub-paused-leaf", which is RUNNING (attempt 1).' in said
    gate.touch()
    until(lambda: is_at_rest(system, run_id), 100.0)
    assert state(system, run_id) == "COMPLETED"


def test_a_child_is_cancelled_by_itself(system: DevSystem, tmp_path: Path) -> None:
    run_id, child, _ = waiting(system, tmp_path, "sub-alone")
    assert system.penstock("cancel", child).returncode == 0
    until(lambda: is_at_rest(system, run_id), 100.0)
    assert state(system, run_id) == "FAILED"
    assert "is CANCELLED" in step(system, run_id)["failure"]["message"]


def test_the_coordinator_dies_while_a_child_is_under_way(mortal_system: DevSystem, tmp_path: Path) -> None:
    run_id, child, gate = waiting(mortal_system, tmp_path, "sub-survives")
    mortal_system.kill("coordinator")
    gate.touch()
    until(lambda: is_at_rest(mortal_system, run_id), 100.0)
    assert (state(mortal_system, run_id), state(mortal_system, child)) == ("COMPLETED", "COMPLETED")
    assert children(mortal_system, run_id) == [child]

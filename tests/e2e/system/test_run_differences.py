"""What is different between two runs."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from tests.e2e.system.conftest import DevSystem

FILE = """
name: compared
parameters: {n: int}
steps:
  same: {command: "true"}
  echo:
    command: {shell: 'echo "$PENSTOCK_INPUT_N"', outputs: {n: {stdout: true, format: json}}}
    inputs: {n: "${params.n}"}
  each:
    command: {shell: 'echo "$PENSTOCK_INPUT_X"', outputs: {x: {stdout: true}}}
    map: [1, 2]
    inputs: {x: "${params.n}"}
  maybe: {command: "false", when: params.n == 2, allow_failure: true}
"""


def run(system: DevSystem, path: Path, n: int) -> str:
    done = system.penstock("run", str(path), "-p", f"n={n}", "--json")
    return str(json.loads(done.stdout.splitlines()[-1])["id"])


def test_the_difference_of_two_runs_is_told_by_field(system: DevSystem, tmp_path: Path) -> None:
    path = tmp_path / "compared.yaml"
    path.write_text(FILE)
    first, second = run(system, path, 1), run(system, path, 2)
    said = system.penstock("diff", first, second)
    assert said.returncode == 0, said.stderr
    assert "parameters.n: 1 -> 2" in said.stdout
    assert 'output: {"n":1} -> {"n":2}' in said.stdout.replace('": ', '":')
    assert "output[0]: " in said.stdout
    assert 'state: "SKIPPED" -> "FAILED"' in said.stdout

    found = json.loads(system.penstock("diff", first, second, "--json").stdout)
    steps = {each["step"]: {change["path"] for change in each["changes"]} for each in found["steps"]}
    assert {"echo", "each", "maybe"} <= set(steps)
    assert steps["maybe"] >= {"state", "attempts", "failure.reason"}
    assert {change["path"] for change in found["changes"]} >= {"parameters.n"}

    assert "parameters" not in system.penstock("diff", first, first).stdout
    unknown = system.penstock("diff", first, "00000000-0000-0000-0000-000000000000")
    assert (unknown.returncode, "there is no such run" in unknown.stderr) == (2, True)

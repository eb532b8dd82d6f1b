"""What is wrong is answered with code, field and remedy, and nothing of it is left behind."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.e2e.system.conftest import DevSystem

STEP = {"name": "a", "command": {"argv": ["true"]}}


def left_behind(system: DevSystem) -> tuple[str, str]:
    pipelines = system.penstock("list", "pipelines", "--json").stdout
    return pipelines, system.penstock("list", "--json").stdout


def refuse(system: DevSystem, tmp_path: Path, text: str, name: str = "bad.yaml") -> subprocess.CompletedProcess[str]:
    """Apply a file that is no good: nothing must be there afterwards that was not there before."""
    before = left_behind(system)
    path = tmp_path / name
    path.write_text(text)
    done = system.penstock("run", str(path))
    assert done.returncode == 2, done.stdout + done.stderr
    assert "Traceback" not in done.stderr or "your" in name
    assert left_behind(system) == before
    return done


BAD_SPECIFICATIONS = {
    "a cycle": (
        "name: p\nsteps:\n  a: {command: [x], depends_on: [b]}\n  b: {command: [x], depends_on: [a]}\n",
        ["not accepted", "depends_on", "a", "b", "cycle"],
    ),
    "an unknown step": (
        "name: p\nsteps:\n  load: {command: [x]}\n  b: {command: [x], depends_on: [laod]}\n",
        ["not accepted", "steps[1].depends_on[0]", "laod", "load"],
    ),
    "a bad name": (
        "name: ../../etc/passwd\nsteps:\n  a: {command: [x]}\n",
        ["not accepted", "name", "128"],
    ),
    "an unknown variable in a condition": (
        "name: p\nsteps:\n  a: {command: [x], when: 'nope > 3'}\n",
        ["not accepted", "steps[0].when", "nope"],
    ),
    "a condition with a syntax error": (
        "name: p\nsteps:\n  a: {command: [x], when: 'params.n >'}\n",
        ["not accepted", "steps[0].when"],
    ),
    "Python in a condition": (
        "name: p\nsteps:\n  a: {command: [x], when: \"__import__('os').system('touch pwned.flag')\"}\n",
        ["not accepted", "steps[0].when"],
    ),
}


@pytest.mark.parametrize("case", BAD_SPECIFICATIONS)
def test_a_bad_specification(system: DevSystem, tmp_path: Path, case: str) -> None:
    text, expected = BAD_SPECIFICATIONS[case]
    done = refuse(system, tmp_path, text)
    for words in expected:
        assert words in done.stderr, done.stderr
    assert not Path("pwned.flag").exists()


def test_malformed_yaml_is_named_by_line_and_column(system: DevSystem, tmp_path: Path) -> None:
    done = refuse(system, tmp_path, "name: p\nsteps:\n  a: {command: [x\n  b: }\n")
    assert "bad.yaml" in done.stderr
    assert "line" in done.stderr


def test_a_module_that_does_not_import(system: DevSystem, tmp_path: Path) -> None:
    done = refuse(system, tmp_path, "import no_such_module_anywhere\n", "your_pipeline.py")
    assert "no_such_module_anywhere" in done.stderr
    assert "your_pipeline.py" in done.stderr


def test_a_parameter_of_the_wrong_type(system: DevSystem, tmp_path: Path) -> None:
    path = tmp_path / "typed.yaml"
    path.write_text("name: typed\nparameters:\n  n: int\nsteps:\n  a: {command: ['true']}\n")
    assert system.penstock("apply", str(path)).returncode == 0
    before = left_behind(system)
    done = system.penstock("start", "typed", "-p", "n=three")
    assert done.returncode == 2
    assert "n" in done.stderr
    assert "three" in done.stderr
    assert left_behind(system) == before


def curl(system: DevSystem, method: str, message: dict[str, Any]) -> subprocess.CompletedProcess[str]:
    buf = Path(sys.executable).with_name("buf")
    address = f"http://{system.address}/penstock.v1.{method}"
    return subprocess.run(
        [str(buf), "curl", "--protocol", "grpc", "--http2-prior-knowledge", "-d", json.dumps(message), address],
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )


def test_a_wrong_parameter_over_the_wire_names_its_field(system: DevSystem) -> None:
    spec = {"name": "wired", "parameters": [{"name": "n", "type": "PARAMETER_TYPE_INT"}], "steps": [STEP]}
    assert curl(system, "PipelineService/Create", {"spec": spec}).returncode == 0
    done = curl(system, "RunService/Start", {"pipeline": "wired", "parameters": {"n": "three"}})
    assert done.returncode != 0
    answer = json.loads(done.stderr or done.stdout)
    assert answer["code"] == "invalid_argument"
    assert "parameters.n" in json.dumps(answer)


def test_reflection_create_start_and_watch_with_nothing_but_a_grpc_client(system: DevSystem) -> None:
    """The README's way without any code: everything by reflection."""
    grpcurl = Path(sys.executable).with_name("grpcurl")

    def call(*arguments: str) -> str:
        done = subprocess.run(
            [str(grpcurl), "-plaintext", *arguments], capture_output=True, text=True, timeout=150, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    services = call(system.address, "list").split()
    assert {"penstock.v1.PipelineService", "penstock.v1.RunService", "grpc.health.v1.Health"} <= set(services)
    assert "rpc Watch" in call(system.address, "describe", "penstock.v1.RunService")
    spec = {"name": "by-hand", "steps": [STEP, {"name": "b", "command": {"shell": "echo hi"}, "dependsOn": ["a"]}]}
    created = json.loads(call("-d", json.dumps({"spec": spec}), system.address, "penstock.v1.PipelineService/Create"))
    assert created["version"]["number"] == "1"
    started = json.loads(
        call("-d", json.dumps({"pipeline": "by-hand"}), system.address, "penstock.v1.RunService/Start")
    )
    watched = call("-d", json.dumps({"runId": started["run"]["id"]}), system.address, "penstock.v1.RunService/Watch")
    assert "RUN_STATE_COMPLETED" in watched

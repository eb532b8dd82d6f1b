"""Where the digests of functions go: into specifications that name a bundle, from Python and from YAML alike."""

from __future__ import annotations

from pathlib import Path

from penstock import yaml_format
from penstock.cli.loading import load_pipeline
from penstock.code_digest import BundleCode

FLOW = """
from penstock import pipeline, step
from {near} import add

@step
def one(x: int = 1) -> int:
    return add(x)

@step
def two(x: int) -> int:
    return x

@pipeline
def flow() -> None:
    two(one())
"""
YAML = """
name: flow
steps:
  one: {function: 'flows:one'}
  two: {function: 'flows:two', inputs: {x: "${steps.one.output}"}}
  three: {command: [x]}
"""


def digests(target: Path) -> dict[str, str]:
    return {step.name: step.function.code_digest for step in load_pipeline(str(target)).spec.steps}


def test_a_python_pipeline_and_yaml_of_the_same_code(tmp_path: Path) -> None:
    (tmp_path / "flows.py").write_text(FLOW.format(near="near_digests"))
    (tmp_path / "near_digests.py").write_text("def add(x):\n    return x + 1\n")
    (tmp_path / "flow.yaml").write_text(YAML)
    python, yaml = digests(tmp_path / "flows.py"), digests(tmp_path / "flow.yaml")
    assert yaml == {**python, "three": ""}
    assert python["one"] != python["two"]
    (tmp_path / "near_digests.py").write_text("def add(x):\n    return x + 2\n")
    changed = digests(tmp_path / "flow.yaml")
    assert changed["one"] != yaml["one"]
    assert changed["two"] == yaml["two"]


def test_modules_beside_a_script_are_found(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text("")
    scripts = tmp_path / "scripts_of_digests"
    scripts.mkdir()
    (scripts / "etl.py").write_text(FLOW.format(near="beside_digests"))
    (scripts / "beside_digests.py").write_text("def add(x):\n    return x + 1\n")
    spec = load_pipeline(str(scripts / "etl.py")).spec
    action = spec.steps[0].function
    assert action.module == "scripts_of_digests.etl"
    assert action.code_digest == BundleCode([scripts, tmp_path], "").digest(action.module, "one")
    assert action.code_digest != BundleCode([tmp_path], "").digest(action.module, "one")


def test_a_specification_without_a_bundle_has_none_and_yaml_keeps_those_that_there_are(tmp_path: Path) -> None:
    (tmp_path / "flows_kept.py").write_text(FLOW.format(near="math").replace("import add", "import floor as add"))
    spec = load_pipeline(str(tmp_path / "flows_kept.py")).spec
    assert len(spec.steps[0].function.code_digest) == 64
    assert yaml_format.load(yaml_format.dump(spec)) == spec

"""How pipelines and steps name their requirements: options, a block of comments in the file, YAML, lock files."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.packages import make_wheel, without_index

from penstock import command, pipeline, yaml_format
from penstock.cli.loading import load_pipeline
from penstock.environments.script_block import requirements_in
from penstock.errors import DefinitionError
from penstock.v1 import pipeline_pb2 as pb
from penstock.v1.pipeline_pb2 import PipelineSpec

LOCK = f"tiny==1.0 --hash=sha256:{'0' * 64}\n"


def spec_with(given: Any, /, **options: Any) -> PipelineSpec:
    @pipeline(**options)
    def one() -> None:
        command(name="a", shell="true", requirements=given)

    return one.spec()


def python(*requirements: str, **fields: Any) -> pb.Environment:
    return pb.Environment(python=pb.PythonEnvironment(requirements=requirements, **fields))


@pytest.mark.parametrize(
    ("given", "environment"),
    [
        (["pandas>=2", "numpy"], python("pandas>=2", "numpy")),
        ([], python()),
        ({"packages": ["pandas"], "python": ">=3.12"}, python("pandas", python=">=3.12")),
        ({"python": "3.12"}, python(python="3.12")),
        (False, pb.Environment()),
    ],
)
def test_a_step_says_them(given: Any, environment: pb.Environment) -> None:
    spec = spec_with(given)
    assert spec.steps[0].environment == environment
    assert spec.steps[0].HasField("environment")
    assert not spec.defaults.HasField("environment")
    assert yaml_format.load(yaml_format.dump(spec)) == spec


def test_a_step_that_says_nothing_has_none_of_its_own() -> None:
    spec = spec_with(None)
    assert not spec.steps[0].HasField("environment")


def test_a_pipeline_says_them_for_all_its_steps() -> None:
    for options in ({"requirements": ["pandas"]}, {"defaults": {"requirements": ["pandas"]}}):
        spec = spec_with(False, **options)
        assert spec.defaults.environment == python("pandas")
        assert spec.steps[0].environment == pb.Environment()


def test_options_replace_them() -> None:
    @pipeline
    def one() -> None:
        command(name="a", shell="true", requirements=["a"])
        command(name="b", shell="true", requirements=["a"])

    assert [step.environment for step in one.spec().steps] == [python("a"), python("a")]


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("pandas", "is no list of requirements"),
        (3, "is no list of requirements"),
        ([3], "is no text"),
        ({"package": []}, "there is no such member"),
        ({"packages": "pandas"}, "is no list"),
        ({"packages": None}, "None is no list"),
        ({"packages": {"pandas": "2"}}, "is no list"),
        ({"packages": ["a"], "lock": "x"}, "both packages and a lock file"),
        ({"lock": "nowhere.txt"}, "there is no file"),
    ],
)
def test_what_says_none_is_refused_where_it_is_written(given: Any, told: str) -> None:
    with pytest.raises(DefinitionError, match=told) as refused:
        spec_with(given)
    assert "requirements" in str(refused.value.field)


def test_they_are_said_once() -> None:
    with pytest.raises(DefinitionError, match="given twice"):
        spec_with(None, requirements=["a"], defaults={"requirements": ["b"]})


FILE = """{block}
from penstock import command, pipeline

@pipeline{options}
def flow():
    command(name="a", shell="true")
"""
BLOCK = """# /// script
# requires-python = ">=3.11"
# dependencies = [
#   "pandas>=2",  # for the table
#   "penstock[agent]>=0.1",
#   "penstock-extra",
# ]
# ///
"""


def load(folder: Path, name: str, text: str) -> PipelineSpec:
    file = folder / name
    file.write_text(text)
    return load_pipeline(str(file)).spec


def test_a_file_says_them_in_a_block_of_comments(tmp_path: Path) -> None:
    spec = load(tmp_path, "blockflow.py", FILE.format(block=BLOCK, options=""))
    assert spec.defaults.environment == python("pandas>=2", "penstock-extra", python=">=3.11")


def test_what_the_pipeline_says_counts_more_than_the_block(tmp_path: Path) -> None:
    spec = load(tmp_path, "ownflow.py", FILE.format(block=BLOCK, options="(requirements=['numpy'])"))
    assert spec.defaults.environment == python("numpy")
    spec = load(tmp_path, "offflow.py", FILE.format(block=BLOCK, options="(requirements=False)"))
    assert spec.defaults.environment == pb.Environment()


@pytest.mark.parametrize(
    "block",
    ["", "# /// other\n# x\n# ///\n", "# /// script\n# dependencies = ['penstock']\n# ///\n", "# /// script\n# x\n"],
)
def test_a_file_that_needs_nothing_has_no_environment(tmp_path: Path, block: str) -> None:
    file = tmp_path / "file.py"
    file.write_text(block)
    assert requirements_in(file) is None


@pytest.mark.parametrize(
    ("block", "told"),
    [
        ("# /// script\n# x\n# ///\n", "is no TOML"),
        ("# /// script\n# dependencies = 'a'\n# ///\n", "no list of texts"),
        ("# /// script\n# requires-python = 3\n# ///\n", "is no text"),
        (f"{BLOCK}\n{BLOCK}", "several script blocks"),
    ],
)
def test_a_block_that_cannot_be_read_is_named(tmp_path: Path, block: str, told: str) -> None:
    file = tmp_path / "file.py"
    file.write_text(block)
    with pytest.raises(DefinitionError, match=told) as refused:
        requirements_in(file)
    assert str(refused.value.field).startswith("# /// script")


def test_a_lock_file_beside_the_pipeline_is_read(tmp_path: Path) -> None:
    (tmp_path / "requirements.txt").write_text(LOCK)
    (tmp_path / "pylock.toml").write_text("x")
    for name, kind in (("requirements.txt", pb.LOCK_FORMAT_REQUIREMENTS), ("pylock.toml", pb.LOCK_FORMAT_PYLOCK)):
        options = f"(requirements={{'lock': {name!r}}})"
        spec = load(tmp_path, f"lock{kind}flow.py", FILE.format(block="", options=options))
        text = (tmp_path / name).read_text()
        assert spec.defaults.environment == python(lock=text, lock_format=kind)
        assert yaml_format.load(yaml_format.dump(spec)) == spec


def test_a_uv_lock_is_exported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in without_index(tmp_path, tmp_path / "wheels").items():
        monkeypatch.setenv(name, value)
    sha256 = make_wheel(tmp_path / "wheels", "tiny", "1.0")
    project = "[project]\nname = 'mine'\nversion = '1'\nrequires-python = '>=3.11'\ndependencies = ['tiny']\n"
    (tmp_path / "pyproject.toml").write_text(project)
    uv = Path(sys.executable).with_name("uv")
    subprocess.run([uv, "lock", "--python", sys.executable], cwd=tmp_path, check=True, capture_output=True)
    lock = tmp_path / "uv.lock"
    # An index gives hashes, a folder none.
    lock.write_text(lock.read_text().replace('any.whl" }', f'any.whl", hash = "sha256:{sha256}" }}'))
    options = "(requirements={'lock': 'uv.lock'})"
    spec = load(tmp_path, "uvflow.py", FILE.format(block="", options=options))
    locked = spec.defaults.environment.python
    assert locked.lock_format == pb.LOCK_FORMAT_REQUIREMENTS
    assert "tiny==1.0" in locked.lock
    assert sha256 in locked.lock
    lock.write_text("nonsense")
    with pytest.raises(DefinitionError, match="uv cannot export"):
        load(tmp_path, "badflow.py", FILE.format(block="", options=options))


YAML = """
name: p
defaults:
  environment: [pandas>=2]
steps:
  same: {command: "true"}
  other: {command: "true", environment: {requirements: [numpy], python: ">=3.12"}}
  own: {command: "true", environment: false}
  locked: {command: "true", environment: {lock: requirements.txt}}
  long: {command: "true", environment: {python: {requirements: [numpy]}}}
"""


def test_yaml_says_them(tmp_path: Path) -> None:
    (tmp_path / "requirements.txt").write_text(LOCK)
    spec = load(tmp_path, "flow.yaml", YAML)
    assert spec.defaults.environment == python("pandas>=2")
    steps = {step.name: step for step in spec.steps}
    assert not steps["same"].HasField("environment")
    assert steps["other"].environment == python("numpy", python=">=3.12")
    assert steps["own"].HasField("environment")
    assert steps["own"].environment == pb.Environment()
    assert steps["locked"].environment == python(lock=LOCK, lock_format=pb.LOCK_FORMAT_REQUIREMENTS)
    assert steps["long"].environment == python("numpy")
    assert yaml_format.load(yaml_format.dump(spec)) == spec


def test_a_lock_file_that_yaml_names_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(DefinitionError, match="there is no file") as refused:
        load(tmp_path, "flow.yaml", YAML)
    assert refused.value.field == "steps.locked.environment.python.lock"

"""The pages on templates say what is so: their files load with the commands that they print."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from penstock.cli.loading import load_pipeline
from penstock.cli.params import read_parameters, read_settings
from penstock.v1 import pipeline_pb2

DOCS = Path(__file__).parents[3] / "docs"


def write_files(page: str, folder: Path) -> None:
    """The blocks whose first line is a comment with a file's name."""
    text = (DOCS / page).read_text(encoding="utf-8")
    for block in re.findall(r"```(?:python|yaml)\n(.*?)```", text, flags=re.DOTALL):
        named = re.match(r"# ([\w./]+)\n", block)
        if named:
            file = folder / named[1]
            file.parent.mkdir(exist_ok=True, parents=True)
            file.write_text(block)


def commands(page: str) -> list[str]:
    text = (DOCS / page).read_text(encoding="utf-8")
    joined = "\n".join(re.findall(r"```sh\n(.*?)```", text, flags=re.DOTALL)).replace("\\\n", " ")
    return [line for line in joined.splitlines() if re.match(r"penstock (run|apply|validate) ", line)]


def loaded_by(command: str, folder: Path) -> pipeline_pb2.PipelineSpec:
    words = shlex.split(command)[2:]
    options = list(zip(words[1::2], words[2::2], strict=True))
    settings = read_settings([value for option, value in options if option == "--set"])
    spec = load_pipeline(str(folder / words[0]), None, settings).spec
    if command.startswith("penstock run"):
        read_parameters(spec, [value for option, value in options if option == "-p"], None)
    return spec


@pytest.mark.parametrize("command", commands("templates.md"))
def test_commands_of_the_page_on_templates_load(command: str, tmp_path: Path) -> None:
    write_files("templates.md", tmp_path)
    assert loaded_by(command, tmp_path).template.name


def test_what_the_page_on_templates_says_of_its_example(tmp_path: Path) -> None:
    write_files("templates.md", tmp_path)
    spec = loaded_by("penstock validate daily_load.yaml", tmp_path)
    names = [step.name for step in spec.steps]
    loads = ["load_users_0", "load_users_1", "load_orders_0", "load_orders_1"]
    assert names == ["begin", *loads, "check_users", "check_orders", "report"]
    assert list(spec.steps[5].depends_on) == loads
    without = loaded_by("penstock validate daily_load.yaml --set check=false", tmp_path)
    assert list(without.steps[-1].depends_on) == loads
    python = loaded_by("penstock run daily_load.py:daily_load --set tables='[\"a\"]' -p day=x", tmp_path)
    assert [step.name for step in python.steps] == ["load_a", "report"]


@pytest.fixture
def fresh_imports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As in a process of its own: without what other tests imported and left on the import path."""
    monkeypatch.setattr(sys, "path", [each for each in sys.path if not Path(each).is_relative_to(tmp_path.parents[1])])
    before = dict(sys.modules)
    for name in [name for name in before if name.partition(".")[0] in ("flows", "picked")]:
        del sys.modules[name]
    yield
    for name in set(sys.modules) - set(before):
        del sys.modules[name]
    sys.modules.update(before)


@pytest.mark.parametrize("command", commands("stages.md"))
@pytest.mark.usefixtures("fresh_imports")
def test_commands_of_the_page_on_stages_load(command: str, tmp_path: Path) -> None:
    write_files("stages.md", tmp_path)
    spec = loaded_by(command, tmp_path)
    assert {step.function.qualname for step in spec.steps} >= {"read", "pick", "show"}


@pytest.mark.parametrize("command", commands("sub-pipelines.md"))
def test_commands_of_the_page_on_sub_pipelines_load(command: str, tmp_path: Path) -> None:
    write_files("sub-pipelines.md", tmp_path)
    spec = loaded_by(command, tmp_path)
    called = [step.pipeline.name for step in spec.steps if step.HasField("pipeline")]
    assert called == {"nightly": ["load_day"], "weekly": ["load_one", "load_day"], "load_day": []}[spec.name]


def test_limits_on_concurrency(tmp_path: Path) -> None:
    """The page says the same pipeline in YAML and in Python."""
    write_files("concurrency.md", tmp_path)
    written, drawn = (load_pipeline(str(tmp_path / f"warehouse.{kind}"), None, {}).spec for kind in ("yaml", "py"))
    assert written.concurrency == drawn.concurrency
    assert written.steps[1].concurrency == drawn.steps[0].concurrency
    assert load_pipeline(str(tmp_path / "batch.yaml"), None, {}).spec.max_active_runs == 3

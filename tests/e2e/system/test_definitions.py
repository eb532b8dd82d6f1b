"""Templates and stages as their pages have them, on the whole system."""

from __future__ import annotations

import importlib
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from penstock import yaml_format

if TYPE_CHECKING:
    from tests.e2e.system.conftest import DevSystem

DOCS = Path(__file__).parents[3] / "docs"


def write_files(page: str, folder: Path) -> None:
    """The blocks whose first line is a comment with a file's name."""
    for block in re.findall(r"```(?:python|yaml)\n(.*?)```", (DOCS / page).read_text(), flags=re.DOTALL):
        named = re.match(r"# ([\w./]+)\n", block)
        if named:
            file = folder / named[1]
            file.parent.mkdir(exist_ok=True, parents=True)
            file.write_text(block)


def commands(page: str) -> list[str]:
    joined = "\n".join(re.findall(r"```sh\n(.*?)```", (DOCS / page).read_text(), flags=re.DOTALL))
    return [line for line in joined.splitlines() if line.startswith("penstock ")]


def typed(line: str, folder: Path, system: DevSystem) -> str:
    done = subprocess.run(
        [sys.executable, "-m", *shlex.split(line)],
        cwd=folder,
        env={**os.environ, "PENSTOCK_ADDRESS": system.address},
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("page", ["templates.md", "stages.md", "sub-pipelines.md"])
def test_the_commands_of_a_page_work_in_their_order(page: str, tmp_path: Path, system: DevSystem) -> None:
    write_files(page, tmp_path)
    for line in commands(page):
        said = typed(line, tmp_path, system)
        assert "COMPLETED" in said or not line.startswith("penstock run"), said


def test_a_version_tells_what_it_was_made_from(tmp_path: Path, system: DevSystem) -> None:
    write_files("templates.md", tmp_path)
    typed("penstock apply daily_load.yaml --set 'tables=[\"a\"]' --set check=false", tmp_path, system)
    shown = json.loads(typed("penstock get pipeline daily-load --json", tmp_path, system))
    assert shown["version"]["spec"]["template"] == {
        "name": "daily-load",
        "arguments": {"tables": ["a"], "check": False, "shards": 2, "env": "test"},
    }


def test_a_stage_gets_its_config_and_the_data_of_the_one_before(tmp_path: Path, system: DevSystem) -> None:
    write_files("stages.md", tmp_path)
    run_id = typed("penstock run picked.yaml", tmp_path, system).split()[1]
    with system.client() as client:
        assert client.result(run_id, "names") == [{"name": "a"}, {"name": "c"}]
        assert client.result(run_id, "shown") == 2


def test_versions_are_compared_in_sentences(tmp_path: Path, system: DevSystem) -> None:
    (tmp_path / "flow.py").write_text(FLOW)
    typed("penstock apply flow.py", tmp_path, system)
    typed("penstock apply flow.py", tmp_path, system)
    changed = FLOW.replace("x + 1", "x + 2").replace("@step\ndef last", "@step(retries=2)\ndef last")
    (tmp_path / "flow.py").write_text(changed.replace('name="middle"', 'name="between"'))
    typed("penstock apply flow.py", tmp_path, system)
    said = typed("penstock diff compared", tmp_path, system).splitlines()
    assert said[0] == "compared: version 1 -> version 2"
    assert said[1].startswith("bundle_digest: ")
    assert said[2:] == [
        "~ first: its code changed",
        "= between: was middle, and is the same besides",
        "~ last",
        '    retry: nothing -> {"max_attempts": 3}',
    ]
    for form in ("compared@2", "compared@1 compared@2", "compared --versions 1 2"):
        assert typed(f"penstock diff {form}", tmp_path, system).splitlines() == said
    shown = json.loads(typed("penstock diff compared --json", tmp_path, system))
    assert [(each["step"], each["codeChanged"]) for each in shown["steps"]] == [
        ("first", True),
        ("between", False),
        ("last", False),
    ]
    listed = typed("penstock list versions --pipeline compared", tmp_path, system).splitlines()
    assert [line.split()[0] for line in listed] == ["VERSION", "compared@2", "compared@1"]
    assert "There is no difference." in typed("penstock diff compared@1 compared@1", tmp_path, system)


FLOW = """
from penstock import pipeline, step


def helper(x):
    return x + 1


@step
def first(x: int) -> int:
    return helper(x)


@step
def middle(x: int) -> int:
    return x


@step
def last(x: int) -> int:
    return x


@pipeline
def compared(x: int = 1) -> None:
    last(middle.options(name="middle")(first(x)))
"""


def complete_documents() -> list[tuple[str, str]]:
    """Every block of YAML in the documentation that is a whole pipeline."""
    pages = [*DOCS.glob("*.md"), DOCS.parent / "README.md"]
    found = [(page.name, block) for page in pages for block in re.findall(r"```yaml\n(.*?)```", page.read_text(), re.S)]
    return [(page, block) for page, block in found if re.search(r"^name:", block, re.M)]


def test_the_maps_of_the_page_on_yaml_run(tmp_path: Path, system: DevSystem) -> None:
    block = next(block for page, block in complete_documents() if page == "yaml.md" and "name: regions" in block)
    (tmp_path / "regions.yaml").write_text(block)
    run_id = typed("penstock run regions.yaml", tmp_path, system).split()[1]
    with system.client() as client:
        assert client.result(run_id, "fetch") == [{"fetched": {"rows": [1, 2]}}] * 2
        counts = {each.step: each.item_counts for each in client.list_step_runs(run_id)}
        assert {name: count.completed for name, count in counts.items()} == {
            "fetch": 2,
            "check": 2,
            "row": 4,
            "report": 4,
            "end": 2,
        }


def test_the_coordinator_accepts_every_document_that_is_printed(system: DevSystem) -> None:
    documents = complete_documents()
    assert {page for page, _ in documents} >= {"yaml.md", "templates.md", "stages.md", "README.md"}
    with system.client() as client:
        for page, block in documents:
            spec = yaml_format.load(block)
            spec.bundle_digest = "0" * 64
            assert client.validate(spec) == [], (page, block)


def test_a_template_is_started_from_a_program(
    tmp_path: Path, system: DevSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_files("templates.md", tmp_path)
    (tmp_path / "daily_load.py").rename(tmp_path / "daily_load_of_a_program.py")
    monkeypatch.syspath_prepend(tmp_path)
    module = importlib.import_module("daily_load_of_a_program")
    with system.client() as client:
        run = client.start(module.daily_load(tables=["users", "orders"]), {"day": "2026-11-21"})
        run.wait(100, raise_on_failure=True)
        assert run.result("report") == len("users") + len("orders")

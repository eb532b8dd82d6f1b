"""What the command line finds wrong with the `function:` steps of a YAML file, from the code beside it."""

from __future__ import annotations

from pathlib import Path

import pytest

from penstock.cli.loading import load_pipeline
from penstock.errors import YamlError

CODE = """
from penstock import step

@step(retries=1)
def load(path: str, *, limit: int = 3) -> int:
    raise AssertionError("the code is read, and not run")

def any_of_them(**values: int) -> None: ...

def wrapped(function): return function

@wrapped
def odd(x: int) -> int: ...
"""


def check(folder: Path, step: str, code: str = CODE) -> None:
    (folder / "flows").mkdir()
    (folder / "flows" / "etl.py").write_text(code)
    (folder / "p.yaml").write_text(f"name: p\nsteps:\n  fetch: {{{step}}}\n")
    load_pipeline(str(folder / "p.yaml"))


@pytest.mark.parametrize(
    "step",
    [
        "function: 'flows.etl:load', inputs: {path: x}",
        "function: 'flows.etl:load', inputs: {path: x, limit: 4}",
        "function: 'flows.etl:any_of_them', inputs: {a: 1}",
        "function: 'flows.etl:odd', inputs: {whatever: 1}",
        "function: 'json:dumps', inputs: {obj: 1}",
    ],
)
def test_what_fits_is_accepted(tmp_path: Path, step: str) -> None:
    check(tmp_path, step)


@pytest.mark.parametrize(
    ("step", "message"),
    [
        ("function: 'nomod_at_all:run'", "the bundle has no module 'nomod_at_all', and it is not installed here"),
        ("function: 'flows.elt:load'", "the bundle has no module 'flows.elt'"),
        ("function: 'flows.etl:laod'", "the module flows.etl has no function laod (did you mean 'load'?"),
        ("function: 'flows.etl:load', inputs: {pth: x}", "load has no argument 'pth' (did you mean 'path'?"),
        ("function: 'flows.etl:load'", "load needs the argument 'path' (give the step an input 'path'"),
    ],
)
def test_what_cannot_run_is_refused_where_it_stands(tmp_path: Path, step: str, message: str) -> None:
    with pytest.raises(YamlError) as caught:
        check(tmp_path, step)
    assert message in str(caught.value)
    assert "p.yaml: line 3" in str(caught.value)
    assert "steps.fetch." in str(caught.value)


def test_names_that_are_made_when_the_module_runs_are_left_to_it(tmp_path: Path) -> None:
    check(tmp_path, "function: 'flows.etl:made'", "globals()['made'] = lambda: 1\n")

"""Stages in YAML: what `type`, `config` and `from` become, and what the command line checks of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from penstock import yaml_format
from penstock.cli.loading import load_pipeline
from penstock.errors import YamlError
from penstock.v1 import pipeline_pb2
from penstock.wire_values import from_value

KINDS_LINE = "kinds: {csv: 'k.m:read', pick: 'k.m:C.pick'}"
HEAD = f"name: p\n{KINDS_LINE}\nsteps:\n  a: {{command: [x]}}\n  b: {{command: [x]}}\n  s:\n"


def stage(members: str) -> pipeline_pb2.StepSpec:
    return yaml_format.load(HEAD + "".join(f"    {line}\n" for line in members.splitlines())).steps[2]


def refused(members: str, head: str = HEAD) -> str:
    with pytest.raises(YamlError) as caught:
        yaml_format.load(head + "".join(f"    {line}\n" for line in members.splitlines()))
    return str(caught.value)


def upstream(step: pipeline_pb2.StepSpec) -> dict[str, str]:
    return {name: source.step.step for name, source in step.inputs.items() if source.HasField("step")}


def test_a_stage_is_a_function_step_with_a_constant_config() -> None:
    step = stage("type: pick\nconfig: {step: 1, of: ['$${x}', {parameter: y}]}\nretry: {max_attempts: 2}")
    assert (step.function.module, step.function.qualname) == ("k.m", "C.pick")
    assert from_value(step.inputs["config"].value) == {"step": 1, "of": ["${x}", {"parameter": "y"}]}
    assert step.retry.max_attempts == 2
    assert set(stage("type: csv").inputs) == set()


def test_from_is_short_for_inputs() -> None:
    assert upstream(stage("type: csv\nfrom: a")) == {"data": "a"}
    assert upstream(stage("type: csv\nfrom: [a, b]")) == {"a": "a", "b": "b"}
    assert upstream(stage("type: csv\nfrom: {left: a, right: b}")) == {"left": "a", "right": "b"}
    step = stage("type: csv\nfrom: ${steps.a.output.rows}\ninputs: {n: 1}")
    assert list(step.inputs["data"].step.path) == ["rows"]
    assert from_value(step.inputs["n"].value) == 1


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ("type: cvs", "steps.s.type: there is no kind 'cvs' (did you mean 'csv'?; write it as module:function"),
        ("type: csv\ncommand: [x]", "steps.s.command: type and command are both given (give one of them)"),
        ("type: csv\nconfig: [1]", "steps.s.config: the config is no object"),
        ("type: csv\nconfig: {a: '${params.x}'}", "steps.s.config.a: '${params.x}' stands inside a constant"),
        ("type: csv\nfrom: 3", "steps.s.from: `from` names no steps"),
        ("type: csv\nfrom: a\ninputs: {data: 1}", "the input 'data' is also under `inputs` (give it once)"),
        ("type: csv\ninputs: {config: 1}", "steps.s.inputs.config: `config` is the stage's constant"),
        ("command: [x]\nconfig: {}", "steps.s.config: `config` belongs to a step that has a `type`"),
        ("command: [x]\nfrom: a", "steps.s.from: `from` belongs to a step that has a `type`"),
    ],
)
def test_stages_that_are_refused(members: str, message: str) -> None:
    found = refused(members)
    assert message in found
    assert found.startswith("line ")


def test_kinds_that_are_refused() -> None:
    assert "declare it under `kinds:`" in refused("type: csv", HEAD.replace(KINDS_LINE, ""))
    assert "kinds.csv: 'k.m' names no function" in refused("type: csv", HEAD.replace("k.m:read", "k.m"))
    assert "kinds: the kinds are no object" in refused("type: csv", HEAD.replace(KINDS_LINE, "kinds: [x]"))


def test_stages_in_a_template() -> None:
    text = """
name: p
structure: {tables: list, width: {type: int, default: 2}}
kinds: {csv: "k:read", join: "k:join"}
steps:
  load:
    for_each: {table: "$[tables]"}
    type: csv
    config: {path: "$[table].csv", width: "$[width]"}
  all:
    type: join
    from: {first: "load_$[tables[0]]"}
    inputs:
      rows:
        for_each: {table: "$[tables]"}
        from: ${steps.load_$[table].output}
"""
    spec = yaml_format.load(text, {"tables": ["users", "orders"]})
    assert from_value(spec.steps[1].inputs["config"].value) == {"path": "orders.csv", "width": 2}
    assert upstream(spec.steps[2]) == {"first": "load_users", "rows_users": "load_users", "rows_orders": "load_orders"}
    with pytest.raises(YamlError, match="'load' stands for all copies of a loop"):
        yaml_format.load(text.replace('{first: "load_$[tables[0]]"}', "load"), {"tables": ["users"]})


KINDS = """
from dataclasses import dataclass
from penstock import step, step_kind

@dataclass
class Source:
    path: str
    limit: int = 3

@step_kind("csv")
def read(config: Source) -> list:
    return []

@step
def join(left: list, right: list = ()) -> list:
    return left

def plain(config: dict, data: list) -> None:
    pass
"""
FILE = """
name: staged
kinds: {{csv: "{module}:read", join: "{module}:join", plain: "{module}:plain"}}
steps:
  a: {{type: csv, config: {{path: x}}}}
  b: {{type: join, from: {{left: a}}}}
  c: {{type: plain, config: {{any: 1}}, from: b}}
"""


def loaded(folder: Path, module: str, old: str = "", new: str = "") -> pipeline_pb2.PipelineSpec:
    (folder / f"{module}.py").write_text(KINDS)
    text = FILE.format(module=module)
    assert old in text
    (folder / "staged.yaml").write_text(text.replace(old, new) if old else text)
    return load_pipeline(str(folder / "staged.yaml")).spec


def test_the_command_line_checks_what_it_can_import(tmp_path: Path) -> None:
    spec = loaded(tmp_path, "kinds_that_fit")
    assert [len(step.function.code_digest) for step in spec.steps] == [64, 64, 64]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("{path: x}", "{path: x, limit: many}", "line 5, column 36: steps.a.config.limit: 'many' does not fit"),
        ("{path: x}", "{paht: x}", "steps.a.config"),
        (", config: {path: x}", "", "steps.a: the arguments do not fit: missing a required argument: 'config'"),
        ("{left: a}", "{lfet: a}", "steps.b: the arguments do not fit: missing a required argument: 'left'"),
        ("{left: a}", "{left: a, up: a}", "got an unexpected keyword argument 'up' (the inputs, `from` and `config`"),
        (":read", ":raed", "kinds.csv: the module kinds_that_do_not has no function raed"),
        ("from: b", "inputs: {data: 1, more: 2}", "unexpected keyword argument 'more'"),
    ],
)
def test_what_does_not_fit_is_refused_with_its_place(old: str, new: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(YamlError) as caught:
        loaded(tmp_path, "kinds_that_do_not", old, new)
    assert message in str(caught.value)
    assert str(tmp_path / "staged.yaml") in str(caught.value)


def test_what_does_not_import_here_is_told_of_and_left_to_the_agents(tmp_path: Path, capsys: Any) -> None:
    spec = loaded(tmp_path, "kinds_elsewhere", "kinds_elsewhere:", "kinds_not_here:")
    assert len(spec.steps) == 3
    told = capsys.readouterr().err
    assert told.count("kinds_not_here does not import here, so its stages are not checked") == 1

"""How steps name secrets, in Python and in YAML."""

from __future__ import annotations

from typing import Any

import pytest

import penstock
from penstock import command, pipeline, yaml_format
from penstock.errors import ContextError, DefinitionError, YamlError
from penstock.v1.pipeline_pb2 import PipelineSpec


def spec_with(named: Any, /, **defaults: Any) -> PipelineSpec:
    @pipeline(**defaults)
    def one() -> None:
        command(name="a", shell="true", secrets=named)

    return one.spec()


@pytest.mark.parametrize(
    ("given", "uses"),
    [
        ("db", [("db", "", "")]),
        (["db", "api", "db"], [("api", "", ""), ("db", "", "")]),
        ({"db": "PASSWORD"}, [("db", "PASSWORD", "")]),
        ({"db": None, "key": {"file": "key.pem", "env": "KEY"}}, [("db", "", ""), ("key", "KEY", "key.pem")]),
    ],
)
def test_python_names_them(given: Any, uses: list[tuple[str, str, str]]) -> None:
    spec = spec_with(given)
    assert [(use.name, use.env, use.file) for use in spec.steps[0].secrets] == uses
    assert yaml_format.load(yaml_format.dump(spec)) == spec


@pytest.mark.parametrize("given", [3, [3], {"db": 3}, {"db": {"variable": "X"}}, ["a b"]])
def test_what_names_none_is_refused_where_it_is_written(given: Any) -> None:
    with pytest.raises(DefinitionError, match="secrets"):
        spec_with(given)


def test_a_pipeline_names_them_for_all_its_steps() -> None:
    spec = spec_with(["own"], defaults={"secrets": {"shared": "SHARED"}})
    assert [(use.name, use.env) for use in spec.defaults.secrets] == [("shared", "SHARED")]


def test_yaml_names_them() -> None:
    spec = yaml_format.load(
        """
name: p
steps:
  list: {command: "true", secrets: [db, {name: api, env: API}]}
  mapping: {command: "true", secrets: {db: PASSWORD, key: {file: key.pem}, api: }}
"""
    )
    assert [(use.name, use.env, use.file) for use in spec.steps[0].secrets] == [("db", "", ""), ("api", "API", "")]
    assert [(use.name, use.env, use.file) for use in spec.steps[1].secrets] == [
        ("db", "PASSWORD", ""),
        ("key", "", "key.pem"),
        ("api", "", ""),
    ]
    with pytest.raises(YamlError):
        yaml_format.load("name: p\nsteps: {a: {command: 'true', secrets: 3}}")


def test_outside_of_an_attempt_there_are_no_secrets() -> None:
    with pytest.raises(ContextError, match="inside a step"):
        penstock.secret("db")

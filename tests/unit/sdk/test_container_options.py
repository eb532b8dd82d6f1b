"""How steps name images, in Python and in YAML."""

from __future__ import annotations

from typing import Any

import pytest

from penstock import command, pipeline, yaml_format
from penstock.errors import DefinitionError
from penstock.v1 import pipeline_pb2 as pb


def spec_with(container: Any, **defaults: Any) -> pb.PipelineSpec:
    @pipeline(**defaults)
    def one() -> None:
        command(name="a", shell="true", container=container)

    return one.spec()


@pytest.mark.parametrize(
    ("given", "image", "pull"),
    [
        ("python:3.12", "python:3.12", pb.PULL_POLICY_MISSING),
        ({"image": "a/b"}, "a/b", pb.PULL_POLICY_MISSING),
        ({"image": "a/b", "pull": "always"}, "a/b", pb.PULL_POLICY_ALWAYS),
        ({"image": "a/b", "pull": "never"}, "a/b", pb.PULL_POLICY_NEVER),
    ],
)
def test_python_names_them(given: Any, image: str, pull: int) -> None:
    spec = spec_with(given)
    assert spec.steps[0].environment.container == pb.Container(image=image, pull=pb.PullPolicy.ValueType(pull))
    assert yaml_format.load(yaml_format.dump(spec)) == spec


@pytest.mark.parametrize("given", [3, "", {}, {"image": 3}, {"image": "a", "pull": "now"}, {"name": "a"}, True])
def test_what_names_none_is_refused_where_it_is_written(given: Any) -> None:
    with pytest.raises(DefinitionError, match="container"):
        spec_with(given)


def test_a_pipeline_names_one_for_all_its_steps_and_a_step_none() -> None:
    spec = spec_with(False, defaults={"container": "python:3.12"})
    assert spec.defaults.environment.container.image == "python:3.12"
    assert spec.steps[0].HasField("environment")
    assert spec.steps[0].environment == pb.Environment()
    assert not spec_with(None).steps[0].HasField("environment")


def test_yaml_names_them() -> None:
    spec = yaml_format.load(
        """
name: media
defaults:
  environment: {container: {image: "python:3.12-slim"}}
steps:
  convert:
    command: [ffmpeg]
    environment: {container: {image: "registry.example.com/ffmpeg:7", pull: always}}
  plain:
    command: [go]
    environment: {}
"""
    )
    assert spec.defaults.environment.container.image == "python:3.12-slim"
    convert, plain = spec.steps
    assert convert.environment.container.pull == pb.PULL_POLICY_ALWAYS
    assert plain.environment == pb.Environment()
    assert plain.HasField("environment")

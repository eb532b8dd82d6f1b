"""Images that steps name: which names are refused, with what remedy, and what agents are told."""

from __future__ import annotations

from typing import Any

import pytest
from google.protobuf import json_format

from penstock.v1.pipeline_pb2 import PipelineSpec
from penstock_coordinator.core.plan.compile import compile_plan
from penstock_coordinator.core.plan.model import ContainerEnvironment
from penstock_coordinator.core.plan.validate import problems
from penstock_coordinator.runtime.session import task_spec


def spec(*containers: dict[str, Any]) -> PipelineSpec:
    steps = [
        {"name": f"s{number}", "command": {"argv": ["go"]}, "environment": {"container": container}}
        for number, container in enumerate(containers)
    ]
    return json_format.ParseDict({"name": "p", "steps": steps}, PipelineSpec())


@pytest.mark.parametrize(
    "image",
    [
        "busybox",
        "python:3.12-slim",
        "library/python",
        "a__b/c-d.e_f:T_a-g.1",
        "registry.example.com/team/train:7",
        "localhost:5000/x",
        "REGISTRY.example.com/x",
        "[2001:db8::1]:5000/x:1",
        f"python@sha256:{'a' * 64}",
        f"registry.example.com:443/a/b:1@sha256:{'0' * 64}",
    ],
)
def test_names_that_registries_know(image: str) -> None:
    assert problems(spec({"image": image})) == []


@pytest.mark.parametrize(
    ("image", "says"),
    [
        ("", "it is missing: name an image as [REGISTRY"),
        (" python", "has blanks around it"),
        ("Python:3.12", "has capitals in its name, which no registry takes: use 'python:3.12'"),
        ("https://registry.example.com/x", "is an address"),
        ("--privileged", "is no name of an image: use [REGISTRY"),
        ("-v=/:/host", "is no name of an image"),
        ("a b", "is no name of an image"),
        ("a:b:c", "is no name of an image"),
        ("python:", "is no name of an image"),
        ("python@sha256:123", "is no name of an image"),
        ("a//b", "is no name of an image"),
        ("oci-archive:/etc/x", "is no name of an image"),
        ("ä", "is no name of an image"),
        ("a\n", "has blanks around it"),
        ("a" * 256, "more than 255 characters"),
        ("a" * 513, "past the limit of 512"),
    ],
)
def test_names_that_none_knows(image: str, says: str) -> None:
    (found,) = problems(spec({"image": image}))
    assert (found.field, says in found.description) == ("steps[0].environment.container.image", True), found


def test_another_policy_is_another_environment() -> None:
    made = spec(
        {"image": "a"}, {"image": "a", "pull": "PULL_POLICY_MISSING"}, {"image": "a", "pull": 2}, {"image": "b"}
    )
    plan = compile_plan(made, "d" * 64)
    first, same, always, other = (plan.lines[step.line].environment for step in plan.steps)
    assert first == same
    assert len({first, always, other}) == 3
    assert all(name.startswith("container:") for name in (first, always, other))
    assert plan.environments[always] == ContainerEnvironment("a", "always")
    told = task_spec(plan, plan.steps[2])
    assert (told.environment.container.image, told.environment.container.pull) == ("a", "always")
    assert told.environment_digest == always

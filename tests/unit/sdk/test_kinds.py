"""Kinds and stages in Python: functions with a config that is checked where the pipeline is defined."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import pytest
from pydantic import BaseModel

from penstock import errors, pipeline, stage, step_kind
from penstock.authoring.kinds import StepKind
from penstock.wire_values import from_value


class Mode(enum.Enum):
    FAST = "fast"


@dataclass
class Part:
    name: str
    weight: float = 1


@dataclass
class Source:
    path: Path
    parts: list[Part] = field(default_factory=list)
    mode: Mode = Mode.FAST


class Columns(BaseModel):
    keep: list[str]


@step_kind("kinds_input", retries=2)
def read(config: Source) -> Source:
    return config


@step_kind("kinds_transform")
def pick(config: Columns, data: Any, more: int = 0) -> Any:
    return [config, data, more]


@step_kind("kinds_output", name="shown")
def show(data: Any, config: dict[str, Any] | None = None) -> Any:
    return data, config


@step_kind("kinds_plain")
def plain(config: dict[str, Any], data: Any = None) -> Any:
    return config


def build(body: Any) -> Any:
    body.__name__ = "built"
    return pipeline(body).spec().steps


def refused(call: Any) -> str:
    with pytest.raises(errors.DefinitionError) as caught:
        call()
    return str(caught.value)


def test_stages_become_function_steps() -> None:
    def body(day: str = "") -> None:
        rows = stage("kinds_input", name="users", config={"path": "a.csv", "parts": [{"name": "x"}]})
        picked = stage("kinds_transform", config={"keep": ["a"]}, data=rows, more=3)
        stage("kinds_output", data=picked)

    first, second, third = build(body)
    assert (first.name, first.function.qualname) == ("users", "read")
    assert first.retry.max_attempts == 3
    assert from_value(first.inputs["config"].value) == {
        "path": "a.csv",
        "parts": [{"name": "x", "weight": 1}],
        "mode": "fast",
    }
    assert (second.name, second.inputs["data"].step.step) == ("kinds_transform", "users")
    assert (third.name, set(third.inputs)) == ("shown", {"data"})


def test_a_kind_is_a_step_that_takes_its_type_or_json() -> None:
    def body() -> None:
        read(Source(Path("a.csv"), [Part("x", 2)]))
        read.options(name="other")(config={"path": "a.csv", "parts": [{"name": "x", "weight": 2}]})  # type: ignore[arg-type]  # JSON will do

    first, second = build(body)
    assert first.inputs == second.inputs
    assert second.name == "other"


def test_a_kind_is_mapped_with_the_same_config_for_every_item() -> None:
    def body() -> None:
        cast("Any", pick).map(config={"keep": ["a"]}, data=[1, 2])

    step = build(body)[0]
    assert [from_value(value) for value in step.map.values.values] == [1, 2]
    assert from_value(step.inputs["config"].value) == {"keep": ["a"]}
    assert step.inputs["data"].HasField("item")


def test_outside_a_pipeline_and_on_an_agent_the_function_gets_its_type() -> None:
    config: Any = {"path": "a.csv", "parts": [{"name": "x"}], "mode": "fast"}
    assert read(config) == Source(Path("a.csv"), [Part("x")])
    assert read(config=config) == read(Source(Path("a.csv"), [Part("x")]))
    chosen: Any = {"keep": ["a"]}
    assert pick(chosen, data=1) == [Columns(keep=["a"]), 1, 0]
    assert show(3) == (3, None)
    assert plain({"any": [1]}) == {"any": [1]}


@pytest.mark.parametrize(
    ("kind", "config", "message"),
    [
        ("kinds_input", {}, "kinds_input.config.path: {} does not fit: field required"),
        ("kinds_input", {"path": "a", "prats": []}, "kinds_input.config.prats: [] does not fit: unexpected keyword"),
        ("kinds_input", {"path": "a", "parts": [{"name": 3}]}, "kinds_input.config.parts[0].name: 3 does not fit"),
        ("kinds_input", {"path": "a", "parts": [{"name": "x", "wieght": 1}]}, "config.parts[0].wieght"),
        ("kinds_input", {"path": "a", "mode": "slow"}, "kinds_input.config.mode: 'slow' does not fit"),
        ("kinds_input", 3, "kinds_input.config: 3 does not fit"),
        ("kinds_transform", {"keep": ["a"], "kepe": 1}, "config.kepe: there is no such member (did you mean 'keep'?)"),
        ("kinds_transform", {"keep": "a"}, "kinds_transform.config.keep: 'a' does not fit"),
        ("kinds_plain", [1], "kinds_plain.config: [1] is no config (give a dict)"),
        ("kinds_plain", {"a": object()}, "object is no JSON value"),
    ],
)
def test_configs_that_do_not_fit(kind: str, config: Any, message: str) -> None:
    assert message in refused(lambda: build(lambda: stage(kind, config=config, **_data(kind))))


def _data(kind: str) -> dict[str, Any]:
    return {} if kind == "kinds_input" else {"data": 1}


def test_stages_that_are_refused() -> None:
    assert "there is no kind 'kinds_inptu' (did you mean 'kinds_input'?)" in refused(
        lambda: build(lambda: stage("kinds_inptu"))
    )
    assert "missing a required argument: 'config'" in refused(lambda: build(lambda: stage("kinds_input")))
    assert "'rows'" in refused(lambda: build(lambda: stage("kinds_input", config={"path": "a"}, rows=1)))
    assert "outside a pipeline" in refused(lambda: stage("kinds_input", config={"path": "a"}))


def test_what_a_kind_must_be() -> None:
    assert "no plain function" in refused(lambda: step_kind("a")(read))
    assert "'a b' is no valid name" in refused(lambda: step_kind("a b"))

    @step_kind("kinds_twice")
    def one(data: Any) -> Any:
        return data

    @step_kind("kinds_twice")
    def two(data: Any) -> Any:
        return data

    assert isinstance(one, StepKind)
    message = refused(lambda: build(lambda: stage("kinds_twice", data=1)))
    assert "several functions are of the kind 'kinds_twice'" in message
    assert "takes no config" in refused(lambda: one.read_config({}))

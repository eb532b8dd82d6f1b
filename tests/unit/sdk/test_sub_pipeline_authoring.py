"""Pipelines that call pipelines, what a pipeline gives, and what is sent first."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest

from penstock import errors, joined, pipeline_ref, step, unmapped, yaml_format
from penstock.authoring.pipelines import Pipeline, pipeline
from penstock.authoring.preparing import PreparedPipeline, called_first, prepare
from penstock.authoring.templates import template
from penstock.cli.loading import load_all, load_pipeline
from penstock.v1 import pipeline_pb2 as pb


@step
def count(x: Any = 1) -> Any:
    return x


@pipeline
def load(day: str, rows: int = 10, tables: list[str] = ["a"]) -> Any:  # noqa: B006  # a default of a pipeline
    return count(day)


def build(body: Callable[..., Any]) -> pb.PipelineSpec:
    """The same after a trip through YAML."""
    spec = Pipeline(body, {"name": "p"}).spec()
    assert yaml_format.load(yaml_format.dump(spec)) == spec
    return spec


def steps(body: Callable[..., Any]) -> dict[str, pb.StepSpec]:
    return {each.name: each for each in build(body).steps}


def refuse(body: Callable[..., Any], message: str, kind: type[errors.PenstockError] = errors.DefinitionError) -> None:
    with pytest.raises(kind, match=re.escape(message)) as caught:
        Pipeline(body, {"name": "p"}).spec()
    assert caught.value.remedy


def output(name: str, *path: str) -> pb.OutputReference:
    return pb.OutputReference(step=name, path=path)


def test_a_call_is_a_step() -> None:
    def body(day: str) -> None:
        loaded = load(day, rows=count())
        count(loaded["rows"])
        load(day="x").after(loaded)

    made = steps(body)
    assert list(made) == ["count", "load", "count_2", "load_2"]
    assert made["load"].pipeline == pb.PipelineAction(name="load")
    assert made["load"].inputs["day"].parameter == "day"
    assert made["load"].inputs["rows"].step == output("count")
    assert made["count_2"].inputs["x"].step == output("load", "rows")
    assert list(made["load_2"].depends_on) == ["load"]


def test_options() -> None:
    def body() -> None:
        first = load.options(name="first", version=3, retries=2, overall_timeout="1h")(day="x")
        load.options(when="true", trigger_rule="all_done", allow_failure=True, cleanup=True, depends_on=first)("x")
        pipeline_ref("other", version=2).options(version=0, description="d")(x=1)

    first, second, other = build(body).steps
    assert first.name == "first"
    assert first.pipeline == pb.PipelineAction(name="load", version_number=3)
    assert (first.retry.max_attempts, first.timeouts.overall.seconds) == (3, 3600)
    assert (second.trigger_rule, second.allow_failure, second.cleanup) == (pb.TRIGGER_RULE_ALL_DONE, True, True)
    assert (second.when, list(second.depends_on)) == ("true", ["first"])
    assert other.pipeline == pb.PipelineAction(name="other")
    assert (other.name, other.description) == ("other", "d")


def test_maps() -> None:
    def body(days: list[str]) -> None:
        loaded = load.options(max_parallel=4).map(days, tables=unmapped(["b"]))
        load.zip(day=["x", "y"], rows=[1, 2])
        count.map(loaded)
        pipeline_ref("other").map(x=joined(loaded))

    made = steps(body)
    assert made["load"].map == pb.MapSpec(parameter="days", max_parallel=4)
    assert made["load"].inputs["day"].HasField("item")
    assert made["load_2"].map.combination == pb.MAP_COMBINATION_ZIP
    assert made["count"].map == pb.MapSpec(step=output("load"))
    assert made["other"].map == pb.MapSpec(step=output("load"), joined=True)


def test_what_is_refused() -> None:
    for option, remedy in (
        ("queue", "no agent takes a run of a pipeline"),
        ("memory", "no agent takes a run of a pipeline"),
        ("priority", "no agent takes a run of a pipeline"),
        ("timeout", "use overall_timeout"),
        ("queued_timeout", "use overall_timeout"),
        ("concurrency", "max_active_runs"),
        ("retrys", "did you mean 'retry'?"),
    ):
        with pytest.raises(errors.DefinitionError, match=f"^{option}: .*{re.escape(remedy)}"):
            cast("Any", load).options(**{option: 1})
    refuse(lambda: load(), "missing a required argument: 'day'")
    refuse(lambda: load("x", size=3), "unexpected keyword argument 'size'")
    refuse(lambda: load("x", rows="many"), "load.rows: 'many' does not fit the type int")
    refuse(lambda: load.map(["x", 3]), "load.day: 3 does not fit the type string")
    refuse(lambda: load.map(["x"], rows=unmapped("many")), "load.rows: 'many' does not fit the type int")
    refuse(lambda: load.options(version=-1), "version: -1 is out of bounds")
    refuse(lambda: load.options(version=1)("x"), "given by position")
    refuse(lambda: pipeline_ref("other")(1), "given by position")
    refuse(lambda: pipeline_ref("no name"), "is no valid name")
    refuse(lambda: load(unmapped("x")), "is given to a plain call")
    with pytest.raises(errors.DefinitionError, match="is used outside a pipeline"):
        pipeline_ref("other")(x=1)
    with pytest.raises(errors.DefinitionError, match="is used outside a pipeline"):
        load.map(["x"])


def test_the_output_of_a_pipeline() -> None:
    assert build(lambda: count()["rows"]).output == output("count", "rows")
    assert build(lambda: count.map([1])).output == output("count")
    several = build(lambda: {"a": count(), "b": load("x")["n"]})
    assert dict(several.outputs) == {"a": output("count"), "b": output("load", "n")}
    silent = build(lambda: (count(), None)[1])
    assert not silent.HasField("output")
    assert not silent.outputs
    other = Pipeline(lambda: count(), {"name": "q"})
    other.graph()
    refuse(lambda: (count(), 5)[1], "output: the body returns a value of the type int (return the output of a step")
    refuse(lambda: (count(), count()), "output: the body returns a value of the type tuple")
    refuse(lambda: {"a": [count()]}, "output.a: the body returns a value of the type list")
    refuse(lambda: {"a b": count()}, "'a b' is no valid name")
    refuse(lambda day: {"day": day, "n": count()}, "output.day: the body returns <parameter day>")


@pipeline
def countdown(n: int) -> None:
    countdown.options(when="params.n > 0")(count(n))


@pipeline
def nightly(days: list[str]) -> Any:
    return {"loaded": load.map(days), "again": load("x"), "down": countdown(3), "old": weekly.options(version=2)()}


@pipeline
def weekly() -> Any:
    return nightly(["x"])


@pipeline
def chicken() -> None:
    egg()


@pipeline
def egg() -> None:
    chicken()


def test_what_is_called_is_sent_first_and_once() -> None:
    assert called_first([weekly, load]) == [load, countdown, nightly, weekly]
    with pytest.raises(errors.DefinitionError, match=r"circle: 'egg' calls 'chicken' calls 'egg' .*pipeline_ref"):
        called_first([egg])


@template
def sized(size: int) -> Pipeline:
    @pipeline(name="sized", bundle=False)
    def inner(n: int) -> Any:
        for _ in range(size):
            pipeline_ref("leaf")()
        return inner.options(name="again", when="params.n > 0")(n)

    return inner


def test_templates_as_sub_pipelines() -> None:
    def body() -> None:
        sized(size=2)(1)
        sized(size=2)(2)

    first, own = prepare([Pipeline(body, {"name": "p"})])
    assert [each.name for each in first.spec.steps] == ["leaf", "leaf_2", "again"]
    assert first.spec.template.arguments["size"].number_value == 2
    assert [each.pipeline.name for each in own.spec.steps] == ["sized", "sized"]

    def different() -> None:
        sized(size=2)(1)
        sized(size=3)(1)

    with pytest.raises(errors.DefinitionError, match="two pipelines that are different have the name 'sized'"):
        prepare([Pipeline(different, {"name": "p"})])


FILE = """
from penstock import pipeline, step

@step
def count(): ...

@pipeline
def first(): count()

@pipeline
def second(): first()

@pipeline
def both():
    first()
    count()
"""


def names(prepared: list[PreparedPipeline]) -> list[str]:
    return [each.spec.name for each in prepared]


def test_files_with_several_pipelines(tmp_path: Path) -> None:
    file = tmp_path / "flows.py"
    file.write_text(FILE)
    assert names(load_all(str(file))) == ["first", "second", "both"]
    assert names(load_all(f"{file}:both")) == ["first", "both"]
    assert load_pipeline(f"{file}:first").called == ()
    with pytest.raises(errors.LoadError, match=r"several pipelines: both, second \(choose one"):
        load_pipeline(str(file))
    file.write_text(FILE + "\n@pipeline\ndef all(): second(), both()\n")
    loaded = load_pipeline(str(file))
    assert names(loaded.prepared()) == ["first", "second", "both", "all"]
    first, second, both, _ = loaded.prepared()
    assert first.bundle is not None
    assert first.bundle is both.bundle
    assert first.spec.bundle_digest == first.bundle.digest
    assert second.bundle is None
    assert loaded.bundle is None

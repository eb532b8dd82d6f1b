"""Maps in Python and in YAML: over other maps, over several lists, with a limit."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from penstock import Stdout, command, errors, joined, nested, stage, step, step_kind, unmapped, yaml_format
from penstock.authoring.pipelines import Pipeline
from penstock.v1 import pipeline_pb2 as pb


@step
def one(x: Any = 1) -> Any:
    return x


@step
def two(a: int, b: int = 2) -> int:
    return a + b


def build(body: Callable[..., None]) -> dict[str, pb.StepSpec]:
    """Its steps, which are the same after a trip through YAML."""
    spec = Pipeline(body, {"name": "p"}).spec()
    assert yaml_format.load(yaml_format.dump(spec)) == spec
    return {each.name: each for each in spec.steps}


def output(name: str, *path: str) -> pb.OutputReference:
    return pb.OutputReference(step=name, path=path)


def test_item_by_item() -> None:
    def body(items: list[int]) -> None:
        first = one.map(items)
        two.options(max_parallel=3).map(first, b=unmapped(first))
        one.map(joined(first))
        one.map(nested(first))
        one.map(nested(first["rows"]["all"]))

    steps = build(body)
    assert steps["one"].map == pb.MapSpec(parameter="items")
    assert steps["two"].map == pb.MapSpec(step=output("one"), max_parallel=3)
    assert steps["two"].inputs["a"].HasField("item")
    assert steps["two"].inputs["b"].step == output("one")
    assert steps["one_2"].map == pb.MapSpec(step=output("one"), joined=True)
    assert steps["one_3"].map == pb.MapSpec(step=output("one"), nested=pb.ItemReference())
    assert steps["one_4"].map == pb.MapSpec(step=output("one"), nested=pb.ItemReference(path=["rows", "all"]))


def test_several_lists() -> None:
    def body(items: list[int]) -> None:
        first = one.map(items)
        two.map(items, [1, 2])
        two.zip(first, b=joined(first))

    steps = build(body)
    product, zipped = steps["two"], steps["two_2"]
    assert [(each.name, each.WhichOneof("over")) for each in product.map.lists] == [("a", "parameter"), ("b", "values")]
    assert product.map.combination == pb.MAP_COMBINATION_UNSPECIFIED
    assert product.inputs["b"].item == pb.ItemReference(path=["b"])
    assert [each.step for each in zipped.map.lists] == [output("one")] * 2
    assert zipped.map.combination == pb.MAP_COMBINATION_ZIP


def test_commands() -> None:
    def body(items: list[int], name: str) -> None:
        first = command.map(
            "first",
            shell='echo "$PENSTOCK_INPUT_N"',
            inputs={"n": items, "name": name},
            outputs={"text": Stdout()},
            retries=1,
            max_parallel=2,
        )
        command.map("second", argv=["true"], inputs={"t": nested(first["text"]), "all": unmapped(first)})
        command.zip("third", argv=["true"], inputs={"a": [1, 2], "b": joined(first)})

    steps = build(body)
    first, third = steps["first"], steps["third"]
    assert first.map == pb.MapSpec(parameter="items", max_parallel=2)
    assert (first.inputs["n"], first.inputs["name"].parameter) == (pb.Input(item=pb.ItemReference()), "name")
    assert (first.command.shell, first.retry.max_attempts) == ('echo "$PENSTOCK_INPUT_N"', 2)
    assert steps["second"].map == pb.MapSpec(step=output("first"), nested=pb.ItemReference(path=["text"]))
    assert steps["second"].inputs["all"].step == output("first")
    assert third.map.combination == pb.MAP_COMBINATION_ZIP
    assert third.inputs["b"].item == pb.ItemReference(path=["b"])


@step_kind("mapped-kind")
def add(config: dict[str, Any], x: int, y: int = 0) -> int:
    return x + y + int(config["n"])


@step_kind("mapped-kind-of-a-list")
def pick(config: list[str], x: int) -> str:
    return config[x]


def test_the_config_of_a_stage_is_the_same_for_every_item() -> None:
    def body() -> None:
        stage.map("mapped-kind-of-a-list", config=["a", "b"], x=[0, 1])

    made = build(body)["mapped-kind-of-a-list"]
    assert list(made.inputs["config"].value.list_value) == ["a", "b"]
    assert list(made.map.values) == [0, 1]
    assert not made.map.lists


def test_stages() -> None:
    def body(items: list[int]) -> None:
        first = stage.map("mapped-kind", name="first", config={"n": 1}, max_parallel=2, x=items)
        stage.zip("mapped-kind", config={"n": 2}, x=joined(first), y=[1, 2])
        stage("mapped-kind", config={"n": 2}, x=first)

    steps = build(body)
    assert steps["first"].map == pb.MapSpec(parameter="items", max_parallel=2)
    assert steps["first"].inputs["config"].value.struct_value["n"] == 1
    assert [each.name for each in steps["mapped-kind"].map.lists] == ["x", "y"]
    assert not steps["mapped-kind_2"].HasField("map")


def test_the_page_says_the_same_in_python_and_yaml() -> None:
    page = (Path(__file__).parents[3] / "docs" / "maps.md").read_text()
    (python,), (text,) = (re.findall(rf"```{kind}\n(.*?)```", page, re.DOTALL) for kind in ("python", "yaml"))
    made: dict[str, Any] = {"__name__": "page"}
    exec(python.replace("@pipeline", "@pipeline(bundle=True)"), made)
    drawn = {each.name: each.over for each in made["tables"].graph().nodes.values()}
    written = {each.name: each.map for each in yaml_format.load(text).steps}
    assert drawn.keys() == written.keys()
    assert [drawn["check"].joined, drawn["load"].nested, drawn["load"].max_parallel] == [False, ("rows",), 8]
    assert written["check"] == pb.MapSpec(step=output("fetch"))
    assert written["load"] == pb.MapSpec(step=output("fetch"), nested=pb.ItemReference(path=["rows"]), max_parallel=8)


def refuse(body: Callable[..., Any], message: str) -> None:
    with pytest.raises(errors.DefinitionError, match=message):
        Pipeline(body, {"name": "p"}).spec()


def test_what_is_refused() -> None:
    refuse(lambda: two.map(1, 2), "no argument is a list to map over")
    refuse(lambda a: two.map(unmapped(a), 2), "no argument is a list to map over")
    refuse(lambda a: two.zip(a, 2), "only a is a list")
    refuse(lambda a: one.map(joined(a)), r"joined\(ParameterReference\) is given")
    refuse(lambda: one.map(nested(one())), "is of a step that is not mapped")
    refuse(lambda: one.map(joined(one.map([1])["0"])), "is a part of one item")
    refuse(lambda: two.map(nested(one.map([1])), [2]), r"nested\(...\) is one of several lists")
    refuse(lambda: two(joined(one.map([1]))), r"joined\(...\) is given to a plain call")
    refuse(lambda: one.options(max_parallel=2)(), "max_parallel is given to a plain call")
    for verb in (two.map, two.zip):
        with pytest.raises(errors.DefinitionError, match="used outside a pipeline"):
            verb([1], [2])
    refuse(lambda: command.map("c", shell="true", inputs={"x": 1}), "c.map: no argument is a list to map over")
    for use in (command.map, command.zip):
        with pytest.raises(errors.DefinitionError, match=r"c: command\.(map|zip)\(...\) is used outside a pipeline"):
            use("c", shell="true", inputs={"x": [1]})
    with pytest.raises(errors.DefinitionError, match=r"stage\.map\(...\) is used outside a pipeline"):
        stage.map("mapped-kind", config={}, x=[1])


FORMS: list[tuple[str, pb.MapSpec]] = [
    ("{over: '${params.n}', max_parallel: 2}", pb.MapSpec(parameter="n", max_parallel=2)),
    ("{over: '${steps.b.output}', max_parallel: 2}", pb.MapSpec(step=output("b"), max_parallel=2)),
    ("{joined: '${steps.b.output}'}", pb.MapSpec(step=output("b"), joined=True)),
    ("{step: b, joined: true, max_parallel: 1}", pb.MapSpec(step=output("b"), joined=True, max_parallel=1)),
    ("{nested: '${steps.b.output}'}", pb.MapSpec(step=output("b"), nested=pb.ItemReference())),
    (
        "{nested: '${steps.b.output.rows}', max_parallel: 4}",
        pb.MapSpec(step=output("b"), nested=pb.ItemReference(path=["rows"]), max_parallel=4),
    ),
    (
        "{step: b, nested: {path: [rows]}}",
        pb.MapSpec(step=output("b"), nested=pb.ItemReference(path=["rows"])),
    ),
    (
        "{product: {x: '${params.n}', y: '${steps.b.output.rows}'}}",
        pb.MapSpec(lists=[pb.MapList(name="x", parameter="n"), pb.MapList(name="y", step=output("b", "rows"))]),
    ),
    (
        "{zip: {x: '${params.n}', y: {step: b}}, max_parallel: 3}",
        pb.MapSpec(
            lists=[pb.MapList(name="x", parameter="n"), pb.MapList(name="y", step=output("b"))],
            combination=pb.MAP_COMBINATION_ZIP,
            max_parallel=3,
        ),
    ),
    (
        "{lists: [{name: x, parameter: n}], combination: product}",
        pb.MapSpec(lists=[pb.MapList(name="x", parameter="n")], combination=pb.MAP_COMBINATION_PRODUCT),
    ),
]


def read(text: str) -> pb.PipelineSpec:
    head = "name: p\nsteps:\n  b: {command: 'true'}\n  a:\n    command: 'true'\n    map: "
    return yaml_format.load(head + text)


@pytest.mark.parametrize(("text", "expected"), FORMS, ids=[text for text, _ in FORMS])
def test_forms_of_yaml(text: str, expected: pb.MapSpec) -> None:
    spec = read(text)
    assert spec.steps[1].map == expected
    assert yaml_format.load(yaml_format.dump(spec)) == spec


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{joined: '${params.n}'}", "is no output of a step"),
        ("{nested: some}", "'some' is no output of a step"),
        ("{product: [1]}", "product needs named lists"),
        ("{zip: {x: 3}}", "3 is no list to map over"),
        ("{over: [1], joined: '${steps.b.output}'}", "over and joined are both given"),
        ("{over: [1], step: b}", "over and step are both given"),
        ("{zip: {x: [1]}, product: {y: [1]}}", "product and zip are both given"),
    ],
)
def test_forms_that_are_refused(text: str, message: str) -> None:
    with pytest.raises(errors.YamlError, match=message):
        read(text)

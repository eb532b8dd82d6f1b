"""Templates in Python: pipelines whose structure has arguments."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import pytest

from penstock import Client, Pipeline, errors, pipeline, step, template, yaml_format
from penstock.cli.loading import load_pipeline
from penstock.wire_values import from_value


@step
def load(table: str, day: str) -> int:
    return len(table + day)


@step
def total(**rows: int) -> int:
    return sum(rows.values())


@template
def load_tables(tables: list[str], check: bool = True, mode: Literal["full", "delta"] = "full") -> Pipeline:
    @pipeline(name=f"load_tables_{mode}")
    def loads(day: str) -> None:
        rows = {table: load.options(name=f"load_{table}")(table, day) for table in tables}
        if check:
            total(**rows)

    return loads


@dataclass
class Source:
    table: str
    limit: int = 10


@template
def from_sources(sources: list[Source], extra: Any = None) -> Pipeline:
    @pipeline
    def loads() -> None:
        for source in sources:
            load.options(name=source.table)(source.table, str(source.limit))

    return loads


def names(made: Pipeline) -> list[str]:
    return [each.name for each in made.spec().steps]


def refused(call: Any, kind: type[errors.PenstockError] = errors.DefinitionError) -> str:
    with pytest.raises(kind) as caught:
        call()
    return str(caught.value)


def test_arguments_shape_the_graph_and_parameters_stay_parameters() -> None:
    made = load_tables(["users", "orders"])
    assert names(made) == ["load_users", "load_orders", "total"]
    assert [each.name for each in made.spec().parameters] == ["day"]
    assert names(load_tables(tables=["users"], check=False)) == ["load_users"]
    assert load_tables(["users"], mode="delta").name == "load_tables_delta"


def test_the_specification_tells_what_it_was_made_from() -> None:
    use = load_tables(["users", "orders"], check=False).spec().template
    assert use.name == "load_tables"
    assert {name: from_value(value) for name, value in use.arguments.items()} == {
        "tables": ["users", "orders"],
        "check": False,
        "mode": "full",
    }
    made = from_sources([Source("users"), Source("orders", 3)], extra={"a": None})
    assert from_value(made.spec().template.arguments["sources"]) == [
        {"table": "users", "limit": 10},
        {"table": "orders", "limit": 3},
    ]
    assert yaml_format.load(made.to_yaml()) == made.spec()


def test_the_same_arguments_give_the_same_specification_and_others_another() -> None:
    def digest(made: Pipeline) -> bytes:
        return made.spec().SerializeToString(deterministic=True)

    assert digest(load_tables(["a", "b"])) == digest(load_tables(tables=["a", "b"], mode="full"))
    assert digest(load_tables(["a", "b"])) != digest(load_tables(["b", "a"]))
    assert not pipeline(one_load).spec().HasField("template")


def any_number(*tables: str) -> None:
    pass


def one_load() -> None:
    load("a", "b")


def test_a_shared_pipeline_is_not_changed_by_the_template_that_returns_it() -> None:
    shared = pipeline(one_load)

    @template
    def same(size: int = 1) -> Pipeline:
        return shared

    assert same(size=2).spec().template.name == "same"
    assert not shared.spec().HasField("template")


def test_arguments_that_do_not_hold() -> None:
    loads: Any = load_tables  # a type checker would refuse these calls too
    sources: Any = from_sources
    assert refused(lambda: loads()) == (
        "load_tables.tables: the argument is missing and has no default (give tables=..., or --set tables=VALUE)"
    )
    assert refused(lambda: loads(tabels=["a"])) == (
        "load_tables.tabels: the template has no such argument (did you mean 'tables'?)"
    )
    assert "tables: 'a' does not fit: input should be a valid list (the type is list[str])" in refused(
        lambda: loads(tables="a")
    )
    assert "load_tables.tables[1]: 3 does not fit" in refused(lambda: loads(tables=["a", 3]))
    assert "load_tables.mode: 'fast' does not fit" in refused(lambda: loads(["a"], mode="fast"))
    assert "given twice" in refused(lambda: loads(["a"], tables=["a"]))
    assert "4 arguments are given by position" in refused(lambda: loads(["a"], True, "full", 1))
    assert "from_sources.sources[0].limit" in refused(lambda: sources([{"table": "a", "limit": "many"}]))
    assert "from_sources.extra: the value has no form in JSON" in refused(lambda: sources([], extra=object()))


def test_what_a_template_must_be() -> None:
    @template
    def returns_nothing(size: int) -> Any:
        return None

    @template
    def calls_a_step() -> Any:
        load("a", "b")

    @template
    def with_a_set(names: set[str]) -> Pipeline:
        return load_tables(["a"])

    @template
    def doubled(tables: list[str]) -> Pipeline:
        @pipeline
        def loads() -> None:
            for table in tables:
                load.options(name=f"load_{table}")(table, "")

        return loads

    assert "returned None, no pipeline (return the function that has @pipeline)" in refused(lambda: returns_nothing(1))
    assert "a step is called in the body of the template itself" in refused(calls_a_step)
    assert "a set has no order (use a list)" in refused(lambda: with_a_set({"a"}))
    assert "steps.load_a: two steps have this name" in refused(lambda: doubled(["a", "a"]).spec())
    assert "name each argument" in refused(lambda: template(cast("Any", any_number)))
    assert "no function" in refused(lambda: template(cast("Any", 3)))


def test_texts_of_a_command_line_are_read_by_the_annotation() -> None:
    made = load_tables.from_texts({"tables": '["a", "b"]', "check": "false", "mode": "delta"})
    assert names(made) == ["load_a", "load_b"]
    assert names(from_sources.from_texts({"sources": '[{"table": "5"}]', "extra": "[1]"})) == ["5"]
    use = from_sources.from_texts({"sources": "[]", "extra": "x y"}).template
    assert use is not None
    assert use.arguments["extra"] == "x y"


FILE = """
from penstock import Pipeline, pipeline, step, template

@step
def load(table: str) -> str:
    return table

@template
def tables(names: list[str]) -> Pipeline:
    @pipeline(name="loads")
    def loads() -> None:
        for name in names:
            load.options(name=name)(name)
    return loads
"""


def test_a_file_with_a_template(tmp_path: Path) -> None:
    file = tmp_path / "flows.py"
    file.write_text(FILE)
    loaded = load_pipeline(f"{file}:tables", None, {"names": '["a", "b"]'})
    assert [each.name for each in loaded.spec.steps] == ["a", "b"]
    assert loaded.spec.name == "loads"
    assert loaded.spec.steps[0].function.module == "flows"
    assert loaded.bundle is not None
    assert "give names=..., or --set names=VALUE" in refused(lambda: load_pipeline(str(file)))


def test_a_file_with_templates_and_pipelines(tmp_path: Path) -> None:
    file = tmp_path / "flows.py"
    file.write_text(FILE + "\nsmall = tables(names=['a'])\n")
    assert len(load_pipeline(f"{file}:small").spec.steps) == 1
    assert len(load_pipeline(str(file), None, {"names": '["a", "b"]'}).spec.steps) == 2
    assert "several pipelines and templates: loads, tables (choose one: flows.py:NAME)" in refused(
        lambda: load_pipeline(str(file)), errors.LoadError
    )
    file.write_text(FILE + "\nsmall = tables(names=['a'])\nlarge = tables(names=['a', 'b'])\n")
    assert "templates: large, small, tables (" in refused(lambda: load_pipeline(str(file)), errors.LoadError)
    assert "names: 'loads' is no template" in refused(
        lambda: load_pipeline(f"{file}:small", None, {"names": "[]"}), errors.ParameterError
    )


async def test_a_template_is_no_pipeline_to_start() -> None:
    client = Client("127.0.0.1:1")
    calls: list[Any] = [client.start(cast("Any", load_tables)), client.create_pipeline(cast("Any", load_tables))]
    for call in calls:
        with pytest.raises(errors.DefinitionError, match=r"is none \(call it with its arguments: load_tables"):
            await call

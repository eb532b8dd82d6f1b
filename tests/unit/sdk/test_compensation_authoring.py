"""What undoes a step, in Python and in YAML."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest

from penstock import command, errors, pipeline_ref, step, yaml_format
from penstock.authoring.pipelines import Pipeline, pipeline
from penstock.v1 import pipeline_pb2 as pb


@step(retries=2)
def cancel(output: Any, kind: str, why: str = "") -> None: ...


@step(compensate=cancel)
def book(kind: str, price: int = 1) -> Any: ...


@pipeline
def refund(kind: str, output: Any = None, rate: int = 1) -> None:
    book(kind)


def build(body: Callable[..., Any], **options: Any) -> dict[str, pb.StepSpec]:
    """The steps by name, the same after a trip through YAML."""
    spec = Pipeline(body, {"name": "p", **options}).spec()  # type: ignore[typeddict-item]  # as users give them
    assert yaml_format.load(yaml_format.dump(spec)) == spec
    return {each.name: each for each in spec.steps}


def refuse(body: Callable[..., Any], message: str, **options: Any) -> None:
    with pytest.raises(errors.DefinitionError, match=re.escape(message)) as caught:
        build(body, **options)
    assert caught.value.remedy


def test_arguments_are_found_by_name() -> None:
    def body(n: int) -> None:
        book("car", n)
        book("hotel", price=n)

    made = build(body)
    assert list(made) == ["book", "undo_book", "book_2", "undo_book_2"]
    assert [made[name].compensate for name in ("book", "book_2", "undo_book")] == ["undo_book", "undo_book_2", ""]
    assert made["undo_book"].inputs["output"].step.step == "book"
    assert made["undo_book_2"].inputs["kind"] == made["book_2"].inputs["kind"]
    assert sorted(made["undo_book"].inputs) == ["kind", "output"]
    assert made["undo_book"].retry.max_attempts == 3


def test_what_undoes_is_called_after_the_step_or_as_it_says() -> None:
    def body() -> None:
        for kind in ("car", "hotel"):
            book.options(name=kind)(kind)
        book.options(name="room", compensate=cancel.options(name="give_up"))("room")
        book.options(name="n" * 128)("long")

    made = build(body)
    assert [made[name].compensate for name in ("car", "hotel", "room")] == ["undo_car", "undo_hotel", "give_up"]
    assert made["n" * 128].compensate == f"undo_{'n' * 123}"


def test_of_a_map_the_item_is_meant() -> None:
    def body(kinds: list[str]) -> None:
        book.map(kinds)

    made = build(body)
    assert not made["undo_book"].HasField("map")
    assert made["undo_book"].inputs["kind"].HasField("item")


def test_a_call_may_be_what_undoes() -> None:
    def body(size: str) -> None:
        made = command("make", argv=["make", "vm"])
        undo = command("remove", argv=["rm"], inputs={"id": made["id"], "size": size})
        made.compensate(undo)

    made = build(body)
    assert (made["make"].compensate, list(made["remove"].inputs["id"].step.path)) == ("remove", ["id"])


def test_a_pipeline_may_be_what_undoes() -> None:
    def body() -> None:
        book.options(compensate=refund.options(overall_timeout="1m"))("car")

    made = build(body)
    assert made["undo_book"].pipeline.name == "refund"
    assert sorted(made["undo_book"].inputs) == ["kind", "output"]


def test_a_step_can_do_without() -> None:
    assert list(build(lambda: book.options(compensate=None)("car"))) == ["book"]


def test_what_becomes_of_a_failure() -> None:
    def body() -> None:
        book("car")

    assert Pipeline(body, {"name": "p", "on_failure": "rollback"}).spec().on_failure == pb.ON_FAILURE_ROLLBACK
    assert Pipeline(body, {"name": "p", "on_failure": "leave"}).spec() == Pipeline(body, {"name": "p"}).spec()
    refuse(body, "'undo' is not known", on_failure="undo")


@step
def needs_more(output: Any, receipt: str) -> None: ...


def test_refusals() -> None:
    refuse(lambda: book.options(compensate=needs_more)("car"), "needs the argument 'receipt'")
    refuse(lambda: book.options(compensate="cancel")("car"), "'cancel' is no step")
    refuse(lambda: book.options(compensate=cancel.options(when="true"))("car"), "runs when the run is rolled back")
    refuse(lambda: book.options(compensate=pipeline_ref("refund"))("car"), "are not known here")
    plain = book.options(compensate=None)

    def twice() -> None:
        undo = plain("undo")
        plain("a").compensate(undo)
        plain("b").compensate(undo)

    refuse(twice, "undoes 'book_2' already")

    def itself() -> None:
        made = plain("a")
        made.compensate(made)

    refuse(itself, "cannot undo itself")

    def two() -> None:
        plain("a").compensate(plain("u")).compensate(plain("v"))

    refuse(two, "is undone by 'book_2' already")


LONG = """
name: p
on_failure: rollback
steps:
  make:
    command: echo hi
    compensate:
      command: echo no
      inputs: {out: "${steps.make.output}"}
"""


def test_the_long_form_of_yaml_is_a_step_of_its_own() -> None:
    spec = yaml_format.load(LONG)
    assert spec.on_failure == pb.ON_FAILURE_ROLLBACK
    assert [(each.name, each.compensate) for each in spec.steps] == [("make", "undo_make"), ("undo_make", "")]
    assert spec.steps[1].inputs["out"].step.step == "make"
    named = yaml_format.load(LONG.replace("      command: echo no", "      name: clear\n      command: echo no"))
    assert [each.name for each in named.steps] == ["make", "clear"]


def test_steps_as_a_list_stay_one() -> None:
    text = "name: p\nsteps:\n- {name: a, command: x, compensate: {command: y}}\n- {name: b, command: z}\n"
    assert [each.name for each in yaml_format.load(text).steps] == ["a", "b", "undo_a"]


def test_a_template_writes_out_what_undoes_each_copy() -> None:
    text = """
name: p
structure: {zones: {type: list, default: [eu, us]}}
steps:
  make:
    for_each: {zone: "$[zones]"}
    command: [make, "$[zone]"]
    compensate: {command: [remove, "$[zone]"]}
"""
    steps = {each.name: each for each in yaml_format.load(text).steps}
    assert list(steps) == ["make_eu", "make_us", "undo_make_eu", "undo_make_us"]
    assert list(steps["undo_make_us"].command.argv) == ["remove", "us"]


def test_errors_name_the_place() -> None:
    with pytest.raises(errors.YamlError, match="there is no such field") as caught:
        yaml_format.load(LONG.replace("      command: echo no", "      comand: echo no"))
    assert (caught.value.line, caught.value.remedy) == (8, "did you mean 'command'?")
    with pytest.raises(errors.YamlError, match="there is a step 'undo_make' already"):
        yaml_format.load(LONG + "  undo_make: {command: x}\n")

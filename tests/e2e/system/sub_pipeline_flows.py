"""Pipelines that call pipelines, and commands and stages that are mapped."""

from __future__ import annotations

from pathlib import Path
from threading import Event
from typing import Any

from penstock import Stdout, command, pipeline, pipeline_ref, stage, step, step_kind, template


@step
def count(day: str) -> dict[str, int]:
    return {"rows": len(day)}


@step
def total(loaded: list[dict[str, int]], more: int) -> int:
    return sum(each["rows"] for each in loaded) + more


@step
def fails() -> None:
    raise ValueError("no such day")


@step
def stays(mark: str) -> None:
    Path(mark).touch()
    Event().wait(600)


@pipeline
def sub_py_day(day: str, factor: int = 1) -> Any:
    """Its output is an object."""
    counted = count(day)
    text = command(
        "text",
        shell='echo "$((PENSTOCK_INPUT_N * PENSTOCK_INPUT_F))"',
        inputs={"n": counted["rows"], "f": factor},
        outputs={"number": Stdout(json=True)},
    )
    return {"rows": counted["rows"], "times": text["number"]}


@template
def summed(parts: int) -> Any:
    @pipeline(name="sub_py_summed")
    def body(loaded: list[Any]) -> Any:
        made = [total.options(name=f"part_{part}")(loaded, part) for part in range(parts)]
        return made[-1]

    return body


@pipeline
def month(days: list[str]) -> Any:
    """Two sub-pipelines, one of them mapped, and one made by a template."""
    loaded = sub_py_day.options(max_parallel=2).map(days, factor=10)
    more = sub_py_day.options(name="more")("four", factor=2)
    return {"sum": summed(parts=2)(loaded), "loaded": loaded, "times": more["times"]}


@pipeline
def broken() -> Any:
    return fails()


@pipeline
def long_leaf(mark: str) -> None:
    stays(mark)


@pipeline
def long_run(mark: str) -> Any:
    return long_leaf(mark)


@pipeline
def by_name(day: str) -> Any:
    """The versions of a pipeline that is not at hand."""
    old = pipeline_ref("sub_py_versions", version=1)()
    new = pipeline_ref("sub_py_versions")()
    return {"old": old, "new": new, "day": sub_py_day(day)["rows"]}


@step_kind("sub_py_add")
def add(config: dict[str, int], x: int) -> int:
    return x + config["n"]


@pipeline
def mapped(numbers: list[int]) -> Any:
    """Commands and stages, item by item after each other."""
    doubled = command.map(
        "double", shell='echo "$((PENSTOCK_INPUT_N * 2))"', inputs={"n": numbers}, outputs={"n": Stdout(json=True)}
    )
    back = command.map(
        "back",
        shell='echo "$PENSTOCK_INPUT_ONE" >&2; echo "$PENSTOCK_ITEM"',
        inputs={"one": doubled},
        outputs={"item": Stdout(json=True)},
    )
    sums = stage.map("sub_py_add", config={"n": 1}, x=numbers, max_parallel=2)
    pairs = command.zip(
        "pairs",
        argv=["sh", "-c", 'echo "$PENSTOCK_INPUT_A-$PENSTOCK_INPUT_B"'],
        inputs={"a": numbers, "b": ["x", "y", "z"]},
        outputs={"text": Stdout()},
    )
    return {"doubled": doubled, "items": back, "sums": sums, "pairs": pairs}

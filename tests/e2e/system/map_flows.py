"""Pipelines of maps over maps."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

from penstock import context, joined, nested, pipeline, step, unmapped


@step(retries=1)
def fetch(name: str) -> dict[str, Any]:
    """ "bad" fails for good, "flaky" at its first attempt."""
    if name == "bad" or (name == "flaky" and context.current().attempt == 1):
        raise ValueError(name)
    return {"name": name, "rows": [f"{name}{number}" for number in range(len(name) - 2)]}


@step(when='item == null || item.name != "none"', trigger_rule="all_done")
def check(table: dict[str, Any] | None) -> str:
    here = context.current()
    return f"{table['name'] if table else None}@{here.item}"


@step
def load(row: str) -> dict[str, Any]:
    place = context.current().item
    assert isinstance(place, tuple)
    print(f"{row} at {place}")
    return {"row": row, "place": list(place), "letters": list(row)}


@step
def letter(one: str) -> str:
    return f"{one}@{context.current().item}"


@step
def pair(left: Any, right: Any) -> list[Any]:
    return [left, right]


@step
def total(loaded: list[Any], letters: list[Any], checked: list[Any]) -> list[Any]:
    return [loaded, letters, checked]


@pipeline
def tables(names: list[str]) -> None:
    """Item by item, nested two levels deep, and joined."""
    fetched = fetch.options(allow_failure=True).map(names)
    checked = check.map(fetched)
    loaded = load.options(trigger_rule="all_success", max_parallel=2).map(nested(fetched["rows"]))
    letters = letter.map(nested(loaded["letters"]))
    total(loaded, letters, checked)
    pair.options(name="counted").map(joined(loaded), right=unmapped("x"))


@pipeline
def tables_that_end_well(names: list[str]) -> None:
    fetched = fetch.map(names)
    loaded = load.map(nested(fetched["rows"]))
    letters = letter.map(nested(loaded["letters"]))
    total(loaded, letters, check.map(fetched))


@pipeline
def combinations(names: list[str], numbers: list[int]) -> None:
    pair.options(name="product").map(names, numbers)
    pair.options(name="zip").zip(names, right=numbers)
    pair.options(name="none").map([], numbers)


@step
def number(value: int) -> int:
    return value + 1


@step
def number_but_the_first(value: int, gate: str) -> int:
    """The item 0 waits until the test makes the file, or, when that has failed since long, gives up."""
    pause, tries = threading.Event(), 30_000
    while value == 0 and tries and not Path(gate).exists():
        pause.wait(0.01)
        tries -= 1
    return value + 1


@pipeline
def wide(items: list[int], gate: str) -> None:
    """Item by item over three steps."""
    first = number_but_the_first.options(name="first").map(items, gate=gate)
    second = number.options(name="second").map(first)
    number.options(name="third").map(second)

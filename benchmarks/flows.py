"""The pipelines that are measured."""

from __future__ import annotations

import time
from typing import Any

from benchmarks.step_body import work, write
from penstock import pipeline, step, unmapped

UNSERVED = "unserved"
"""A queue that no agent serves, unless somebody starts one."""


@step
def advance(value: int, position: int) -> int:
    work(position)
    return value + 1


@step
def part(value: int, item: int) -> int:
    work(item)
    return value + item


@step
def join(values: list[int]) -> int:
    work(-1)
    return sum(values)


@step
def add(left: int, middle: int, right: int) -> int:
    work(4)
    return left + middle + right


@pipeline
def chain40(start: int = 0) -> Any:
    value: Any = start
    for position in range(40):
        value = advance.options(name=f"s{position}")(value, position)
    return value


@pipeline
def fan1000(items: list[int]) -> Any:
    first = advance(0, -2)
    return join(part.map(unmapped(first), items))


@pipeline
def diamond() -> Any:
    top = advance.options(name="top")(0, 0)
    sides = [advance.options(name=f"side{number}")(top, number) for number in (1, 2, 3)]
    return add(*sides)


@pipeline
def single() -> Any:
    return advance(0, 0)


@step
def alone(position: int) -> int:
    work(position)
    return position


@pipeline
def mapped(items: list[int]) -> Any:
    return alone.map(items)


@step
def paced(value: int, run: int, position: int) -> int:
    """Takes a quarter of a second and nearly no CPU time, so that many of them can be under way at once."""
    begin = time.time()
    time.sleep(0.25)
    write(run * 1000 + position, begin, time.time())
    return value + 1


@pipeline
def paced_chain(run: int) -> Any:
    value: Any = 0
    for position in range(120):
        value = paced.options(name=f"s{position}")(value, run, position)
    return value


@pipeline
def unserved(items: list[int]) -> Any:
    return alone.options(queue=UNSERVED).map(items)


@pipeline
def unserved_single() -> Any:
    return alone.options(queue=UNSERVED)(0)


@pipeline
def half_served() -> Any:
    first = alone.options(name="first")(1)
    return advance.options(name="second", queue=UNSERVED)(first, 2)


@step
def tenth() -> None:
    time.sleep(0.1)


@pipeline
def brief() -> Any:
    """Of a flood: a slot does ten per second."""
    return tenth()

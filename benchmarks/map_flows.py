"""Maps over maps, as `benchmarks.maps` measures them."""

from __future__ import annotations

from penstock import nested, pipeline, step

WIDTH = 50
"""Items of a nested map for each item of the one above."""


@step
def number(value: int) -> int:
    return value + 1


@step
def numbers(value: int) -> list[int]:
    return [value * WIDTH + position for position in range(WIDTH)]


@pipeline
def item_by_item(items: list[int]) -> None:
    first = number.options(name="first").map(items)
    number.options(name="second").map(first)


@pipeline
def nested_lists(items: list[int]) -> None:
    lists = numbers.map(items)
    inner = number.options(name="inner").map(nested(lists))
    number.options(name="second").map(inner)

"""A pipeline that runs another one for each item, and gives what comes up from them.

penstock run examples/regions.py -p names='["north", "south", "east"]'
penstock get RUN                       # the run of each item
"""

from penstock import pipeline, step


@step
def read(name: str) -> list[int]:
    """Stands for a query: the amounts of a region's orders."""
    return [len(name) * number for number in range(1, 5)]


@step
def add_up(amounts: list[int]) -> int:
    return sum(amounts)


@step
def best(names: list[str], sums: list[int]) -> str:
    return max(zip(sums, names, strict=True))[1]


@pipeline
def region(name: str) -> int:
    """One region. It can be run by itself too: penstock run examples/regions.py:region -p name=west"""
    return add_up(read(name))


@pipeline
def regions(names: list[str]) -> dict[str, object]:
    """Every region by a run of its own, three at once."""
    sums = region.options(max_parallel=3, retries=1).map(names)
    return {"best": best(names, sums), "sums": sums}

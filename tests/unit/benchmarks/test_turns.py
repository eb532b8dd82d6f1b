"""Systems take turns, and what is told of them is the median."""

from __future__ import annotations

from benchmarks.turns import PENSTOCK, Result, ratio, ratio_line, take_turns
from benchmarks.workloads import Figures


class Scripted:
    """Answers with the next of its figures, and writes down that it was asked."""

    def __init__(self, name: str, rates: list[float], asked: list[str]) -> None:
        self._name = name
        self._rates = iter(rates)
        self._asked = asked

    async def measure(self, workload: str) -> Figures:
        self._asked.append(f"{workload} {self._name}")
        return {"steps_per_s": next(self._rates)}


async def _results(asked: list[str]) -> list[Result]:
    ours = Scripted(PENSTOCK, [1.0, 30.0, 10.0, 20.0], asked)
    other = Scripted("other", [999.0, 40.0, 50.0, 10.0], asked)
    return await take_turns("fan1000", {PENSTOCK: ours, "other": other}, repeat=3, unmeasured=1)


async def test_systems_take_turns() -> None:
    asked: list[str] = []
    await _results(asked)
    assert asked == [f"fan1000 {PENSTOCK}", "fan1000 other"] * 4


async def test_the_first_turns_do_not_count() -> None:
    ours, other = await _results([])
    assert ours.median == {"steps_per_s": 20.0}
    assert other.median == {"steps_per_s": 40.0}


async def test_a_line_holds_median_and_range() -> None:
    ours, _ = await _results([])
    line = ours.line()
    assert line["system"] == PENSTOCK
    assert line["median"] == {"steps_per_s": 20.0}
    assert line["range"] == {"steps_per_s": [10.0, 30.0]}
    assert line["repeat"] == 3


async def test_the_ratio_is_that_of_the_medians() -> None:
    results = await _results([])
    assert ratio(results, PENSTOCK, "other") == 0.5
    assert ratio_line(results)["to"] == {"other": 0.5}

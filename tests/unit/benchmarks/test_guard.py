"""The guard of CI looks at ratios, and measures again before it complains."""

from __future__ import annotations

import pytest
from benchmarks.guard import BOUNDS, REPEAT, REPEAT_IN_DOUBT, Bound, guarded
from benchmarks.turns import HEADLINES, IN_PROCESSES, PENSTOCK, Result
from benchmarks.workloads import Figures


def _results(ours: float, other: float) -> list[Result]:
    systems = {PENSTOCK: ours, IN_PROCESSES: other}
    return [Result("fan1000", name, ({"steps_per_s": rate},), 0.0) for name, rate in systems.items()]


@pytest.mark.parametrize(("ours", "other"), [(50.0, 100.0), (1.0, 2.0), (900.0, 100.0)])
def test_what_is_within_the_bound_is_fine_at_any_speed(ours: float, other: float) -> None:
    assert Bound(least=0.5).complaint(_results(ours, other)) is None


def test_a_rate_that_is_too_low_is_named() -> None:
    complaint = Bound(least=0.5).complaint(_results(40.0, 100.0))
    assert complaint == "fan1000: steps_per_s is 0.40 times that of the bare loop, and must be at least 0.5"


def test_a_time_that_is_too_long_is_named() -> None:
    complaint = Bound(most=2.0).complaint(_results(300.0, 100.0))
    assert complaint == "fan1000: steps_per_s is 3.00 times that of the bare loop, and must be at most 2"


def test_only_compared_workloads_have_bounds() -> None:
    assert set(BOUNDS) <= set(HEADLINES)


class Steady:
    def __init__(self, rates: list[float]) -> None:
        self._rates = rates
        self.asked = 0

    async def measure(self, _workload: str) -> Figures:
        self.asked += 1
        return {"steps_per_s": self._rates[min(self.asked, len(self._rates)) - 1]}


async def test_a_slow_moment_is_measured_again() -> None:
    slow = [0.01] * (REPEAT + 1)
    ours, other = Steady([*slow, 1.0]), Steady([1.0])
    _, complaint = await guarded("fan1000", {PENSTOCK: ours, IN_PROCESSES: other})
    assert complaint is None
    assert ours.asked == REPEAT + 1 + REPEAT_IN_DOUBT + 1


async def test_what_stays_slow_is_complained_about() -> None:
    _, complaint = await guarded("fan1000", {PENSTOCK: Steady([0.01]), IN_PROCESSES: Steady([1.0])})
    assert complaint is not None

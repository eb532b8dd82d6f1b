"""The simulated network keeps what a stream keeps."""

from __future__ import annotations

from penstock.testing.network import End, Link, Weather
from penstock.testing.timeline import SECOND, Process, Timeline


def test_a_stream_keeps_its_order_over_a_cut_that_is_mended() -> None:
    """What is held back when the way is mended comes before what was said later and is under way."""
    timeline = Timeline(1)
    weather = Weather(delay=SECOND)
    heard: list[int] = []
    ends = [End(Process(timeline, name), heard.append, lambda: None) for name in ("agent", "coordinator")]
    link = Link(timeline, weather, *ends)
    weather.in_cut = True
    for number in range(20):
        timeline.at(number * SECOND // 10, link.to_agent, number)
    timeline.at(SECOND, weather.mend)
    timeline.at(10 * SECOND, lambda: None)
    timeline.go_on_until(10 * SECOND, 1_000)
    assert heard == list(range(20))

"""A short flood on a whole system: `make flood` is the long one."""

from __future__ import annotations

from benchmarks.flood import Flood, broken_promises, run_flood


async def test_a_flood_is_shed_and_all_that_was_accepted_completes() -> None:
    flood = Flood(per_second=150, seconds=8.0, backlog=100, most_p99_ms=5_000)
    figures = await run_flood(flood)
    assert broken_promises(flood, figures) == [], figures
    assert figures["accepted"] > 90, "nine tenths of the backlog are filled at once"

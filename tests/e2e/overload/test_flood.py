"""A short flood on a whole system: `make flood` is the long one."""

from __future__ import annotations

import pytest
from benchmarks.flood import Flood, broken_promises, run_flood

pytestmark = pytest.mark.timeout(300)


async def test_a_flood_is_shed_and_all_that_was_accepted_completes() -> None:
    # How fast it is, is for `make flood` on a quiet machine: a busy one offers it as fast as it can.
    flood = Flood(per_second=150, seconds=8.0, backlog=100, most_p99_ms=10_000, most_late=100)
    figures = await run_flood(flood)
    assert broken_promises(flood, figures) == [], figures
    assert figures["accepted"] > 90, "nine tenths of the backlog are filled at once"

"""What is told of who waits: as many places as the entries wait for, and since when, whatever has come and gone."""

from __future__ import annotations

import random

from penstock_coordinator.core.dispatch.lines import LineQueue
from penstock_coordinator.core.dispatch.tiers import Applicant
from penstock_coordinator.core.plan.model import Line

LINE = Line("default")


def test_the_demand_of_a_line_is_that_of_its_entries() -> None:
    for seed in range(20):
        chance = random.Random(seed)
        queue = LineQueue(LINE, aging=60_000_000)
        for now in range(1, 300):
            entry = queue.next() if chance.random() < 0.4 else None
            if entry is not None:
                queue.serve(entry, chance.randint(1, entry.demand), now)
            else:
                run, priority = chance.randrange(8), chance.randrange(3)
                applicant = Applicant(bytes([run, priority]), 0, LINE, priority)
                queue.set_demand(applicant, chance.randrange(5), now)
            entries = list(queue.entries())
            assert queue.demand == sum(each.demand for each in entries)
            if entries:
                assert queue.oldest_since() == min(each.since for each in entries)

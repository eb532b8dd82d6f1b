"""One that follows is cut off from the database: it says so within 5 s, as the owner would, and within 5 s that it is
back. The owner stays ready all the time."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from tests.e2e.outages.test_readiness import PROMISED_SECONDS, swallow
from tests.e2e.ownership.conftest import PATIENCE, Group
from tests.rig.link import Link
from tests.rig.parts import until
from tests.rig.readiness import ReadinessWatch


@pytest.mark.parametrize("cut", [Link.refuse, swallow])
def test_a_follower_is_red_and_green_in_time(
    group: Group, cut: Callable[[Link], None], say: Callable[[str], None]
) -> None:
    owner, follower = group.roles()
    with ReadinessWatch(group.coordinators[follower].address) as watch:
        watch.becomes(True, within=30.0)
        cut(group.links[follower])
        try:
            red = watch.becomes(False, within=PROMISED_SECONDS)
            assert group.coordinators[owner].readiness() == {}
            # No reason to wake anybody: `PenstockDatabaseAway` goes by the greatest of these.
            until(lambda: group.database_up(follower) == 0, PATIENCE, "the metric of the one that is cut off")
            assert group.database_up(owner) == 1
        finally:
            group.links[follower].heal()
        green = watch.becomes(True, within=PROMISED_SECONDS)
    say(f"cut off by {cut.__name__}: red after {red:.2f} s, green after {green:.2f} s")
    assert group.roles() == (owner, follower)

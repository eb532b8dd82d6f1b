"""Which process of an agent had a session."""

from __future__ import annotations

from penstock_coordinator.core.fleet.boots import Boots


def test_each_session_that_is_known_has_its_own_and_the_rest_the_agents_newest() -> None:
    boots = Boots()
    boots.add("a", 7, "second")
    boots.add("a", 3, "first")
    boots.add("b", 5, "other")
    assert boots.of("a", 3) == (3, "first"), "with a member that it did not come back to"
    assert boots.of("a", 7) == (7, "second")
    assert boots.of("a", 2) == (7, "second"), "another session: nobody is sure of its process"
    assert boots.of("b", 2) == (5, "other")
    assert boots.of("c", 2) == (0, "")

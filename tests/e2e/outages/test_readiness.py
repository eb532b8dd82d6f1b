"""A coordinator that is cut off from its database says so within 5 s, and within 5 s that it is back: with work under
way, whether connections are refused or swallow what is said on them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from tests.e2e.outages.conftest import Load, Whole
from tests.rig.link import Link
from tests.rig.parts import until
from tests.rig.readiness import ReadinessWatch

PROMISED_SECONDS = 5.0
"""By docs/health.md."""


def swallow(link: Link) -> None:
    link.drop(requests=True, answers=True)


@pytest.mark.parametrize("cut", [Link.refuse, swallow])
def test_a_sole_coordinator_is_red_and_green_in_time(
    system: Whole, cut: Callable[[Link], None], say: Callable[[str], None]
) -> None:
    load = Load(system, f"readiness-{cut.__name__}", 2.0)
    with ReadinessWatch(system.coordinator.address) as watch:
        watch.becomes(True, within=30.0)
        cut(system.link)
        red = watch.becomes(False, within=PROMISED_SECONDS)
        load.ask_for_a_run()
        until(lambda: "database" in told(system), 10.0, "the cause")
        system.link.heal()
        green = watch.becomes(True, within=PROMISED_SECONDS)
    say(f"cut off by {cut.__name__}: red after {red:.2f} s, green after {green:.2f} s")
    load.goes_on()


def told(system: Whole) -> dict[str, str]:
    """What /readyz says is in the way; nothing if it did not answer."""
    answer: dict[str, Any] = {**(system.coordinator.readiness() or {})}
    reasons: dict[str, str] = answer.get("reasons", {})
    return reasons

"""When a coordinator calls itself unready, and when again ready."""

from __future__ import annotations

import re
from pathlib import Path

from penstock_coordinator.api.health import CAUSES, EVENT_LOOP, LAG_SECONDS, RECOVERY, LagWatch, Readiness
from penstock_coordinator.runtime.loop_lag import LoopLag

PAGE = (Path(__file__).parents[3] / "docs" / "health.md").read_text()
BOUND = 2.0


def recovered() -> Readiness:
    readiness = Readiness()
    readiness.clear(RECOVERY)
    return readiness


def test_one_long_turn_is_no_reason() -> None:
    readiness = recovered()
    watch = LagWatch(readiness, BOUND, LoopLag())
    watch.look(LAG_SECONDS - 0.1, 100.0)
    assert readiness.ready
    watch.look(0.0, 100.5)
    watch.look(BOUND, 103.0)
    assert readiness.ready


def test_who_comes_late_again_and_again_is_not_ready_until_a_look_is_in_time() -> None:
    readiness = recovered()
    watch = LagWatch(readiness, BOUND, LoopLag())
    for now in (100.0, 102.5):
        watch.look(BOUND, now)
        assert readiness.ready
    watch.look(BOUND, 105.0)
    assert list(readiness.reasons) == [EVENT_LOOP]
    watch.look(BOUND / 2, 106.0)
    assert readiness.ready


def test_the_checks_name_every_cause() -> None:
    readiness = recovered()
    assert set(readiness.checks().values()) == {"ok"}
    readiness.block(EVENT_LOOP, "late")
    assert {cause: why for cause, why in readiness.checks().items() if why != "ok"} == {EVENT_LOOP: "late"}


def test_the_page_has_every_cause_and_no_other() -> None:
    chapter = PAGE.partition("## What makes a coordinator unready")[2].partition("\n## ")[0]
    assert set(re.findall(r"^\| `([a-z_]+)` \|", chapter, re.MULTILINE)) == set(CAUSES)

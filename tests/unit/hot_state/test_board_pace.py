"""When a coordinator publishes what it has to do."""

from __future__ import annotations

from dataclasses import replace

import pytest

from penstock_coordinator.core.dispatch.line_names import line_name, line_named
from penstock_coordinator.core.plan.model import Line
from penstock_coordinator.ports.board import BoardEntry, LineDemand
from penstock_coordinator.runtime.board_publisher import (
    CHANGED_EVERY,
    LOOK_EVERY,
    SAME_EVERY,
    TTL_SECONDS,
    Pace,
    changed_much,
)

SECOND = 1_000_000


def entry(ready: int = 0, running: int = 0, wait: int = 0, queue: str = "default", epoch: int = 1) -> BoardEntry:
    return BoardEntry("a", epoch, 5, (LineDemand(Line(queue), ready, running, wait),))


def published(what: BoardEntry) -> Pace:
    pace = Pace()
    assert pace.due(what, 0)
    pace.published(what, 0)
    return pace


def test_what_stays_the_same_is_published_again_well_before_it_is_gone() -> None:
    pace = published(entry(3, 4))
    assert not pace.due(entry(3, 4, wait=9), int(SAME_EVERY * SECOND) - 1), "waiting is no news"
    assert pace.due(entry(3, 4), int(SAME_EVERY * SECOND))
    assert SAME_EVERY + 2 * LOOK_EVERY < TTL_SECONDS / 2


def test_what_changed_a_little_is_published_at_the_next_interval() -> None:
    pace = published(entry(100, 4))
    assert not pace.due(entry(101, 4), int(CHANGED_EVERY * SECOND) - 1)
    assert pace.due(entry(101, 4), int(CHANGED_EVERY * SECOND))


@pytest.mark.parametrize(
    ("before", "after", "much"),
    [
        (entry(0), entry(9), False),
        (entry(0), entry(10), True),
        (entry(100), entry(51), False),
        (entry(100), entry(50), True),
        (entry(100), entry(199), False),
        (entry(100), entry(200), True),
        (entry(0, 5), entry(0, 40), True),
        (entry(20), entry(20, queue="gpu"), True),
        (entry(20), BoardEntry("a", 1, 5), True),
        (entry(5), BoardEntry("a", 1, 5), False),
        (entry(5), entry(5, epoch=2), True),
    ],
)
def test_what_changes_much_is_published_at_once(before: BoardEntry, after: BoardEntry, much: bool) -> None:
    assert changed_much(before, after) is much
    assert published(before).due(after, 1) is much


def test_what_is_gone_is_published_at_once() -> None:
    pace = published(entry(5))
    pace.forget()
    assert pace.due(entry(5), 1)


@pytest.mark.parametrize(
    ("line", "name"),
    [
        (Line("default"), "default"),
        (Line("gpu", (("zone", "eu"),)), 'gpu {"labels":[["zone","eu"]]}'),
        (Line("q", (), (("cpu", 2.0), ("gpu", 0.5))), 'q {"resources":[["cpu",2.0],["gpu",0.5]]}'),
        (Line("q", (), (), "container:python:3.12"), 'q {"environment":"container:python:3.12"}'),
    ],
)
def test_a_line_is_known_by_its_name(line: Line, name: str) -> None:
    assert line_name(line) == name
    assert line_named(name) == line


@pytest.mark.parametrize("name", ["q []", "q {", 'q {"labels":1}', 'q {"labels":[[1]]}'])
def test_what_names_no_line_is_refused(name: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  # of whatever kind: it is passed over
        line_named(name)


def test_the_sums_of_an_entry_are_over_its_lines() -> None:
    both = replace(entry(), lines=(LineDemand(Line("a"), 1, 2), LineDemand(Line("b"), 3, 4)))
    assert (both.ready, both.running) == (4, 6)

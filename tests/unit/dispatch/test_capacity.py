"""What one session has room for, also when amounts are extreme."""

from __future__ import annotations

import math

import pytest

from penstock_coordinator.core.dispatch.capacity import Capacity
from penstock_coordinator.core.dispatch.standing import mismatch
from penstock_coordinator.core.plan.model import Lack, Line

SMALLEST = 5e-324


def capacity(cpu: float) -> Capacity:
    return Capacity(
        session=1,
        agent="agent",
        queues=frozenset({"default"}),
        labels={},
        resources={"cpu": cpu},
        slots=4,
        grant_limit=4,
    )


def line(cpu: float) -> Line:
    return Line("default", resources=(("cpu", cpu),))


@pytest.mark.parametrize(
    ("has", "wants", "room"),
    [(2.0, 1.0, 2), (1.0, 1 / 3, 3), (2.0, SMALLEST, 4), (math.inf, 1.0, 4), (0.5, 1.0, 0), (1e308, SMALLEST, 4)],
)
def test_room_is_what_fits_into_credits_and_resources(has: float, wants: float, room: int) -> None:
    assert capacity(has).room(line(wants)) == room


def test_credits_that_are_void_are_none_but_for_what_is_promised_already() -> None:
    session, of = capacity(2.0), line(SMALLEST)
    session.promise(of, 1)
    session.void(7)
    assert session.room(of) == 0
    assert session.grant() == 7
    assert session.room(of) == 0
    session.grant_limit = 8
    assert session.room(of) == 1
    session.promise(of, 1)
    assert session.grant() == 8


def test_a_session_that_took_over_more_than_it_has_is_full_also_for_next_to_nothing() -> None:
    full = capacity(1.0)
    full.adopt(line(3.0))
    assert full.room(line(SMALLEST)) == 0
    assert full.room(line(1.0)) == 0


def test_what_a_session_lacks_is_named() -> None:
    has = capacity(2.0)
    has.labels["zone"] = "us"
    wanted = Line("gpu", (("disk", "ssd"), ("zone", "eu")), (("cpu", 2.0), ("gpu", 1.5)), "python:abc")
    assert mismatch(has, wanted) == (
        Lack("queue", "gpu", "gpu"),
        Lack("label", "disk", "ssd"),
        Lack("label", "zone", "eu", "us"),
        Lack("resource", "gpu", "1.5", "0"),
        Lack("environment", "python", "python:abc"),
    )
    assert mismatch(has, Line("default", (("zone", "us"),), (("cpu", 2.0),))) == ()


@pytest.mark.parametrize(
    ("environments", "lacks"),
    [
        ({}, (Lack("environment", "python", "python:abc"),)),
        ({"container": ""}, (Lack("environment", "python", "python:abc"),)),
        ({"python": "uv is not here"}, (Lack("environment", "python", "python:abc", why="uv is not here"),)),
        ({"python": ""}, ()),
    ],
)
def test_an_environment_is_made_by_agents_that_say_so(environments: dict[str, str], lacks: tuple[Lack, ...]) -> None:
    has = capacity(2.0)
    has.environments = environments
    wanted = Line("default", environment="python:abc")
    assert mismatch(has, wanted) == lacks
    assert has.serves(wanted) == (not lacks)
    assert has.serves(Line("default"))

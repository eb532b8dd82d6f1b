"""The order in which an agent tries its coordinators."""

from __future__ import annotations

import pytest

from penstock_agent.core.rounds import Rounds
from penstock_agent.settings import AgentSettings


def test_one_address_is_tried_again_after_a_pause() -> None:
    rounds = Rounds(["a:1"])
    for good in (False, True, False):
        assert rounds.next() == "a:1"
        assert rounds.over(good=good)


def test_the_next_one_is_tried_at_once_and_a_pause_comes_after_a_round() -> None:
    rounds = Rounds(["a:1", "b:1", "c:1"])
    tried = []
    pauses = []
    for _ in range(6):
        tried.append(rounds.next())
        pauses.append(rounds.over(good=False))
    assert tried == ["a:1", "b:1", "c:1"] * 2
    assert pauses == [False, False, True] * 2


def test_after_one_that_was_good_the_others_are_tried_at_once() -> None:
    rounds = Rounds(["a:1", "b:1"])
    assert rounds.next() == "a:1"
    assert not rounds.over(good=False)
    assert rounds.next() == "b:1"
    assert not rounds.over(good=True), "b welcomed, and is lost: a may have taken over"
    assert rounds.next() == "a:1"
    assert rounds.over(good=False)


def test_a_named_address_comes_first_and_the_round_goes_on_from_there() -> None:
    rounds = Rounds(["a:1", "b:1", "c:1"])
    assert rounds.next() == "a:1"
    rounds.name("c:1")
    assert not rounds.over(good=False)
    assert rounds.next() == "c:1"
    assert not rounds.over(good=True)
    assert rounds.next() == "a:1"


def test_a_named_address_that_is_not_in_the_list_is_tried_once() -> None:
    rounds = Rounds(["a:1"])
    rounds.next()
    rounds.name("z:1")
    assert not rounds.over(good=False)
    assert rounds.next() == "z:1"
    assert rounds.over(good=False)
    assert rounds.next() == "a:1"


def test_two_that_name_each_other_are_left_alone_for_a_while() -> None:
    rounds = Rounds(["a:1", "b:1"])
    pauses = []
    for _ in range(8):
        other = "b:1" if rounds.next() == "a:1" else "a:1"
        rounds.name(other)
        pauses.append(rounds.over(good=False))
    assert pauses == [False, False, False, True] * 2


def test_many_agents_begin_with_different_ones() -> None:
    assert {Rounds(["a:1", "b:1"], start).next() for start in (0.1, 0.9, 1.0)} == {"a:1", "b:1"}


def test_what_is_behind_a_name_may_change() -> None:
    rounds = Rounds(["a:1", "b:1"])
    rounds.next()
    rounds.over(good=False)
    rounds.known(["b:1", "c:1"])
    assert rounds.next() == "b:1"
    rounds.known([])
    rounds.known(["d:1"])
    assert rounds.next() == "d:1"


def test_several_addresses_are_completed_and_kept_in_order() -> None:
    assert AgentSettings(address=" one , two:99,one:7400").address == "one:7400,two:99"
    with pytest.raises(ValueError, match="host:port"):
        AgentSettings(address=" , ")

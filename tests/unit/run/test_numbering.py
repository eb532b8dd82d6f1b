"""The numbers under which attempts and lines are kept stay with the places."""

from __future__ import annotations

import pytest

from penstock_coordinator.core.run.numbering import Numbering


def numbering() -> Numbering:
    """Three items, and then lists in another order: one of them longer, one shorter."""
    made = Numbering([(0, 0), (1, 0), (1, 1)], since=10)
    made.add([(1, 0)])
    made.add([(0, 0), (0, 1)])
    return made


def test_a_place_has_its_number_again_and_a_new_one_the_next() -> None:
    made = numbering()
    assert list(made.numbers) == [1, 0, 3]
    assert made.places == [(0, 0), (1, 0), (1, 1), (0, 1)]
    made.begin_anew(20)
    made.add([(0, 1), (1, 1)])
    assert list(made.numbers) == [3, 2]


def test_a_token_from_before_is_of_the_item_of_then() -> None:
    made = numbering()
    assert [made.kept(0, token) for token in (9, 10, 11)] == [0, 1, 1]
    made.begin_anew(20)
    assert [made.kept(item, 15) for item in range(3)] == [1, 0, 3]
    with pytest.raises(LookupError):
        made.kept(0, 25)


def test_readers_get_it_packed() -> None:
    found = Numbering.unpack(numbering().pack())
    assert list(found.numbers) == [1, 0, 3]
    assert found.places[2] == (1, 1)
    assert isinstance(found.places[2], tuple)

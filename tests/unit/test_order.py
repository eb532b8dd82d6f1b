"""The order of the files, which `make test` owes much of its time to."""

from __future__ import annotations

from tests.order import ORDER, ROOT, place


def test_what_is_named_is_there() -> None:
    assert [named for named in ORDER if not (ROOT / named).exists()] == []


def test_every_file_has_a_place() -> None:
    files = [found.relative_to(ROOT).as_posix() for found in ROOT.rglob("test_*.py")]
    assert [file for file in files if place(file) < 0] == []


def test_what_takes_long_comes_before_the_rest_of_its_folder() -> None:
    assert place("chaos/test_chaos.py") < place("e2e/outages/test_away.py") < place("e2e/system/test_maps.py")
    assert place("e2e/system/test_maps.py") < place("chaos/test_checking.py") < place("unit/test_order.py")

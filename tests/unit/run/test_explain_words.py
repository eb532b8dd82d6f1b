"""How explanations speak of amounts, spans and agents."""

from __future__ import annotations

import pytest

from penstock_coordinator.core.run.explain.words import about, agents_listed, amount, one_line
from penstock_coordinator.core.run.losses import lost_in_words


@pytest.mark.parametrize(
    ("span", "words"),
    [(0, "0 s"), (7_912_345, "7.9 s"), (5_000_000, "5 s"), (12_345_678, "12 s"), (60_000_000, "1 min"), (-5, "0 s")],
)
def test_spans(span: int, words: str) -> None:
    assert about(span) == words


@pytest.mark.parametrize(
    ("name", "number", "words"),
    [
        ("memory_bytes", 25_276_500_000, "23.5 GiB of memory"),
        ("memory_bytes", 536_870_912_000, "500 GiB of memory"),
        ("memory_bytes", 1_073_741_823, "1024 MiB of memory"),
        ("memory_bytes", 0, "0 bytes of memory"),
        ("cpu", 1, "1 CPU"),
        ("cpu", 0.5, "0.5 CPUs"),
        ("gpu", 2, "2 of gpu"),
    ],
)
def test_amounts(name: str, number: float, words: str) -> None:
    assert amount(name, number) == words


def test_three_agents_are_named() -> None:
    assert agents_listed(["a"]) == "a"
    assert agents_listed(["a", "b", "c"]) == "a, b and c"
    assert agents_listed(list("abcd")) == "a, b, c and 1 other"
    assert agents_listed(list("abcde")) == "a, b, c and 2 others"


def test_what_others_wrote_stays_in_its_sentence() -> None:
    assert one_line("first\n  second line") == "first second line"


def test_why_an_agent_was_lost_is_a_sentence_where_it_is_known() -> None:
    assert lost_in_words("lease_expired") == "the agent was not heard of for longer than its lease"
    assert lost_in_words("rejected: FULL") == "rejected: FULL"

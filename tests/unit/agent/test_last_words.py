"""What a command said last: beside its exit code, where one line is shown."""

from __future__ import annotations

import pytest

from penstock_agent.executors.last_words import LONGEST_LINE, last_words

LONG = "x" * (LONGEST_LINE + 1)


@pytest.mark.parametrize(
    ("said", "text"),
    [
        ("", ""),
        (" \n\n", ""),
        ("oops\n", ": oops"),
        ("first\n  oops\n\n", ": oops\nits last lines on standard error:\nfirst\n  oops"),
        (LONG, f": {LONG[:-1]}…\nits last lines on standard error:\n{LONG}"),
    ],
)
def test_the_last_line_comes_first_and_all_of_them_below(said: str, text: str) -> None:
    assert last_words(said) == text

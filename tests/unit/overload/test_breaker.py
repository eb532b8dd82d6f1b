"""The breaker as a table: what happens at which instant, and what state follows."""

from __future__ import annotations

import pytest

from penstock_coordinator.adapters.breaker import Breaker, Refused
from penstock_coordinator.ports import DependencyState, Unavailable

_CLOSED, _OPEN, _HALF_OPEN = DependencyState.CLOSED, DependencyState.OPEN, DependencyState.HALF_OPEN


class _Bench:
    """A breaker with a clock of its own; calls have names, so that a line of a table says which one ends."""

    def __init__(self) -> None:
        self.at = 0.0
        self.breaker = Breaker("it", failures=3, first_pause=1.0, longest_pause=4.0, now=lambda: self.at, chance=_most)
        self._calls: dict[str, int] = {}

    def play(self, line: str) -> str:
        """One word and the name of a call: begins, ends, fails, leaves. Answers what came of it."""
        when, word, name = line.split()
        self.at = float(when)
        match word:
            case "begins":
                try:
                    self._calls[name] = self.breaker.enter()
                except Refused as refused:
                    return f"refused {refused.retry_after}"
            case "ends":
                self.breaker.succeeded(self._calls[name])
            case "fails":
                self.breaker.failed(self._calls[name], "Reset")
            case "leaves":
                self.breaker.gave_up(self._calls[name])
            case _:
                raise ValueError(word)
        return self.breaker.state.value


def _most() -> float:
    return 1.0


GOLDEN = {
    "failures in a row open it, and a success between them begins the count anew": [
        ("0 begins a", "closed"),
        ("0 fails a", "closed"),
        ("0 begins b", "closed"),
        ("0 fails b", "closed"),
        ("0 begins c", "closed"),
        ("0 ends c", "closed"),
        ("0 begins d", "closed"),
        ("0 fails d", "closed"),
        ("0 begins e", "closed"),
        ("0 fails e", "closed"),
        ("0 begins f", "closed"),
        ("0 fails f", "open"),
        ("0.4 begins g", "refused 600000"),
    ],
    "one call tries, the others are refused meanwhile, and its success closes": [
        ("0 begins a", "closed"),
        ("0 begins b", "closed"),
        ("0 begins c", "closed"),
        ("0 fails a", "closed"),
        ("0 fails b", "closed"),
        ("0 fails c", "open"),
        ("1 begins d", "half_open"),
        ("1 begins e", "refused 1000000"),
        ("3 begins e", "refused 1000000"),
        ("3 ends d", "closed"),
        ("3 begins e", "closed"),
    ],
    "a failed try opens it for twice as long, up to the longest pause": [
        ("0 begins a", "closed"),
        ("0 begins b", "closed"),
        ("0 begins c", "closed"),
        ("0 fails a", "closed"),
        ("0 fails b", "closed"),
        ("0 fails c", "open"),
        ("1 begins d", "half_open"),
        ("1 fails d", "open"),
        ("2.5 begins e", "refused 500000"),
        ("3 begins f", "half_open"),
        ("3 fails f", "open"),
        ("7 begins g", "half_open"),
        ("7 fails g", "open"),
        ("10.5 begins h", "refused 500000"),
        ("11 begins i", "half_open"),
        ("11 ends i", "closed"),
        ("11 begins j", "closed"),
        ("11 begins k", "closed"),
        ("11 begins l", "closed"),
        ("11 fails j", "closed"),
        ("11 fails k", "closed"),
        ("11 fails l", "open"),
        ("12 begins m", "half_open"),
    ],
    "what calls say that began before a change is no news": [
        ("0 begins old", "closed"),
        ("0 begins lucky", "closed"),
        ("0 begins a", "closed"),
        ("0 begins b", "closed"),
        ("0 begins c", "closed"),
        ("0 fails a", "closed"),
        ("0 fails b", "closed"),
        ("0 fails c", "open"),
        ("0.5 ends lucky", "open"),
        ("1 begins d", "half_open"),
        ("1 fails old", "half_open"),
        ("1 ends d", "closed"),
    ],
    "a try that is given up lets the next one try": [
        ("0 begins a", "closed"),
        ("0 begins b", "closed"),
        ("0 begins c", "closed"),
        ("0 fails a", "closed"),
        ("0 fails b", "closed"),
        ("0 fails c", "open"),
        ("1 begins d", "half_open"),
        ("1.1 leaves d", "open"),
        ("1.1 begins e", "half_open"),
        ("1.2 ends e", "closed"),
    ],
}


@pytest.mark.parametrize("title", GOLDEN)
def test_the_breaker_does_what_the_table_says(title: str) -> None:
    bench = _Bench()
    assert [(line, bench.play(line)) for line, _ in GOLDEN[title]] == GOLDEN[title]


def test_pauses_are_spread_so_that_several_coordinators_do_not_try_in_step() -> None:
    pauses = set()
    drawn = iter((0.0, 0.5, 1.0))
    for _ in range(3):
        breaker = Breaker("it", failures=1, first_pause=1.0, now=lambda: 0.0, chance=lambda: next(drawn))
        breaker.failed(breaker.enter(), "Reset")
        pauses.add(breaker.retry_in)
    assert pauses == {0.5, 0.75, 1.0}


def test_a_refusal_is_one_of_a_dependency_that_is_away_and_says_when_to_come_back() -> None:
    breaker = Breaker("PostgreSQL", failures=1, first_pause=1.0, now=lambda: 0.0, chance=lambda: 1.0)
    breaker.failed(breaker.enter(), "ConnectionRefusedError")
    with pytest.raises(Unavailable, match=r"PostgreSQL failed .ConnectionRefusedError.") as caught:
        breaker.check()
    assert caught.value.retry_after == 1_000_000
    assert breaker.reason == "ConnectionRefusedError"

"""When a process is started again and when it is given up."""

from __future__ import annotations

from penstock.dev.restarts import MAX_BACKOFF_SECONDS, MAX_QUICK_ENDS, QUICK_SECONDS, Restarts


def test_backoff_grows_with_quick_ends_until_the_process_is_given_up() -> None:
    restarts = Restarts()
    waits = [restarts.backoff(0.1) for _ in range(MAX_QUICK_ENDS)]
    known = [wait for wait in waits if wait is not None]
    assert known == sorted(set(known))
    assert len(known) == MAX_QUICK_ENDS
    assert max(known) <= MAX_BACKOFF_SECONDS
    assert restarts.backoff(0.1) is None


def test_long_life_makes_former_ends_forgotten() -> None:
    restarts = Restarts()
    for _ in range(MAX_QUICK_ENDS):
        restarts.backoff(0.1)
    assert restarts.backoff(QUICK_SECONDS + 1) is not None
    assert restarts.backoff(0.1) == Restarts().backoff(0.1)


def test_end_that_was_asked_for_is_no_trouble() -> None:
    restarts = Restarts()
    assert all(restarts.backoff(0.1, expected=True) is not None for _ in range(MAX_QUICK_ENDS * 3))

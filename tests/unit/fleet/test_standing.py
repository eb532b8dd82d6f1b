"""Who stood still may have been replaced, and renews nothing until it has looked."""

from __future__ import annotations

from penstock_coordinator.core.fleet.standing import Standing, fence_interval

SECOND = 1_000_000


def test_two_intervals_leave_time_within_a_margin() -> None:
    assert 2 * fence_interval(5 * SECOND) < 5 * SECOND
    assert 2 * fence_interval(3 * SECOND) < 3 * SECOND
    assert fence_interval(SECOND // 100) == SECOND, "short ones do not make every delay a doubt"


def test_who_is_awake_all_the_time_is_never_in_doubt() -> None:
    standing = Standing(2 * SECOND)
    for now in range(0, 20 * SECOND, 2 * SECOND):
        standing.awake(now, database_away=False)
        standing.notice(now + SECOND, database_away=False)
    assert not standing.in_doubt


def test_before_it_is_watched_nothing_is_known_of_pauses() -> None:
    standing = Standing(2 * SECOND)
    standing.notice(90 * SECOND, database_away=False)
    assert not standing.in_doubt


def test_who_stood_still_is_in_doubt_until_a_look_that_began_after_it() -> None:
    standing = Standing(2 * SECOND)
    standing.awake(0, database_away=False)
    before = standing.ask()
    standing.notice(5 * SECOND, database_away=False)
    assert standing.in_doubt, "what it is asked first, when it goes on, finds it in doubt"
    standing.awake(5 * SECOND + 1, database_away=False)
    standing.confirm(before)
    assert standing.in_doubt, "the answer is of before the pause"
    standing.confirm(standing.ask())
    assert not standing.in_doubt


def test_while_the_database_is_away_nobody_takes_over() -> None:
    standing = Standing(2 * SECOND)
    standing.awake(0, database_away=False)
    standing.awake(5 * SECOND, database_away=True)
    assert not standing.in_doubt

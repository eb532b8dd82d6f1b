"""Where free runs start: by what each owner has to do, and by whom its agents reach."""

from __future__ import annotations

from collections import Counter

from penstock_coordinator.core.dispatch.capacity import Capacity
from penstock_coordinator.core.fleet.spreading import MERGED, MOST_SENT, Spreading, place_name, reaches
from penstock_coordinator.core.plan.model import Line

SECOND = 1_000_000
A, B = place_name("a", 5), place_name("b", 6)


def spreading(**live: int) -> Spreading:
    """With members that have published so many runs at second 1."""
    made = Spreading()
    names = {"a": A, "b": B}
    made.members(names[name] for name in live)
    for name, runs in live.items():
        made.published(names[name], runs, SECOND)
    return made


def spread(made: Spreading, count: int, own: int = 0) -> Counter[str]:
    """So many starts, one after the other, of which none ends."""
    chosen: Counter[str] = Counter()
    for number in range(count):
        found = made.choose(own + chosen[""], (A, B), 2 * SECOND + number)
        if found:
            made.sent(found, 1, 2 * SECOND + number)
        chosen[found] += 1
    return chosen


def test_starts_go_to_whoever_has_the_least() -> None:
    made = spreading(a=10, b=4)
    assert made.choose(20, (A, B), SECOND) == B
    assert made.choose(20, (A,), SECOND) == A
    assert made.choose(3, (A, B), SECOND) == "", "it counts a fifth more than members"
    assert made.choose(4, (A, B), SECOND) == B


def test_idle_owners_take_turns() -> None:
    made = spreading(a=0, b=0)
    assert sorted(made.choose(0, (A, B), SECOND) for _ in range(3)) == ["", A, B]


def test_what_was_sent_counts_until_the_board_has_it() -> None:
    """Or all starts between two publications would go to the same one."""
    made = spreading(a=0, b=0)
    chosen = spread(made, 340)
    assert abs(chosen[A] - chosen[B]) <= 1
    assert 95 <= chosen[""] <= 105
    made.published(A, 0, 3 * SECOND)
    assert made.choose(chosen[""], (A, B), 3 * SECOND) == A, "its runs have ended meanwhile"


def test_what_was_sent_after_the_publication_is_not_in_it() -> None:
    made = spreading(a=0, b=5)
    made.sent(A, 9, 5 * SECOND)
    made.published(A, 0, 4 * SECOND)
    assert made.choose(100, (A, B), 6 * SECOND) == B
    made.published(A, 9, 6 * SECOND)
    made.published(A, 0, 4 * SECOND)
    assert made.choose(100, (A, B), 6 * SECOND) == B, "what comes late and is older changes nothing"


def test_only_who_is_there_and_has_been_heard_of_is_chosen() -> None:
    made = spreading(a=0)
    assert made.choose(9, (A, B), SECOND) == A
    made.members([A, B])
    assert made.choose(9, (A, B), SECOND) == A
    assert made.choose(9, (B,), SECOND) == "", "it has published nothing yet"
    again = place_name("a", 8)
    made.members([again, B])
    made.published(A, 0, 9 * SECOND)
    assert made.choose(9, (A, again), 9 * SECOND) == "", "of a former incarnation nothing is known any more"


def test_short_runs_are_not_counted_for_as_long_as_the_board_is_old() -> None:
    """100 runs a second go to a member and end at once: what was sent since the last publication has ended, too."""
    made = spreading(a=2)
    for second in (1, 2, 3):
        made.sent(A, 100, second * SECOND + 1)
        made.published(A, 2, (second + 1) * SECOND)
    made.sent(A, 50, 4 * SECOND + SECOND // 4)
    assert made.choose(4, (A,), 4 * SECOND + SECOND // 2) == A
    assert made.choose(40, (B,), 4 * SECOND + SECOND // 2) == ""
    made.sent(A, 50, 4 * SECOND + SECOND // 2)
    assert made.choose(4, (A,), 4 * SECOND + SECOND // 2) == "", "more than usual were sent"


def test_a_publication_that_is_read_twice_tells_nothing_of_what_ends() -> None:
    """Its instant is told from its age, and comes out a little different each time."""
    made = spreading(a=2)
    made.sent(A, 100, SECOND + 1)
    made.published(A, 2, 2 * SECOND)
    made.published(A, 2, 2 * SECOND + 3_000)
    made.sent(A, 50, 2 * SECOND + SECOND // 4)
    assert made.choose(4, (A,), 2 * SECOND + SECOND // 2) == A, "as many have ended since as before"

    made = spreading(a=2)
    made.sent(A, 20, SECOND + 1)
    made.published(A, 2, SECOND + 3_000)
    assert made.choose(4, (A,), 2 * SECOND) == "", "nothing has ended in these milliseconds"


def test_what_is_sent_to_one_that_publishes_no_more_takes_no_more_room() -> None:
    made = spreading(a=0)
    for number in range(MOST_SENT + 50):
        made.sent(A, 1, 2 * SECOND + number * 2 * MERGED)
    assert len(made._places[A].sent) == MOST_SENT
    assert made.choose(MOST_SENT, (A,), 99 * SECOND) == ""
    assert made.choose(MOST_SENT + 50, (A,), 99 * SECOND) == A, "all of them count"


def agent(*queues: str) -> Capacity:
    return Capacity(1, "agent", frozenset(queues), {}, {"cpu": 1.0}, 4)


def test_a_member_is_reached_if_each_line_has_a_linked_agent() -> None:
    both, gpu = Line("default"), Line("gpu")
    linked, alone = agent("default"), agent("default", "gpu")
    sessions: list[tuple[Capacity, set[str]]] = [(linked, {A}), (alone, set())]
    assert reaches([both], sessions, A)
    assert not reaches([both], sessions, B), "whoever serves it has no link there, as agents of an earlier release"
    assert not reaches([both, gpu], sessions, A)
    assert reaches([Line("nobody's")], sessions, A), "wherever the run is, it waits"
    assert reaches([both], [], A)

"""Placement on workers, one decision at a time."""

from __future__ import annotations

from penstock_agent.core import pool as pools
from penstock_agent.core.leases import Handle

NOW = 1_000_000_000
SECOND = 1_000_000


class Sockets:
    """What was fed and has not begun."""

    def __init__(self) -> None:
        self.unread: dict[int, list[Handle]] = {}

    def recall(self, worker: int) -> list[Handle]:
        return self.unread.pop(worker, [])


def new_pool(slots: int = 1, idle: int = 1) -> tuple[pools.Pool, Sockets]:
    sockets = Sockets()
    return pools.Pool(slots, idle, sockets.recall), sockets


def warmed(slots: int = 1) -> tuple[pools.Pool, Sockets]:
    """With one ready worker, whose steps are short."""
    pool, sockets = new_pool(slots)
    assert pool.add(NOW, [(100, "a")]) == [pools.StartWorker(1, "a")]
    assert pool.ready(NOW, 1) == [pools.Feed(1, [100]), pools.Begun([100])]
    assert pool.finished(NOW, 1, [(100, 100)]) == []
    return pool, sockets


def test_short_steps_queue_in_a_worker_and_long_ones_do_not() -> None:
    pool, _ = warmed()
    assert pool.add(NOW, [(1, "a"), (2, "a"), (3, "a")]) == [pools.Feed(1, [1, 2, 3]), pools.Begun([1])]
    assert pool.finished(NOW, 1, [(1, 10 * SECOND), (2, 10 * SECOND), (3, 10 * SECOND)]) == []
    assert pool.add(NOW, [(4, "a"), (5, "a")]) == [pools.Feed(1, [4]), pools.Begun([4])]
    assert pool.waiting == [5]


def test_what_is_held_up_goes_to_a_free_slot_or_back() -> None:
    pool, sockets = warmed()
    pool.add(NOW, [(1, "a"), (2, "a"), (3, "a")])
    sockets.unread[1] = [2, 3]
    assert pool.next_deadline() == NOW + pools.PATIENCE
    assert pool.handle_timer(NOW + pools.PATIENCE) == []
    assert pool.waiting == [2, 3]
    late = NOW + pools.PATIENCE + pools.HAND_BACK_AFTER
    assert pool.next_deadline() == late
    assert pool.handle_timer(late) == [pools.Unstarted([2, 3])]


def test_a_stop_of_what_is_not_begun_needs_no_signal() -> None:
    pool, sockets = warmed()
    pool.add(NOW, [(1, "a"), (2, "a"), (3, "a")])
    sockets.unread[1] = [2, 3]
    decisions = pool.stop(NOW, 2, kill=False)
    assert decisions[0] == pools.NeverStarted([2])
    assert pools.Feed(1, [3]) in decisions


def test_a_stop_waits_for_the_end_of_what_has_ended_unheard() -> None:
    """The worker has begun 2, so 1 has ended, and its result is on the way: a signal now would hit the wrong one."""
    pool, _ = warmed()
    pool.add(NOW, [(1, "a"), (2, "a")])
    assert pool.stop(NOW, 2, kill=True) == []
    assert pool.finished(NOW, 1, [(1, 100)]) == [pools.KillWorker(1), pools.Begun([2])]


def test_a_stop_of_what_has_ended_unheard_signals_nobody() -> None:
    pool, _ = warmed()
    pool.add(NOW, [(1, "a"), (2, "a")])
    assert pool.stop(NOW, 1, kill=True) == []
    assert pool.finished(NOW, 1, [(1, 100)]) == [pools.Begun([2])]
    assert pool.finished(NOW, 1, [(2, 100)]) == [pools.KillWorker(1)]


def test_the_death_of_a_worker_costs_the_running_attempt_alone() -> None:
    pool, sockets = warmed()
    pool.add(NOW, [(1, "a"), (2, "a"), (3, "a")])
    sockets.unread[1] = [2, 3]
    assert pool.exited(NOW, 1) == [pools.Died(1, 1), pools.StartWorker(2, "a")]
    assert pool.ready(NOW, 2) == [pools.Feed(2, [2, 3]), pools.Begun([2])]


def test_another_kind_gets_its_turn() -> None:
    """The oldest that waits is served first: nothing younger is queued behind what runs."""
    pool, _ = warmed()
    pool.add(NOW, [(1, "a")])
    assert pool.add(NOW, [(2, "b"), (3, "a")]) == []
    assert pool.finished(NOW, 1, [(1, 100)]) == [pools.StartWorker(2, "b")]
    assert pool.ready(NOW, 2) == [pools.Feed(2, [2]), pools.Begun([2])]
    assert pool.waiting == [3]


def test_idle_workers_are_kept_up_to_a_limit_and_for_a_while() -> None:
    pool, _ = new_pool(slots=1, idle=1)
    for at, kind in enumerate(["a", "b", "c"], 1):
        decisions = pool.add(NOW + at, [(at, kind)])
        assert decisions[0] == pools.StartWorker(at, kind)
        assert (pools.DismissWorker(at - 2) in decisions) == (at > 2)
        pool.ready(NOW + at, at)
        pool.finished(NOW + at, at, [(at, 100)])
    pool.exited(NOW, 1)
    assert pool.handle_timer(NOW + 3 + pools.IDLE_AFTER) == [pools.DismissWorker(2), pools.DismissWorker(3)]


def test_a_kind_whose_workers_do_not_start_is_given_up() -> None:
    pool, _ = new_pool()
    pool.add(NOW, [(1, "a"), (2, "a")])
    for worker in range(1, pools.MOST_STARTS):
        assert pool.exited(NOW, worker) == [pools.StartWorker(worker + 1, "a")]
    assert pool.exited(NOW, pools.MOST_STARTS) == [pools.Unstartable(pools.MOST_STARTS, [1, 2])]


def test_a_full_worker_is_fed_again_when_it_has_ended_something() -> None:
    pool, _ = warmed()
    pool.add(NOW, [(1, "a"), (2, "a"), (3, "a")])
    assert pool.overfed(NOW, 1, [2, 3]) == []
    assert pool.waiting == [2, 3]
    assert pool.finished(NOW, 1, [(1, 100)]) == [pools.Feed(1, [2, 3]), pools.Begun([2])]


def test_work_ahead_is_told_by_the_pace_of_the_kind() -> None:
    pool, _ = warmed()
    assert pool.work_ahead(1) == 0
    pool.add(NOW, [(number, "a") for number in range(50)])
    assert pool.work_ahead(1) == 50 * 100
    assert pool.work_ahead(99) == 0


def test_who_waits_for_a_worker_that_is_slow_to_start_does_not_wait_for_a_slot() -> None:
    pool, _ = new_pool(slots=2)
    pool.add(NOW, [(1, "a"), (2, "b"), (3, "a"), (4, "b")])
    assert pool.starting(NOW + pools.SLOW_START - 1) == [], "it takes as long as it takes"
    later = NOW + pools.SLOW_START
    assert pool.starting(later) == [1, 2]
    assert pool.starting(NOW + pools.HUNG_START) == [], "it may never start: an idle agent may have the attempts"
    assert pool.ready(later, 1) == [pools.Feed(1, [1]), pools.Begun([1])]
    assert pool.starting(later) == [2]
    pool.withdraw(later, [2])
    assert pool.starting(later) == [4], "the process will be its"
    pool.ready(later, 2)
    assert pool.starting(later) == []

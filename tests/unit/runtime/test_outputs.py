"""The cache of outputs is bounded by bytes, and forgets what was not used for longest."""

from __future__ import annotations

from penstock_coordinator.runtime.outputs import ENTRY_OVERHEAD, OutputCache

RUN = b"r" * 16


def test_the_least_recently_used_goes_first() -> None:
    cache = OutputCache(3 * (ENTRY_OVERHEAD + 10))
    for step in range(3):
        cache.put((RUN, step, -1), b"x" * 10)
    assert cache.get((RUN, 0, -1)) is not None
    cache.put((RUN, 3, -1), b"x" * 10)
    assert cache.get((RUN, 1, -1)) is None
    assert cache.get((RUN, 0, -1)) is not None


def test_putting_again_replaces() -> None:
    cache = OutputCache(10_000)
    cache.put((RUN, 0, -1), b"first")
    cache.put((RUN, 0, -1), b"second one")
    assert cache.get((RUN, 0, -1)) == b"second one"
    assert cache.size == ENTRY_OVERHEAD + len(b"second one")


def test_it_never_holds_more_than_its_capacity() -> None:
    cache = OutputCache(2_000)
    for step in range(100):
        cache.put((RUN, step, -1), b"x" * (step * 40))
        assert cache.size <= 2_000

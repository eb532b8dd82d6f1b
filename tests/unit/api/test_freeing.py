"""Memory of large requests goes back to the system."""

from __future__ import annotations

from collections.abc import Callable

from penstock_coordinator.api.freeing import LARGE_BYTES, FreedMemory


def test_it_goes_back_once_for_all_large_requests_of_a_while() -> None:
    due: list[Callable[[], None]] = []
    trimmed: list[bool] = []
    freed = FreedMemory(lambda: trimmed.append(True), lambda _seconds, then: due.append(then))
    freed.after(LARGE_BYTES - 1)
    assert not due
    freed.after(LARGE_BYTES)
    freed.after(LARGE_BYTES)
    assert (len(due), trimmed) == (1, [])
    due.pop()()
    assert trimmed == [True]
    freed.after(LARGE_BYTES)
    assert len(due) == 1

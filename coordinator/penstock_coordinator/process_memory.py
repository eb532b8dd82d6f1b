"""How the memory of a coordinator's process is kept small: garbage collection and the allocator."""

from __future__ import annotations

import contextlib
import ctypes
import gc

COLLECT_AFTER = 50_000
"""Allocations between looks for garbage among the youngest objects: what a turn makes goes by reference count, and
looking through what lives long costs latency for nothing."""
M_ARENA_MAX = -8
"""Of malloc.h."""


def let_memory_grow(*, collect: bool = True) -> None:
    """What a recovery makes stays: the collector would look through all of it again and again for nothing. `collect`
    before: it takes a while where there is much already."""
    if collect:
        gc.collect()
    gc.disable()


def settle_memory() -> None:
    """What is there after the start stays: the collector need not look at it again."""
    gc.freeze()
    gc.set_threshold(COLLECT_AFTER, 20, 50)
    gc.enable()
    trim_memory()  # What the start needed for a while: 4 MB.


def trim_memory() -> None:
    """What is free goes back to the system. Other allocators do without."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def share_one_arena() -> None:
    """Threads get no arenas of malloc of their own: gRPC's fill them with messages that the loop frees, and of large
    ones hundreds of megabytes stay behind. Counts for threads that begin later; other allocators do without."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).mallopt(M_ARENA_MAX, 1)

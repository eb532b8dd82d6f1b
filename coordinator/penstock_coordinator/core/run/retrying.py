"""Whether and when an attempt that failed is followed by another."""

from __future__ import annotations

from penstock_coordinator.core.plan.model import Retry

OUT_OF_MEMORY = "OutOfMemory"
"""The reason of an attempt that was ended for its memory."""
MOST_RAISED = 64
"""A step run asks for at most so many times what its step asks for."""


def is_retried(retry: Retry, names: set[str]) -> bool:
    """Whether the policy retries a failure that has these names."""
    if not names.isdisjoint(retry.never_retry_on):
        return False
    return not retry.retry_on or not names.isdisjoint(retry.retry_on)


def backoff(retry: Retry, failures: int, chance: float) -> int:
    """Microseconds before the attempt that follows the given number of failures, at least one. `chance` is in [0, 1);
    the wait is drawn from [wait * (1 - jitter), wait]."""
    try:
        wait = min(retry.initial_backoff * retry.multiplier ** (failures - 1), float(retry.max_backoff))
    except OverflowError:
        wait = float(retry.max_backoff)
    return int(wait * (1.0 - retry.jitter * chance))


def raised_memory(retry: Retry, first: int, asked: int, most: int) -> tuple[int, int] | None:
    """After an attempt that asked for `asked` ran out of memory: what the next one asks for, and what it would ask for
    if there were agents with more than `most` (0: that is not known). None: as before. `first`: what the step says."""
    wanted = min(int(asked * retry.memory_factor), first * MOST_RAISED)
    given = min(wanted, most) if most else wanted
    return (given, wanted) if given > asked else None

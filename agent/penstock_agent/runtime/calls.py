"""Calls that end under the one who waits for them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager


class CallLost(Exception):
    """The call was ended from this side, for example because its channel was closed."""


@contextmanager
def lost_when_cancelled() -> Iterator[None]:
    """The library tells a waiter that its call was cancelled as if the waiter itself had been: tell them apart."""
    try:
        yield
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise
        raise CallLost from None

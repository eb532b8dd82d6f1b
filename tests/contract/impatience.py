"""Stores that soon give up what does not answer, while that is what a test is about: not before, nor afterwards."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING
from unittest.mock import patch

from penstock_coordinator.adapters.postgres import connections, journal, retention

if TYPE_CHECKING:
    from collections.abc import Iterator

    from penstock_coordinator.adapters.postgres.connections import Connection, PooledConnection

ANSWER_SECONDS = 0.5


@contextlib.contextmanager
def impatient(seconds: float = ANSWER_SECONDS, *, connecting: bool = False) -> Iterator[None]:
    """What is begun in here is given up after so many seconds; `connecting`: new connections are too."""
    answering_within = connections.answering_within

    def soon(given: float, connection: Connection | PooledConnection) -> contextlib.AbstractContextManager[None]:
        return answering_within(min(given, seconds), connection)

    with contextlib.ExitStack() as stack:
        for module in (connections, journal, retention):
            stack.enter_context(patch.object(module, "answering_within", soon))
        if connecting:
            stack.enter_context(patch.object(connections, "CONNECT_SECONDS", seconds))
            stack.enter_context(patch.object(connections, "ACQUIRE_SECONDS", 2 * seconds))
        yield

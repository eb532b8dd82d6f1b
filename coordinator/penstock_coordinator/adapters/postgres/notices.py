"""Hints by NOTIFY. One may be lost at any time, with its connection or without a word: whoever waits for hints looks
now and then as well."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import asyncpg

from penstock_coordinator.adapters.postgres.connections import close, connect

if TYPE_CHECKING:
    from collections.abc import Callable

    from penstock_coordinator.adapters.postgres.connections import Connection


class Notices:
    """Of one channel, on a connection of its own, which is opened when somebody first listens."""

    def __init__(self, dsn: str, name: str, channel: str, hear: Callable[[str], None]) -> None:
        """`name` is the connection's, for people who look at the database. `hear` gets what each notice says."""
        self._dsn = dsn
        self._name = name
        self._channel = channel
        self._hear = hear
        self._connection: Connection | None = None

    async def listen(self) -> None:
        """To be called before each wait: it listens again if its connection was lost. While the database is away it
        does nothing."""
        with contextlib.suppress(asyncpg.PostgresError, asyncpg.InterfaceError, OSError):
            if self._connection is None or self._connection.is_closed():
                self._connection = await connect(self._dsn, self._name)
            # Asks the database for nothing if it listens; if it was interrupted at that, this is the next try.
            await self._connection.add_listener(self._channel, self._notice)

    def _notice(self, _connection: object, _pid: int, _channel: str, said: object) -> None:
        self._hear(str(said))

    async def aclose(self) -> None:
        if self._connection is not None:
            await close(self._connection)

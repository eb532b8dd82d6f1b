"""Whether PostgreSQL answers and takes writes, asked on a connection of its own.

The pool and the lanes wait long for an answer, as what they ask may take long, and may have nothing to ask for hours.
Readiness has to tell within seconds; so it neither waits in their queue nor for a connection that hangs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from penstock_coordinator.adapters.postgres.connections import answering_within, connect, unavailable
from penstock_coordinator.ports import Unavailable

if TYPE_CHECKING:
    from penstock_coordinator.adapters.postgres.connections import Connection

PULSE_SECONDS = 1.5
"""For a connection, and again for an answer."""
_READ_ONLY = "SELECT pg_is_in_recovery() OR current_setting('transaction_read_only')::boolean"


class PostgresPulse:
    """Not to be asked twice at once."""

    def __init__(self, dsn: str, coordinator_id: str, seconds: float = PULSE_SECONDS) -> None:
        self._dsn = dsn
        self._name = f"penstock {coordinator_id} pulse"
        self._seconds = seconds
        self._connection: Connection | None = None

    async def ask(self) -> None:
        """Raises `Unavailable`, with the reason."""
        try:
            with unavailable():
                connection = await self._connected()
                with answering_within(self._seconds, connection):
                    read_only = await connection.fetchval(_READ_ONLY)
        except BaseException:
            self._cut()
            raise
        if read_only:
            # The name may lead to another server the next time.
            self._cut()
            raise Unavailable("PostgreSQL: it takes no writes, as a standby or by default_transaction_read_only")

    async def _connected(self) -> Connection:
        if self._connection is None or self._connection.is_closed():
            self._connection = await connect(self._dsn, self._name, seconds=self._seconds)
        return self._connection

    def _cut(self) -> None:
        if self._connection is not None:
            self._connection.terminate()
            self._connection = None

    async def aclose(self) -> None:
        self._cut()

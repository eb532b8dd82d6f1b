"""The way to a database that is in memory."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from penstock_coordinator.ports import Unavailable

if TYPE_CHECKING:
    from penstock_coordinator.adapters.memory.database import MemoryDatabase


async def reached(database: MemoryDatabase) -> None:
    """Lets others go on first, as a real way to a database does. Raises `Unavailable`."""
    await asyncio.sleep(database.distance())
    if not database.there.is_set():
        raise Unavailable("the database is away")

"""How many dead letters are open: asked of the database when somebody wants to know, and then not again for a while."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import structlog

from penstock_coordinator.ports import Unavailable

if TYPE_CHECKING:
    from penstock_coordinator.runtime.supervisor import Supervisor

log = structlog.get_logger(__name__)

KEPT = 15_000_000
"""Microseconds that an answer is good for, also the answer that there is none."""
MOST = 100_000
"""So many are counted at the most."""
PATIENCE = 0.5
"""Seconds that a scrape waits for the database. A later answer is told by the next one."""


class OpenLetters:
    def __init__(self) -> None:
        self._epoch = 0
        """The incarnation that the rest is of."""
        self._due = 0
        """By a clock that only goes on."""
        self._asking: asyncio.Task[None] | None = None
        self._found: int | None = None

    async def count(self, supervisor: Supervisor) -> int | None:
        """None: it is not known, as the database does not answer."""
        now = supervisor.clock.monotonic()
        if supervisor.epoch != self._epoch:
            self._epoch, self._due, self._asking, self._found = supervisor.epoch, 0, None, None
        if self._asking is None and now >= self._due:
            self._due = now + KEPT
            self._asking = asyncio.create_task(self._ask(supervisor))
        if self._asking is not None:
            await asyncio.wait({self._asking}, timeout=PATIENCE)
        return self._found

    async def _ask(self, supervisor: Supervisor) -> None:
        found: int | None = None
        try:
            found = await supervisor.stores.dead_letters.count_open(MOST)
        except Unavailable as error:
            log.debug("open_letters_not_counted", reason=str(error))
        except Exception:
            # A fault of ours costs this one figure, and not the page.
            log.exception("open_letters_not_counted")
        if supervisor.epoch == self._epoch:
            self._found, self._asking = found, None

"""A figure that the database is asked for when somebody wants to know it, and then not again for a while."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import structlog

from penstock_coordinator.ports import Unavailable

if TYPE_CHECKING:
    from penstock_coordinator.runtime.supervisor import Supervisor

log = structlog.get_logger(__name__)

PATIENCE = 0.5
"""Seconds that a scrape waits for the database. A later answer is told by the next one."""


class AskedFigure:
    """`name`: for the log. `kept`: microseconds that an answer is good for, also the answer that there is none."""

    def __init__(self, name: str, kept: int) -> None:
        self._name = name
        self._kept = kept
        self._epoch = 0
        """The incarnation that the rest is of."""
        self._due = 0
        """By a clock that only goes on."""
        self._asking: asyncio.Task[None] | None = None
        self._found: float | None = None

    async def look(self, supervisor: Supervisor, ask: Callable[[], Awaitable[float]]) -> float | None:
        """None: it is not known, as the database does not answer. `ask` raises `Unavailable`."""
        now = supervisor.clock.monotonic()
        if supervisor.epoch != self._epoch:
            self._epoch, self._due, self._asking, self._found = supervisor.epoch, 0, None, None
        if self._asking is None and now >= self._due:
            self._due = now + self._kept
            self._asking = asyncio.create_task(self._ask(supervisor.epoch, ask))
        if self._asking is not None:
            await asyncio.wait({self._asking}, timeout=PATIENCE)
        return self._found

    async def _ask(self, epoch: int, ask: Callable[[], Awaitable[float]]) -> None:
        found: float | None = None
        try:
            found = await ask()
        except Unavailable as error:
            log.debug("figure_not_known", figure=self._name, reason=str(error))
        except Exception:
            # A fault of ours costs this one figure, and not the page.
            log.exception("figure_not_known", figure=self._name)
        if epoch == self._epoch:
            self._found, self._asking = found, None

"""Whoever asks for the page first has it loaded: a coordinator that nobody scrapes needs no room for it."""

from __future__ import annotations

import asyncio
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from penstock_coordinator.api.health import Readiness
    from penstock_coordinator.api.metrics.page import MetricsPage
    from penstock_coordinator.api.metrics.place import Place

PAGE = "penstock_coordinator.api.metrics.page"


class Scraping:
    def __init__(self, readiness: Readiness, place: Place) -> None:
        self._readiness = readiness
        self._place = place
        self._page: MetricsPage | None = None

    async def render(self, accept: str) -> tuple[bytes, str]:
        """As `MetricsPage.render`."""
        if self._page is None:
            # Beside the event loop: it takes a tenth of a second.
            module = await asyncio.to_thread(import_module, PAGE)
            self._page = module.MetricsPage(self._readiness, self._place)
        return await self._page.render(accept)

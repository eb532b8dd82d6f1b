"""Asks the artifact store for nothing, now and then: who does not use it would not notice that it is away, nor that it
is back."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import structlog

from penstock_coordinator.ports import DependencyState, Unavailable

if TYPE_CHECKING:
    from penstock_coordinator.ports import ArtifactStore

log = structlog.get_logger(__name__)

REST_SECONDS = 10.0
"""Between two questions while all is well: 0.1 requests a second are no load for anybody."""
DOUBT_SECONDS = 1.0
"""After a failure, or as long as the breaker waits."""


class StoreProbe:
    """`store` has a breaker: what it hears is told by `store.dependency()`."""

    def __init__(self, store: ArtifactStore) -> None:
        self._store = store
        self._told_away = False

    async def run(self) -> None:
        """For ever."""
        while True:
            pause = await self.run_once()
            await asyncio.sleep(pause)

    async def run_once(self) -> float:
        """The seconds until it is to be asked again."""
        try:
            await self._store.probe()
        except Unavailable as error:
            log.debug("artifact_store_probe_failed", reason=str(error))
        except Exception:
            # A fault of ours is no reason to end the coordinator that works.
            log.exception("artifact_store_probe_broken")
        found = self._store.dependency()
        away = found.state is not DependencyState.CLOSED
        if away != self._told_away:  # whoever noticed
            self._told_away = away
            tell = log.warning if away else log.info
            tell("artifact_store_away" if away else "artifact_store_back", reason=found.reason)
        return max(DOUBT_SECONDS, found.retry_in / 1e6) if found.failures or away else REST_SECONDS

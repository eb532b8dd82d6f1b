"""What is told of runs that are not there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from penstock_coordinator.runtime.views import UnknownRun

if TYPE_CHECKING:
    from penstock_coordinator.ports import RunId, Stores


class RemovedRun(UnknownRun):
    """There is no such run any more."""

    def __init__(self, run_id: RunId, removed_at: int) -> None:
        super().__init__(run_id=run_id)
        self.removed_at = removed_at


async def unknown(stores: Stores, run_id: RunId) -> UnknownRun:
    """To be raised: there is no such run, and when it was removed if that is known. Raises `Unavailable`."""
    removed_at = await stores.retention.removed_at(run_id)
    return UnknownRun(run_id=run_id) if removed_at is None else RemovedRun(run_id, removed_at)

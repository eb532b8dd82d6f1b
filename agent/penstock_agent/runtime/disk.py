"""Whether the disk of the data folder has room for work, and what the operator is told of that."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from penstock_agent.core.inputs import DiskMeasured
from penstock_agent.own_log import OwnLog
from penstock_agent.runtime import host
from penstock_agent.runtime.host import Condition

log = OwnLog(__name__)


class DiskWatch:
    """`floor` in bytes: with less free the agent takes no work. A disk that cannot be looked at counts as one that
    cannot be written: the agent goes on with what it has, and takes no more until it can."""

    def __init__(self, folder: Path, floor: int, post: Callable[[DiskMeasured], None]) -> None:
        self._folder = folder
        self._floor = floor
        self._post = post
        self._low = False
        self._away = False

    def condition(self) -> Condition | None:
        """None: it cannot be looked at."""
        try:
            return host.condition(self._folder)
        except OSError:
            return None

    def measure(self, *, broken: bool) -> None:
        """`broken`: what is to survive the agent cannot be written there."""
        try:
            free = host.condition(self._folder).disk_free_bytes
        except OSError as error:
            self._tell_away(error)
            self._post(DiskMeasured(0, True))
            return
        self._away = False
        self._post(DiskMeasured(free, broken))
        self._tell(free, broken=broken)

    def _tell_away(self, error: OSError) -> None:
        if not self._away:
            log.warning(
                "disk_not_looked_at",
                folder=str(self._folder),
                reason=str(error),
                remedy="no work is taken: see to the disk of the data folder, and that the folder is where it was",
            )
        self._away = self._low = True

    def _tell(self, free: int, *, broken: bool) -> None:
        low, before = free < self._floor, self._low
        self._low = low or broken
        if low and not before:
            log.warning(
                "disk_low",
                folder=str(self._folder),
                free_bytes=free,
                floor_bytes=self._floor,
                remedy="no work is taken: free some, or lower PENSTOCK_AGENT_DISK_FLOOR_BYTES",
            )
        elif before and not self._low:
            log.info("disk_low_no_more", free_bytes=free)

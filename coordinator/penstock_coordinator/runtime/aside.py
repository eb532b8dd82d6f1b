"""Live runs that could not be made again from their journals: they stay as they are, and the others go on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

from penstock_coordinator.core.run.events import UnknownEvent

if TYPE_CHECKING:
    from penstock_coordinator.ports import RunId

log = structlog.get_logger(__name__)


MOST_CRASHES = 20
"""Of one run, without anything committed in between."""


class AsideRuns(dict["RunId", str]):
    """Why each cannot be made again, in words. The error itself, which may hold what users wrote, is in the log."""

    def __init__(self) -> None:
        super().__init__()
        self._crashes: dict[RunId, tuple[int, int]] = {}
        """Where the run stood when it last crashed, and how often it has there."""

    def crashed_too_often(self, run_id: RunId, seq: int) -> bool:
        """What makes it crash comes again by itself, and nothing else does: to make it again would go on for ever."""
        before, count = self._crashes.get(run_id, (seq, 0))
        self._crashes[run_id] = seq, count + 1 if before == seq else 1
        return self._crashes[run_id][1] >= MOST_CRASHES

    def forget_crashes(self, run_id: RunId) -> None:
        self._crashes.pop(run_id, None)

    def put(self, run_id: RunId, error: Exception, trace: str) -> None:
        """Tried again by the janitor, and at the next start. `trace`: its id, for the log."""
        self[run_id] = _why(error)
        self.forget_crashes(run_id)
        log.error("run_set_aside", run=run_id.hex(), trace=trace, reason=self[run_id], exc_info=error)


def _why(error: Exception) -> str:
    if isinstance(error, UnknownEvent):
        return "a record of it cannot be read: it is damaged, or a newer release has written it"
    if isinstance(error, NoJournal):
        return "there is none"
    return (
        f"its events do not follow from each other ({type(error).__name__}): it is damaged, or this release is at fault"
    )


class NoJournal(Exception):
    """A live run without an event."""

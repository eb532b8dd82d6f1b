"""What steps wrote."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from penstock_coordinator.ports.common import RunId


@dataclass(frozen=True, slots=True)
class LogLine:
    source: int
    number: int
    offset: int
    """Since the attempt began."""
    text: str


@dataclass(frozen=True, slots=True)
class LogChunk:
    """Lines of one attempt, in order. `position` is given by the store and grows within a run."""

    run_id: RunId
    step: int
    item: int
    attempt: int
    at: int
    lines: tuple[LogLine, ...]
    position: int = 0


@dataclass(frozen=True, slots=True)
class LogFilter:
    step: int | None = None
    item: int | None = None
    attempt: int | None = None
    since: int | None = None
    """Received at this instant or later."""


class LogStore(Protocol):
    """What steps wrote. All methods raise `Unavailable`."""

    async def append_logs(self, chunks: Sequence[LogChunk]) -> None:
        """Durable when it returns. A chunk whose (attempt, first line number) is there already, as
        a row or in a pack, changes nothing."""

    async def read_logs(self, run_id: RunId, where: LogFilter, after: int = 0, limit: int = 100) -> list[LogChunk]:
        """Of those that are rows: chunks with a position above `after`, in order of position."""

    async def last_logs(self, run_id: RunId, where: LogFilter, limit: int) -> list[LogChunk]:
        """Of those that are rows: the newest chunks, oldest of them first."""

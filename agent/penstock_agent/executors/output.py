"""Where the lines that attempts print go."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from penstock_agent.core.leases import Handle
from penstock_agent.executors.channel import LogLines


class OutputSink(Protocol):
    on_room: Callable[[], None] | None
    """Called when there is room again after `is_full`."""

    @property
    def is_full(self) -> bool:
        """Take no more lines from workers for now: they wait, and so do the steps that print."""

    def add(self, batch: LogLines) -> None:
        """Never blocks, and takes the batch also when full."""

    def attempt_ended(self, handle: Handle) -> None:
        """Its last lines may still come, soon."""

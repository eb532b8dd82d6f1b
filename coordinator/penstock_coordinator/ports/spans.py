"""Where spans go."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from penstock_coordinator.core.traces.spans import Span


class SpansRefused(Exception):
    """The receiver does not want them, now or later. The others of the same call have arrived."""

    def __init__(self, count: int, reason: str) -> None:
        """`reason`: what the receiver says."""
        super().__init__(reason)
        self.count = count


class SpanSink(Protocol):
    async def send(self, spans: Sequence[tuple[bytes, Span]]) -> None:
        """Each with the id of its trace. The same span may come again. Raises `Unavailable`: none of them may have
        arrived; and `SpansRefused`."""

    async def aclose(self) -> None:
        """Nothing is sent from now on."""

"""Where spans go."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from penstock_coordinator.core.traces.spans import Span


class SpanSink(Protocol):
    async def send(self, spans: Sequence[tuple[bytes, Span]]) -> None:
        """Each with the id of its trace. The same span may come again. Raises `Unavailable`: none of them may have
        arrived."""

    async def aclose(self) -> None:
        """Nothing is sent from now on."""

"""What is counted of the spans of runs that are sent."""

from __future__ import annotations


class SpanCounts:
    __slots__ = ("refused", "sent")

    def __init__(self) -> None:
        self.sent = 0
        """That the receiver of traces took."""
        self.refused = 0
        """That it does not want, now or later."""

"""Time and chance."""

from __future__ import annotations

from typing import Protocol

from penstock_coordinator.ports.common import RunId


class Clock(Protocol):
    def now(self) -> int:
        """Microseconds since 1970 (UTC)."""

    def monotonic(self) -> int:
        """Microseconds that never go back, and go on while the machine is suspended."""


class Ids(Protocol):
    def run_id(self) -> RunId: ...

    def key(self) -> bytes:
        """32 bytes that nobody can guess."""

    def jitter(self) -> float:
        """Evenly from [0, 1)."""

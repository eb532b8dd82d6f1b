"""How what this coordinator depends on fares: for people and probes, and for whoever decides what to accept."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class DependencyState(StrEnum):
    CLOSED = "closed"
    """Calls go through."""
    OPEN = "open"
    """Calls fail at once, without a try."""
    HALF_OPEN = "half_open"
    """One call tries whether it is back; the others fail at once."""


@dataclass(frozen=True, slots=True)
class ShareUse:
    """One share of a dependency's connections."""

    name: str
    in_use: int
    limit: int
    waiting: int


@dataclass(frozen=True, slots=True)
class Dependency:
    """`failures` are those in a row; spans in microseconds."""

    name: str
    state: DependencyState
    failures: int = 0
    retry_in: int = 0
    """Until it is tried again; 0 if that may be now."""
    reason: str = ""
    """The last failure's kind; nothing that was said in it."""
    shares: tuple[ShareUse, ...] = ()

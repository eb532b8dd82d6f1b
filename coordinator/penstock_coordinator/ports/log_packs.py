"""Lines that have left PostgreSQL for the artifact store: packs of one run, each of all its lines between two
positions.

The oldest lines of a run are packed first, so at any instant its packs have all lines up to some position, and rows
have those above. A name is written down before anything is put under it, and stays written down until a pack has it:
whoever dies in between leaves a name behind, and never bytes that nobody knows of.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from penstock_coordinator.ports.common import RunId
from penstock_coordinator.ports.logs import LogFilter


@dataclass(frozen=True, slots=True)
class StoredLines:
    """One row: lines of one attempt. `lines` as `runtime.log_packing` makes them."""

    position: int
    step: int
    item: int
    attempt: int
    at: int
    lines: bytes


@dataclass(frozen=True, slots=True)
class UnpackedLogs:
    """What a run has in rows."""

    run_id: RunId
    size: int
    """Bytes of the rows, compressed as they are."""
    since: int
    """When the oldest was received."""


@dataclass(frozen=True, slots=True)
class LogPart:
    """What a pack has of one attempt."""

    step: int
    item: int
    attempt: int
    lines: int
    first_number: int
    last_number: int
    first_time: int
    last_time: int


@dataclass(frozen=True, slots=True)
class LogPack:
    """`name` is that of a blob of the artifact store, `digest` the SHA-256 of its bytes."""

    run_id: RunId
    name: str
    first_position: int
    last_position: int
    rows: int
    lines: int
    size: int
    digest: bytes
    first_time: int
    last_time: int


class LogPackStore(Protocol):
    """The index of packs. All methods raise `Unavailable`."""

    async def oldest_rows(self, run_id: RunId, limit: int, limit_bytes: int) -> list[StoredLines]:
        """In order of position: at most `limit`, and of more than one row at most so many bytes."""

    async def unpacked(self, after: RunId, limit: int) -> tuple[list[UnpackedLogs], RunId | None]:
        """Of the next `limit` ids above `after` of runs that have rows; and the last id, None at the end."""

    async def unpacked_of(self, run_id: RunId) -> UnpackedLogs | None: ...

    async def claim_name(self, name: str, run_id: RunId, now: int) -> None:
        """Something may be put under the name from now on."""

    async def add_pack(self, pack: LogPack, parts: Sequence[LogPart]) -> bool:
        """In one transaction the rows between the pack's positions go, and the pack is there. False, and nothing is
        changed, if they are not as many as the pack has, or the name is not claimed any more."""

    async def packs(self, run_id: RunId, where: LogFilter, after: int, before: int | None, limit: int) -> list[LogPack]:
        """In order, those that may have lines that are meant, at a position above `after` and below `before`."""

    async def last_packs(self, run_id: RunId, where: LogFilter, before: int | None, limit: int) -> list[LogPack]:
        """The same, the newest first."""

    async def parts(self, pack: LogPack, where: LogFilter) -> list[LogPart]:
        """Those that are meant. None if the pack was removed."""

    async def unused_names(self, before: int, limit: int) -> list[str]:
        """Names that no pack has and that were claimed before the instant, or whose pack was removed. Nothing becomes
        a pack under them any more."""

    async def forget_names(self, names: Sequence[str]) -> None:
        """Nothing is kept under them now."""

"""Values that steps can be answered from, and who computes those that are not there yet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

import msgspec

from penstock_coordinator.ports.common import RunId


class CacheEntryRow(msgspec.Struct, frozen=True, gc=False):
    """A value that a record brings with it: what a step run gave, under the key of all that counts."""

    key: bytes
    step: int
    item: int
    attempt: int
    at: int
    expire_time: int | None
    pipeline: str
    step_name: str
    display_name: str
    output: bytes
    """JSON."""
    artifacts: tuple[str, ...] = ()
    """Digests of those that it refers to."""


@dataclass(frozen=True, slots=True)
class CacheEntry:
    entry_id: int
    """Of two entries the later one has the greater id, but for those that are written at the same moment."""
    run_id: RunId
    row: CacheEntryRow
    """Its output is empty in lists."""
    size: int
    """Bytes of the output."""


class Reserver(msgspec.Struct, frozen=True, gc=False):
    """A step run that computes a value, or would."""

    run_id: RunId
    step: int
    item: int
    token: int
    """Of its question: a later one of the same step run takes the place of an earlier one."""
    display_name: str


@dataclass(frozen=True, slots=True)
class CacheQuestion:
    key: bytes
    since: int
    """Older values do not count."""
    reserver: Reserver


@dataclass(frozen=True, slots=True)
class Found:
    entry: CacheEntry


@dataclass(frozen=True, slots=True)
class Reserved:
    """There is no value, and the key is reserved for whoever asked."""


@dataclass(frozen=True, slots=True)
class HeldBy:
    """There is no value, and another one has the key."""

    reserver: Reserver


CacheReply: TypeAlias = Found | Reserved | HeldBy


@dataclass(frozen=True, slots=True)
class CacheFilter:
    """All that is given must match."""

    pipeline: str = ""
    step_name: str = ""
    key_prefix: bytes = b""
    key_odd: int | None = None
    """The next four bits after the prefix."""
    run_id: RunId | None = None


class CacheStore(Protocol):
    """All methods raise `Unavailable`. Entries come with records; an entry is there as soon as its record is."""

    async def ask(self, questions: Sequence[CacheQuestion], now: int, ttl: int) -> list[CacheReply | None]:
        """Of each, in order: the newest value that has not expired, or a reservation for `ttl` microseconds. Of several
        questions for one key the first one gets it. None: it has just changed, ask again.

        A reservation ends with its time, or with `release`; nobody gets one between the value's commit and that.
        """

    async def renew(self, held: Sequence[tuple[bytes, Reserver]], ttl: int) -> list[bool]:
        """They hold the keys for so long from now, also keys that are nobody's by now. False: another one has it."""

    async def release(self, held: Sequence[tuple[bytes, Reserver]]) -> None:
        """What others hold by now stays theirs."""

    async def list_entries(self, where: CacheFilter, limit: int, before: int | None = None) -> list[CacheEntry]:
        """The newest first, of those with a smaller id than `before`; without outputs."""

    async def get(self, entry_id: int) -> CacheEntry | None: ...

    async def delete(self, where: CacheFilter, entry_id: int | None, limit: int) -> int:
        """At most `limit`, and how many."""

    async def nth_newest(self, number: int) -> int | None:
        """When the entry was made that has `number` - 1 newer ones."""

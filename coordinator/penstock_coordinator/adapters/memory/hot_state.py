"""Ports `Board` and `Post` in memory: of a coordinator that is alone, or of several in one process."""

from __future__ import annotations

import asyncio
import contextlib
from collections import defaultdict, deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from penstock_coordinator.ports.board import BoardEntry, Published
from penstock_coordinator.ports.post import LETTER_SECONDS, MAILBOX_LETTERS, RECEIVED_AT_ONCE, Letter

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from penstock_coordinator.ports import Clock

_SECOND = 1_000_000


class MemoryBoard:
    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._entries: dict[str, tuple[BoardEntry, int, int]] = {}
        """With when it was published, and when it is gone."""

    async def publish(self, entry: BoardEntry, ttl: float) -> None:
        now = self._clock.monotonic()
        self._entries[entry.coordinator_id] = entry, now, now + int(ttl * _SECOND)

    async def read(self) -> list[Published]:
        now = self._clock.monotonic()
        self._entries = {name: kept for name, kept in self._entries.items() if kept[2] > now}
        return [Published(entry, now - at) for _, (entry, at, _) in sorted(self._entries.items())]

    async def withdraw(self, coordinator_id: str) -> None:
        self._entries.pop(coordinator_id, None)


@dataclass(slots=True)
class _Mailbox:
    letters: deque[tuple[int, Letter]] = field(default_factory=lambda: deque(maxlen=MAILBOX_LETTERS))
    """With when each is lost."""
    filled: asyncio.Event = field(default_factory=asyncio.Event)


class MemoryPost:
    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._mailboxes: defaultdict[str, _Mailbox] = defaultdict(_Mailbox)

    async def send(self, mail: Mapping[str, Sequence[Letter]]) -> None:
        until = self._clock.monotonic() + int(LETTER_SECONDS * _SECOND)
        for name, letters in mail.items():
            mailbox = self._mailboxes[name]
            mailbox.letters.extend((until, letter) for letter in letters)
            mailbox.filled.set()

    async def receive(self, coordinator_id: str, wait: float) -> list[Letter]:
        mailbox = self._mailboxes[coordinator_id]
        if not mailbox.letters:
            mailbox.filled.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(mailbox.filled.wait(), wait)
        now, taken = self._clock.monotonic(), min(len(mailbox.letters), RECEIVED_AT_ONCE)
        popped = [mailbox.letters.popleft() for _ in range(taken)]
        return [letter for until, letter in popped if until > now]

"""What steps wrote down, and how long ago that was."""

from __future__ import annotations

import time
from pathlib import Path
from typing import NamedTuple

from tests.waiting import until

PATIENCE = 60.0


class Entry(NamedTuple):
    word: str
    number: int
    attempt: int
    at: float
    """Seconds since the machine was started."""


def now() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Ledger:
    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def entries(self) -> list[Entry]:
        if not self.path.exists():
            return []
        lines = (line.split() for line in self.path.read_text().splitlines())
        return [Entry(word, int(number), int(attempt), float(at)) for word, number, attempt, at in lines]

    def of(self, word: str, number: int | None = None) -> list[Entry]:
        return [each for each in self.entries if each.word == word and number in (None, each.number)]

    async def has(self, word: str, count: int, number: int | None = None) -> list[Entry]:
        """So many entries, once they are there."""

        async def there() -> list[Entry]:
            found = self.of(word, number)
            return found if len(found) >= count else []

        return await until(there, PATIENCE)


async def instant(at: float) -> None:
    """Returns when it has come."""

    async def come() -> bool:
        return now() >= at

    await until(come, PATIENCE)

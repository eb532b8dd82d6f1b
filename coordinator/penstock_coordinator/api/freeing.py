"""What large requests needed goes back to the system: the allocator keeps it otherwise, for the next one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeAlias

LARGE_BYTES = 1 << 20
"""The parts of larger messages need many times their bytes, which tells."""
SECONDS = 2.0
"""After the message was decoded. Calls with large ones take less, unless they are kept."""

Later: TypeAlias = Callable[[float, Callable[[], None]], object]


def _later(seconds: float, then: Callable[[], None]) -> object:
    return asyncio.get_running_loop().call_later(seconds, then)


class FreedMemory:
    """`trim` gives back what it can. However many large requests come meanwhile, it is asked once."""

    def __init__(self, trim: Callable[[], object] = lambda: None, later: Later = _later) -> None:
        self._trim = trim
        self._later = later
        self._due = False

    def after(self, size: int) -> None:
        """A message of so many bytes was decoded."""
        if size >= LARGE_BYTES and not self._due:
            self._due = True
            self._later(SECONDS, self._give_back)

    def _give_back(self) -> None:
        self._due = False
        self._trim()

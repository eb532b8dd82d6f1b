"""How much room is left where a coordinator writes. A disk that does not answer costs its figures, and not the page."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

PATIENCE = 0.5
"""Seconds that a scrape waits for a disk. While it does not answer it is not asked again."""


class Room(NamedTuple):
    """Bytes."""

    free: int
    """For a user without rights of his own."""
    size: int


class Disks:
    """`folders`: by the name that they are told under."""

    def __init__(self, folders: Mapping[str, Path]) -> None:
        self._folders = folders
        self._looking: dict[str, asyncio.Future[Room | None]] = {}

    async def look(self) -> dict[str, Room]:
        """Of those that answer."""
        for name, folder in self._folders.items():
            if name not in self._looking:
                self._looking[name] = asyncio.ensure_future(asyncio.to_thread(room, folder))
        asked = dict(self._looking)  # another scrape may take them out meanwhile
        if asked:
            await asyncio.wait(asked.values(), timeout=PATIENCE)
        answered = {name: looking.result() for name, looking in asked.items() if looking.done()}
        for name in answered:
            if self._looking.get(name) is asked[name]:
                del self._looking[name]
        return {name: found for name, found in answered.items() if found is not None}


def room(folder: Path) -> Room | None:
    """None: it is not there, or cannot be looked at."""
    try:
        found = os.statvfs(folder)
    except OSError:
        return None
    return Room(found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize)

"""An agent's disk: what it wrote and did not sync is lost with the process, more or less of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from penstock.testing.timeline import MILLISECOND, SECOND, Process

if TYPE_CHECKING:
    from penstock_agent.core.leases import Restored


class Disk:
    """Of one agent's machine; outlives the agent's processes."""

    def __init__(self) -> None:
        self.durable: dict[bytes, Restored] = {}
        self.full = False
        self.was_full = False
        self.syncs = 0
        self.breaks_after: Callable[[], None] | None = None
        """What happens right after the next sync, before anybody hears of it."""


class SpoolModel:
    """The spool of one process: records are gathered, written and synced together, in their order."""

    def __init__(self, process: Process, disk: Disk) -> None:
        self._process = process
        self._disk = disk
        self._pending: list[tuple[bytes, Restored | None]] = []
        self._writing: list[tuple[bytes, Restored | None]] = []
        self.live: dict[bytes, Restored] = dict(disk.durable)

    def load(self) -> list[Restored]:
        return list(self._disk.durable.values())

    def add(self, result: Restored) -> None:
        self.live[result.result_id] = result
        self._write(result.result_id, result)

    def remove(self, result_id: bytes) -> None:
        if self.live.pop(result_id, None) is not None:
            self._write(result_id, None)

    def _write(self, result_id: bytes, result: Restored | None) -> None:
        self._pending.append((result_id, result))
        if not self._writing:
            self._flush()

    def _flush(self) -> None:
        self._writing, self._pending = self._pending, []
        chance = self._process.timeline.random.random()
        self._process.after(int(chance * 8 * MILLISECOND), self._synced)

    def _synced(self) -> None:
        if self._disk.full and any(result is not None for _, result in self._writing):
            self._process.note("spool_fails")
            self._process.after(SECOND, self._synced)
            return
        self._apply(len(self._writing))
        self._disk.syncs += 1
        self._writing = []
        breaks, self._disk.breaks_after = self._disk.breaks_after, None
        if breaks is not None:
            breaks()
        if self._pending:
            self._flush()

    def _apply(self, count: int) -> None:
        for result_id, result in self._writing[:count]:
            if result is None:
                self._disk.durable.pop(result_id, None)
            else:
                self._disk.durable[result_id] = result

    def crash(self) -> None:
        """Of what was being written the beginning may be there, the rest is a torn end."""
        if self._writing and not self._disk.full:
            self._apply(self._process.timeline.random.randrange(len(self._writing) + 1))
        self._writing, self._pending = [], []

"""The newest results that were committed, by their ids: what comes again is told from what comes too late."""

from __future__ import annotations

KEPT = 5_000


class Settled:
    """Remembers at least the newest `KEPT`, at most twice as many."""

    def __init__(self) -> None:
        self._newest: set[bytes] = set()
        self._older: set[bytes] = set()

    def add(self, result_id: bytes) -> None:
        self._newest.add(result_id)
        if len(self._newest) >= KEPT:
            self._newest, self._older = set(), self._newest

    def __contains__(self, result_id: bytes) -> bool:
        return result_id in self._newest or result_id in self._older

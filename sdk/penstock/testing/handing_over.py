"""A planned hand-over: one that follows reads the runs, and gets them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from penstock.testing.timeline import SECOND

if TYPE_CHECKING:
    from collections.abc import Sequence

    from penstock.testing.coordinator import Coordinator
    from penstock.testing.seats import Seat

PREPARED_WITHIN = 5 * SECOND
"""One of them."""
FOUND_WITHIN = 8 * SECOND
"""Any of them, when the owner stops."""


class HandOver:
    """Those that follow are asked one after the other to read the runs; the first that has is the successor.

    `stays`: the owner does not stop, and if nobody has read them nothing changes.
    """

    def __init__(self, seat: Seat, owning: Coordinator, asked: Sequence[str], *, stays: bool = False) -> None:
        self._seat = seat
        self._owning = owning
        self._asked = list(asked)
        self._stays = stays
        self._now_asked = ""
        self._over = False

    def begin(self) -> None:
        seat = self._seat
        seat.note("hands over" if self._stays else "stops")
        seat.cluster.count("hand-overs wanted" if self._stays else "owners stopped")
        seat.after(FOUND_WITHIN, self._decide, "")
        self._ask_next()

    def _ask_next(self) -> None:
        if self._over:
            return
        if not self._asked or not self._owning.alive:
            self._decide("")
            return
        name = self._now_asked = self._asked.pop(0)
        self._seat.cluster.call_to_prepare(self._seat, name, self._answered)
        self._seat.after(PREPARED_WITHIN, self._answered, name, False)

    def _answered(self, name: str, prepared: bool) -> None:
        if name != self._now_asked:
            return
        self._now_asked = ""
        if prepared:
            self._decide(name)
        else:
            self._ask_next()

    def _decide(self, successor: str) -> None:
        if self._over:
            return
        self._over = True
        if successor or not self._stays:
            self._seat.cluster.count("handed over" if successor else "left to anybody")
            self._seat.leave(self._owning, successor)

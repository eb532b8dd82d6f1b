"""A planned hand-over: one that follows reads the runs, and gets them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from penstock.testing.timeline import SECOND

if TYPE_CHECKING:
    from penstock.testing.coordinator import Coordinator
    from penstock.testing.seats import Seat

PREPARED_WITHIN = 5 * SECOND
"""One of them."""
LEFT_WITHIN = 5 * SECOND
"""Members, all of them."""
FOUND_WITHIN = 8 * SECOND
"""Any of them, when the owner stops."""


class HandOver:
    """First all members leave: what they have is the head's again. Then those that follow are asked one after the other
    to read the runs; the first that has is the successor.

    `wanted`: a person wants that one, the owner does not stop, and if it has not read them nothing changes.
    """

    def __init__(self, seat: Seat, owning: Coordinator, wanted: str = "") -> None:
        self._seat = seat
        self._owning = owning
        self._wanted = wanted
        self._members: set[str] = set()
        self._asked: list[str] = []
        self._now_asked = ""
        self._begun = False
        self._over = False

    def begin(self) -> None:
        seat = self._seat
        seat.note("hands over" if self._wanted else "stops")
        seat.cluster.count("hand-overs wanted" if self._wanted else "owners stopped")
        self._members = set(seat.membership.names())
        for name in sorted(self._members):
            seat.membership.send_away(name, self._owning, self._left)
        if self._members:
            seat.after(LEFT_WITHIN, self._ask)
        else:
            self._ask()

    def _left(self, name: str, left: bool) -> None:
        self._members.discard(name)
        if not self._members:
            self._ask()

    def _ask(self) -> None:
        """Those that follow by now. Members that have not answered are waited for by whoever claims."""
        if self._begun:
            return
        self._begun = True
        seat = self._seat
        seat.after(FOUND_WITHIN, self._decide, "")
        followers = seat.followers()
        self._asked = [name for name in (followers if not self._wanted else [self._wanted]) if name in followers]
        self._ask_next()

    def _ask_next(self) -> None:
        if self._over:
            return
        if not self._asked or not self._owning.alive:
            self._decide("")
            return
        name = self._now_asked = self._asked.pop(0)
        caller = self._seat.name
        self._seat.cluster.call(
            self._seat, name, lambda seat, answer: seat.prepare(caller, answer), lambda done: self._answered(name, done)
        )
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
        if successor or not self._wanted:
            self._seat.cluster.count("handed over" if successor else "left to anybody")
            self._seat.leave(self._owning, successor)

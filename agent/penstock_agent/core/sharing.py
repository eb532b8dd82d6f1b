"""How the room of an agent is offered to several coordinators, each of which knows its own leases alone.

Room is the agent's: what it takes less what it holds of all of them. Credits count up and are never taken back. Who has
something to place uses a credit within milliseconds, so one that is not used within `OFFER` says that this coordinator
has nothing now: it stays valid, counts against nobody, and the room is offered to the next one. What is promised twice
that way, and used by both, is handed back unstarted if steps are long, and waits if they are short.
"""

from __future__ import annotations

from collections.abc import Sequence

from penstock_agent.core.book import sooner
from penstock_agent.core.session import Session

OFFER = 50_000
"""µs that a credit is kept free for the one who got it."""


class Sharing:
    """By turn among those who use what they get."""

    def __init__(self) -> None:
        self.offer_at: int | None = None
        """When room that nobody uses may be offered to somebody else: a lower bound."""
        self._last_link = -1
        """Who got credits last."""

    def offers(
        self, now: int, room: int, capacity: int, slots: int, sessions: Sequence[Session]
    ) -> list[tuple[Session, int]]:
        """Who gets how many credits more. `room` of `capacity` leases is free, over all of them."""
        asking = [each for each in self._by_turn(sessions) if not each.unused or _is_fresh(each, now)]
        offers = self._divided(now, room, capacity, asking) if room > 0 else []
        if room >= capacity:
            offers += _topped_up(now, slots, sessions)
        self.offer_at = self._next_offer(now, offers, asking) if room > 0 else None
        return offers

    def _by_turn(self, sessions: Sequence[Session]) -> list[Session]:
        ordered = sorted(sessions, key=lambda session: session.link)
        late = [session for session in ordered if session.link > self._last_link]
        return late + ordered[: len(ordered) - len(late)]

    def _divided(self, now: int, room: int, capacity: int, asking: list[Session]) -> list[tuple[Session, int]]:
        """In equal parts, and what is left over by turn. Few messages while credits are left; at once when there are
        none."""
        offers: list[tuple[Session, int]] = []
        if not asking:
            return offers
        free = room - sum(session.unused for session in asking)
        each, odd = divmod(room, len(asking))
        for place, session in enumerate(asking):
            part = each + (place < odd)
            more = min(part - session.unused, free)
            if more > 0 and (not session.unused or more * 4 * len(asking) >= capacity):
                free -= more
                session.active_at = now
                self._last_link = session.link
                offers.append((session, more))
        return offers

    @staticmethod
    def _next_offer(now: int, offers: list[tuple[Session, int]], asking: list[Session]) -> int | None:
        """None: nobody waits for room that is kept free for somebody else."""
        given = {session.link for session, _ in offers}
        if all(session.unused or session.link in given for session in asking):
            return None
        bound: int | None = None
        for session in asking:
            if session.unused or session.link in given:
                bound = sooner(bound, session.active_at + OFFER)
        return bound


def _is_fresh(session: Session, now: int) -> bool:
    """It was offered something, or has used something, a moment ago."""
    return now - session.active_at < OFFER


def _topped_up(now: int, slots: int, sessions: Sequence[Session]) -> list[tuple[Session, int]]:
    """An idle agent leaves each coordinator with as many credits as it has slots: the first grants of one that has had
    nothing need no round trip."""
    return [
        (session, slots - session.unused)
        for session in sessions
        if session.unused and not _is_fresh(session, now) and (slots - session.unused) * 4 >= slots
    ]

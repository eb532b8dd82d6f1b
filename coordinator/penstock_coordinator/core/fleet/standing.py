"""Whether this incarnation may go on renewing leases.

Another one may take over, and then gives agents a lease's ttl and margin to come to it. Whoever was replaced and does
not know it renews leases meanwhile. So it looks at its fence more than once within a margin, and after it stood still
for longer than that it renews nothing until it has looked: what it renews ends before the newer one gives it up.
When its ownership lease has run out it renews nothing either.
"""

from __future__ import annotations

SHARE_OF_MARGIN = 0.4
"""Twice this, for the pause that is not noticed and the time to the next look, leaves some for the look itself."""
SHORTEST = 1_000_000
"""What a busy machine takes now and then is no pause: margins below three seconds do not cover this."""


def fence_interval(margin: int) -> int:
    """The time between two looks, and the longest that a process stands still without being in doubt; microseconds."""
    return max(int(margin * SHARE_OF_MARGIN), SHORTEST)


class Standing:
    """Instants are microseconds of a monotonic clock."""

    def __init__(self, longest_pause: int) -> None:
        self._longest_pause = longest_pause
        self._awake_at: int | None = None
        self._doubts = 0
        self._settled = 0
        self._over = False
        self.ends_at: int | None = None
        """When its ownership lease runs out, if that is so; to be set anew with each renewal."""

    @property
    def in_doubt(self) -> bool:
        return self._over or self._settled != self._doubts

    def awake(self, now: int, *, database_away: bool) -> None:
        """It is running. To be said more often than the longest pause, from the first time on. While the database is
        away nobody can take over."""
        self.notice(now, database_away=database_away)
        self._awake_at = now

    def is_over(self, now: int) -> bool:
        """Its ownership lease has run out: it says nothing to anybody any more, whatever was decided before."""
        return self.ends_at is not None and now >= self.ends_at

    def notice(self, now: int, *, database_away: bool) -> None:
        """Something depends on it now, perhaps before it could be said."""
        self._over = self.is_over(now)
        if self._awake_at is not None and now - self._awake_at > self._longest_pause and not database_away:
            self._doubts += 1
            self._awake_at = now

    def ask(self) -> int:
        """A look at the fence begins: what to confirm with."""
        return self._doubts

    def confirm(self, asked: int) -> None:
        """The fence was whole, at some moment since it was asked."""
        self._settled = max(self._settled, asked)

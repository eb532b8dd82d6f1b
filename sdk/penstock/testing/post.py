"""Letters between coordinators, and hints of the database: each may be lost, come twice, late, or be wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from penstock.testing.timeline import MILLISECOND, SECOND

if TYPE_CHECKING:
    from penstock.testing.cluster import Cluster
    from penstock.testing.seats import Site

USUAL = 20 * MILLISECOND
LATEST = 5 * SECOND
LOST, DOUBLED = 0.4, 0.7
"""By chance, up to which letters are lost, and up to which they come twice, while something is wrong."""


class Letter(NamedTuple):
    """The ownership of `sender` has changed, or so it says."""

    sender: str
    epoch: int
    owns: bool


class Post:
    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self.bad = False

    def tell(self, sender: str, epoch: int, *, owns: bool) -> None:
        """All others."""
        for site in self._cluster.sites:
            if site.name != sender:
                self._send(site, Letter(sender, epoch, owns))

    def _send(self, site: Site, letter: Letter) -> None:
        random = self._cluster.timeline.random
        chance = random.random()
        if self.bad and chance < LOST:
            return
        for _ in range(2 if self.bad and chance < DOUBLED else 1):
            delay = int(random.random() * (LATEST if self.bad else USUAL))
            self._cluster.timeline.after(delay, self._arrive, site, letter)

    def _arrive(self, site: Site, letter: Letter) -> None:
        if site.seat is not None:
            self._cluster.count("letters")
            site.seat.run(site.seat.hear, letter)

    def hint(self, sender: str) -> None:
        """By the database: one has released. Who cannot be reached hears nothing of it."""
        for site in self._cluster.sites:
            if site.name != sender and site.seat is not None and not site.reach.away:
                site.seat.after(MILLISECOND, site.seat.look_now)

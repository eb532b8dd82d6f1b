"""Whom the agent keeps streams with: the head by its home stream, each member that the head names by a link."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from penstock_agent.core.leases import HOME


class Peer(msgspec.Struct, frozen=True):
    """A member, as the head names it. One that has joined anew has another epoch, and is another peer."""

    coordinator_id: str
    address: str
    epoch: int

    @property
    def name(self) -> str:
        return f"{self.coordinator_id}@{self.epoch}"


class Links:
    """The links that there are to be. A number is never used twice, so what belongs to a link that is gone belongs to
    nobody."""

    def __init__(self) -> None:
        self.peers: dict[int, Peer] = {}
        """By the number of the link."""
        self._last = HOME

    def name(self, peers: Iterable[Peer]) -> list[int] | None:
        """These are all. The numbers of those that are gone; None: nothing has changed."""
        wanted = dict.fromkeys(peers)
        gone = [number for number, peer in self.peers.items() if peer not in wanted]
        known = set(self.peers.values())
        new = [peer for peer in wanted if peer not in known]
        if not gone and not new:
            return None
        for number in gone:
            del self.peers[number]
        for peer in new:
            self._last += 1
            self.peers[self._last] = peer
        return gone

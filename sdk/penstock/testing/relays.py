"""Streams of agents that a coordinator passes on to the owner, which the agents cannot reach.

What the coordinator's shell does (`api/relaying.py`) is written here a second time, on the timeline.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from penstock.testing.network import End, Link, Weather
from penstock.testing.timeline import MILLISECOND

if TYPE_CHECKING:
    from penstock.testing.doorsteps import Doorstep
    from penstock.testing.seats import Seat, Site
    from penstock_coordinator.core.fleet.ownership import CoordinatorRow

CONNECTED_WITHIN = 4 * MILLISECOND


class Between(Weather):
    """What the network is like from one coordinator to another."""

    def __init__(self, near: Site, far: Site) -> None:
        super().__init__()
        self._near = near
        self._far = far
        self.follow()

    def follow(self) -> None:
        """Of what is parted now."""
        self.out_cut, self.in_cut = self._near.parts_from(self._far), self._far.parts_from(self._near)
        if not self.cut:
            self.mend()


class RelayedStream:
    """As it is passed on; in the place of the owner's stream on the doorstep of the relay."""

    def __init__(self, relay: Seat, step: Doorstep, owner: CoordinatorRow, far: Site) -> None:
        """`far`: where the owner is. Nobody may be there any more."""
        self._step = step
        self._owner = owner
        self.weather = Between(relay.site, far)
        self._link: Link | None = None
        there = far.seat
        if self.weather.cut or there is None:
            relay.after(CONNECTED_WITHIN, self.end)
            return
        onward = there.reception.doorstep(by=relay.name)
        near = End(relay, self._hear_owner, self._owner_ended)
        other = End(there, onward.hear, onward.ended)
        self._link = Link(relay.timeline, self.weather, near, other)
        there.reception.accept(other, self._link, onward)

    @property
    def open(self) -> bool:
        return not self._step.over and self._step.end is not None and self._step.end.open

    def leads_to(self, owner: CoordinatorRow) -> bool:
        """To that incarnation of it."""
        return (self._owner.address, self._owner.epoch) == (owner.address, owner.epoch)

    # --- from the agent

    def hear(self, message: Any) -> None:
        if self._link is not None:
            self._link.to_coordinator(message)

    def ended(self) -> None:
        """What was on its way to the owner may be lost with it."""
        if self._link is not None:
            self._link.snap()

    # --- from the owner

    def _hear_owner(self, word: Any) -> None:
        link = self._step.link
        if self.open and link is not None:
            link.relayed_to = self._owner.address
            link.to_agent(word)

    def _owner_ended(self) -> None:
        self._close()

    # --- by the relay

    def end(self) -> None:
        """Another one owns, or this one does: nobody waits for the former owner."""
        self.ended()
        self._close()

    def vanish(self) -> None:
        """The relay is gone."""
        if self._link is not None:
            self._link.vanish(self._link.agent)

    def _close(self) -> None:
        step = self._step
        if self.open and step.link is not None and step.end is not None:
            step.over = True
            step.link.close(step.end)

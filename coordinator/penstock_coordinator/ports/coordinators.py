"""The coordinators of a database, and which of them owns runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from penstock_coordinator.core.fleet.ownership import CoordinatorRow

CLAIMED_AT_ONCE = 1_000
"""Runs of one transaction."""


class Claim(NamedTuple):
    """A take-over that was granted."""

    epoch: int
    """Of the new owner: greater than every epoch of every coordinator before."""
    alone: bool
    """No other coordinator waits."""


class CoordinatorRegistry(Protocol):
    """All methods raise `Unavailable`: then it is not known whether anything was done."""

    async def register(self, coordinator: CoordinatorRow) -> None:
        """As one that waits, whatever it was before: with its lease, addresses and beginning. Not for two at once.
        Nothing is done if it owns with an epoch after `coordinator.epoch`, which is the newest of its own that it knows
        of: then it was asked for before it won that, on a connection that is no more, and comes late."""

    async def look(self) -> list[CoordinatorRow]:
        """All coordinators that are not gone, by id."""

    async def renew(self, coordinator_id: str, epoch: int) -> bool:
        """Raises the number of renewals of the owner with that epoch, or of one that waits (epoch 0). False: it is not
        that any more."""

    async def claim(self, coordinator_id: str, lanes: int, owners: Sequence[CoordinatorRow]) -> Claim | None:
        """Make one that waits an owner, in place of `owners`, whose leases have run out.

        In one transaction: locks the fences of all coordinators that were ever registered, raises them, so that nothing
        of theirs is appended from here on, and the former owners are gone. None, and nothing done, if one of the owners
        has moved since, if there is another one, or if this one does not wait any more. Of two that claim at once one
        wins.
        """

    async def claim_runs(self, coordinator_id: str, epoch: int) -> int:
        """Make the owner with that epoch the owner of live runs of those that are none, at most CLAIMED_AT_ONCE of
        them. How many there were; 0: it has all, or is no owner any more."""

    async def adopt(self, coordinator_id: str) -> bool:
        """A coordinator of a release that knew no registry is gone: whoever claims next claims its runs too. False if
        there never was one of that name. Nothing happens to one that is registered."""

    async def strangers(self) -> dict[str, int]:
        """Live runs of coordinators that were never registered, by their ids."""

    async def release(self, coordinator_id: str, epoch: int, successor: str = "") -> None:
        """It stops, as the owner with that epoch or as one that waits (0), and others need not wait for it. Nothing
        happens if it is not that any more. `successor`: who is appointed, if that one waits, until somebody claims.
        Those that wait are told so by a hint, which may be lost."""

    async def forget(self, coordinator: CoordinatorRow) -> None:
        """One that waits is not counted with any more, unless it has moved since."""

    async def hinted(self, seconds: float) -> None:
        """Returns when somebody has released, or after so long."""

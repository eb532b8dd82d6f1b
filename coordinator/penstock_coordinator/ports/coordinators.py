"""The coordinators of a database, and which of them own runs: the head and its members."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from penstock_coordinator.core.fleet.ownership import CoordinatorRow
    from penstock_coordinator.ports.common import RunId

CLAIMED_AT_ONCE = 1_000
"""Runs of one transaction."""


class Claim(NamedTuple):
    """A take-over that was granted."""

    epoch: int
    """Of the new owner: greater than every epoch of every coordinator before."""
    alone: bool
    """Nobody else was there: no other coordinator waits, none was a member."""


class CoordinatorRegistry(Protocol):
    """All methods raise `Unavailable`: then it is not known whether anything was done.

    Whoever changes who may write takes locks in one order: of claims, joins and burials together; rows of coordinators
    by id; fences; rows of runs. An append takes its fence first. So what is asked for at once has one outcome, and
    nobody waits in a circle.
    """

    async def register(self, coordinator: CoordinatorRow) -> None:
        """As one that waits, whatever it was before: with all that its row says of it. Not for two at once.
        Nothing is done if it owns, as a head or a member, with an epoch after `coordinator.epoch`, which is the newest
        of its own that it knows of: then it was asked for before it won that, on a connection that is no more, and
        comes late. Others are told by a hint if that epoch is not 0."""

    async def look(self) -> list[CoordinatorRow]:
        """All coordinators that are not gone, by id."""

    async def renew(self, coordinator_id: str, epoch: int) -> bool:
        """Raises the number of renewals of the head or member with that epoch, or of one that waits (epoch 0). False:
        it is not that any more."""

    async def claim(self, coordinator_id: str, lanes: int, owners: Sequence[CoordinatorRow]) -> Claim | None:
        """Make one that waits the head, in place of `owners`: heads and members, whose leases have run out.

        In one transaction: locks the fences of all coordinators that were ever registered, raises them, so that nothing
        of theirs is appended from here on, and the former owners are gone. None, and nothing done, if one of the owners
        has moved since, if there is another one, or if this one does not wait any more. Of two that claim at once one
        wins.
        """

    async def join(self, coordinator_id: str, lanes: int, head: CoordinatorRow) -> int | None:
        """Make one that waits a member of `head`, and tell so by a hint: its epoch, greater than every epoch before.
        None, and nothing done: that one is not the head with that epoch any more, it takes no members, this one does
        not wait any more, a commit of its former life is not over yet, or it still has live runs of that, which the
        head claims first: they may need what only the head has."""

    async def bury(self, head_id: str, epoch: int, member: CoordinatorRow) -> bool:
        """The head with that epoch ends one of its members, whose lease has run out: nothing of it is appended from
        here on, and its runs may be claimed. Told by a hint. False, and nothing done: the member has moved since, it is
        none of this head, the head is none any more, or the member's last commit is not over yet."""

    async def claim_runs(self, coordinator_id: str, epoch: int) -> list[RunId]:
        """Make the owner with that epoch the owner of live runs of those that are neither head nor member, at most
        CLAIMED_AT_ONCE of them, and end whatever those have under way. Their ids; none: it has all, or is no owner any
        more. Not for members, whose head may claim at the same time."""

    async def adopt(self, coordinator_id: str) -> bool:
        """A coordinator of a release that knew no registry is gone: whoever claims next claims its runs too. False if
        there never was one of that name. Nothing happens to one that is registered."""

    async def strangers(self) -> dict[str, int]:
        """Live runs of coordinators that were never registered, by their ids."""

    async def release(self, coordinator_id: str, epoch: int, successor: str = "") -> None:
        """It stops, as the head or member with that epoch or as one that waits (0), and others need not wait for it.
        Nothing happens if it is not that any more. `successor`: who is appointed, if that one waits, until somebody
        claims. Others are told so by a hint, which may be lost."""

    async def forget(self, coordinator: CoordinatorRow) -> None:
        """One that waits is not counted with any more, unless it has moved since."""

    async def hinted(self, seconds: float) -> None:
        """Returns when somebody has joined, released or been buried, or after so long."""

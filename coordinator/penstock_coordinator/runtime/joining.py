"""Whether one that follows becomes a member."""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

if TYPE_CHECKING:
    from penstock_coordinator.core.fleet.ownership import CoordinatorRow
    from penstock_coordinator.ports import Clock

log = structlog.get_logger(__name__)

STAYS_OUT = 15_000_000
"""Microseconds: so long one that was told to leave a head does not join it again. By then the head has handed over, or
it has changed its mind."""


class JoinGate:
    """Of a process. `unfit`: why it never joins; empty: it does, if `wanted`."""

    def __init__(self, clock: Clock, *, wanted: bool, unfit: str, secrets_key: str) -> None:
        self._clock = clock
        self._wanted = wanted
        self._unfit = unfit
        self._secrets_key = secrets_key
        self._told = ""
        self._left: tuple[int, int] = 0, 0
        """(epoch of the head, when)."""

    def __call__(self, head: CoordinatorRow) -> bool:
        """Whether to join that head now. Why not is logged once, if a person can mend it."""
        if not self._wanted:
            return False
        reason = self._unfit
        if not reason and head.secrets_key != self._secrets_key:
            reason = (
                f'the newest key of secrets is another one than that of "{head.coordinator_id}": give all coordinators'
                " the same PENSTOCK_SECRETS_KEY"
            )
        if reason:
            if reason != self._told:
                log.warning("does_not_join", head=head.coordinator_id, reason=reason)
            self._told = reason
            return False
        epoch, since = self._left
        return head.epoch != epoch or self._clock.monotonic() - since > STAYS_OUT

    def stay_out(self, head_epoch: int) -> None:
        """It has left that head because it was told to."""
        self._left = head_epoch, self._clock.monotonic()

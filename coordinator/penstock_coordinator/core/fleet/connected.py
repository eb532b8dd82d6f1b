"""A session whose stream is open: what is known of it, and what can be said on it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING

from penstock_coordinator.core.fleet.acceptance import Acceptance
from penstock_coordinator.core.fleet.session import Roll

if TYPE_CHECKING:
    from penstock_coordinator.core.dispatch.capacity import Capacity
    from penstock_coordinator.core.fleet.leases import Holder, Lease
    from penstock_coordinator.core.fleet.session import Held, Verdict


class Connected(ABC):
    """The state is for whoever decides; the words are the shell's. Words are gathered, and written later: saying one
    decides nothing."""

    def __init__(self, holder: Holder, capacity: Capacity) -> None:
        self.holder = holder
        self.capacity = capacity
        self.opened_at = holder.heard_at
        self.roll = Roll()
        self.acceptance = Acceptance()
        self.draining = False
        self.said_goodbye = False
        self.sent_away = False
        """The coordinator ends the stream: that it ends says nothing of the agent."""

    @property
    def epoch(self) -> int:
        """The session's number on this coordinator; see `Holder.session`."""
        return self.holder.session

    @abstractmethod
    def judge(self, verdicts: Sequence[tuple[Held, Verdict]], ttl: int) -> None:
        """Say what becomes of the leases that a Hello named; those that go on live for `ttl` microseconds more."""

    @abstractmethod
    def answer_heartbeat(self, revoked: Sequence[Held], ttl: int, echo: int) -> None:
        """Renew the named leases by `ttl` microseconds, 0 renews nothing, but those that are to be stopped."""

    @abstractmethod
    def cancel(self, lease: Lease) -> None:
        """Ask the agent to stop the attempt, as `lease.stop` says."""

    @abstractmethod
    def call_back(self, lease: Lease) -> None:
        """Ask the agent to hand the lease back if it has not started."""

    @abstractmethod
    def pause(self, reason: str) -> None:
        """Tell the agent to ask for nothing."""

    @abstractmethod
    def resume(self) -> None:
        """Tell the agent to ask for leases again."""

    @abstractmethod
    def close(self, reason: str = "") -> None:
        """End the stream, with a Goaway if there is a reason to give. The shell then says that it has ended."""

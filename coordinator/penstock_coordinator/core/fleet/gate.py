"""Which connected agents nothing is placed on, and why."""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic

from penstock_coordinator.core.fleet.leases import Phase
from penstock_coordinator.core.fleet.leasing import S

if TYPE_CHECKING:
    from penstock_coordinator.core.fleet.leasing import Leasing
    from penstock_coordinator.core.fleet.pauses import PausedAgents

DATABASE_AWAY, REQUESTED = "database_away", "requested"
"""Why agents are paused."""


class Gate(Generic[S]):
    """Instants are microseconds of a monotonic clock."""

    def __init__(self, leasing: Leasing[S], pauses: PausedAgents) -> None:
        self._leasing = leasing
        self.pauses = pauses
        self.paused = ""
        """Why no agent gets anything now."""

    @property
    def database_away(self) -> bool:
        return self.paused == DATABASE_AWAY

    def pause_of(self, session: S) -> str:
        """Why the agent gets nothing now. That a person wants it so is for all coordinators that it has streams with:
        it is to know of it also while another reason holds for this one."""
        return REQUESTED if session.holder.agent in self.pauses else self.paused

    def hold_back(self, reason: str, now: int) -> bool:
        """While there is a reason agents are paused: nothing is placed on them, and they ask for nothing. Whether the
        reason is another one."""
        if reason == self.paused:
            return False
        self.paused = reason
        for session in self._leasing.sessions.values():
            self._pause_or_resume(session, now)
        self._leasing.offer()
        return True

    def follow_person(self, agent: str, now: int) -> None:
        """Somebody has paused the agent, or lets it go on: see `pauses`."""
        for session in self._leasing.sessions.values():
            if session.holder.agent == agent:
                self._pause_or_resume(session, now)
                self._call_back_unstarted(session)
        self._leasing.offer()

    def enter(self, session: S) -> None:
        """The session is new."""
        if reason := self.pause_of(session):
            session.pause(reason)
            session.capacity.open = False
        self._call_back_unstarted(session)

    def enter_stand_in(self, session: S) -> None:
        """Nothing is placed on it, whatever comes."""
        session.capacity.open = False
        session.pause(self.paused or DATABASE_AWAY)

    def refuses(self, session: S) -> bool:
        """What was decided before a person paused the agent is not sent to it any more."""
        return session.holder.agent in self.pauses

    def drain(self, session: S, now: int) -> None:
        """The agent takes no new leases; what it has goes on."""
        session.draining = True
        self.open_or_close(session, now)

    def raise_limit(self, session: S, grant_limit: int) -> None:
        """The agent takes so many leases in this session."""
        if session.draining or grant_limit <= session.capacity.grant_limit:
            return
        session.capacity.grant_limit = grant_limit
        self._leasing.dispatcher.made_room(session.epoch)
        self._leasing.offer()

    def open_or_close(self, session: S, now: int) -> None:
        """After anything that it depends on."""
        was, session.capacity.open = session.capacity.open, not self._is_closed(session, now)
        if session.capacity.open and not was:
            self._leasing.dispatcher.made_room(session.epoch)

    def _is_closed(self, session: S, now: int) -> bool:
        waits = session.acceptance.closed_until > now
        return session.draining or waits or bool(self.pause_of(session) or session.holder.stands_for)

    def _pause_or_resume(self, session: S, now: int) -> None:
        if reason := self.pause_of(session):
            session.pause(reason)
        else:
            session.resume()
        self.open_or_close(session, now)

    def _call_back_unstarted(self, session: S) -> None:
        """Of an agent that a person has paused: what it holds and has not begun goes elsewhere."""
        if session.holder.agent not in self.pauses:
            return
        for lease in session.holder.leases.values():
            if lease.sent and lease.phase not in (Phase.RUNNING, Phase.FINISHED):
                lease.called_back = True
                session.call_back(lease)

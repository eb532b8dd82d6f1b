"""Attempts in the agent's own log: by which names, and, at the level debug, when they begin and end."""

from __future__ import annotations

from collections.abc import Mapping

from penstock_agent.core.book import LeaseBook
from penstock_agent.core.inputs import AttemptsEnded, AttemptsStarted, Input
from penstock_agent.core.leases import Handle
from penstock_agent.executors.channel import Finished
from penstock_agent.own_log import Correlation, OwnLog
from penstock_agent.runtime.wire import Work

log = OwnLog(__name__)


class AttemptLog:
    """From now on lines that name a handle of the book name the attempt."""

    def __init__(self, book: LeaseBook) -> None:
        self._book = book
        self.tells = log.tells_all
        """Whether `tell` says anything. It is asked of every message, so not of the library."""
        Correlation.attempt_of = self._names

    def _names(self, handle: Handle) -> Mapping[str, object]:
        lease = self._book.all.get(handle)
        return lease.work.names if lease is not None and isinstance(lease.work, Work) else {}

    def tell(self, message: Input) -> None:
        """What executors say, before it is heeded: afterwards the book may not know of it any more."""
        match message:
            case AttemptsStarted():
                for handle in message.handles:
                    log.debug("attempt_begun", handle=handle)
            case AttemptsEnded():
                for outcome in message.outcomes:
                    failure = outcome.body.failure if isinstance(outcome.body, Finished) else None
                    why = {"reason": failure.reason} if failure is not None else {}
                    log.debug("attempt_ended", handle=outcome.handle, ended=outcome.ended.value, **why)
            case _:
                pass

"""How leases end: by their attempts, by orders, by their deadlines."""

from __future__ import annotations

from collections.abc import Iterable

from penstock_agent.core import effects as do
from penstock_agent.core import inputs as said
from penstock_agent.core.book import due, sooner
from penstock_agent.core.counts import AttemptCounts
from penstock_agent.core.leases import (
    Ended,
    Ending,
    Handle,
    Lease,
    Outcome,
    Phase,
    Restored,
    Result,
    conclude,
    unstarted_result_id,
)
from penstock_agent.core.pace import Pace
from penstock_agent.core.session import Session
from penstock_agent.core.talking import Talk


class Endings(Talk):
    """The part of the holder that ends leases, and starts those that waited for such an end."""

    def __init__(self, restored: Iterable[Restored]) -> None:
        super().__init__(restored)
        self.pace = Pace()
        self.counts = AttemptCounts()
        self._check_at: int | None = None

    # --- attempts end

    def _attempts_ended(self, now: int, ended: said.AttemptsEnded) -> None:
        results: list[Lease] = []
        for outcome in ended.outcomes:
            lease = self.book.all.get(outcome.handle)
            if lease is None or lease.phase is Phase.FINISHED:
                continue
            if outcome.ended is not Ended.NEVER_STARTED:
                self.pace.add(outcome.run_time)
                self.counts.ran(outcome.run_time)
            if self._conclude(now, lease, outcome):
                results.append(lease)
        self._send(now, results)

    def _conclude(self, now: int, lease: Lease, outcome: Outcome) -> bool:
        """Whether there is a result to send."""
        if lease.ending is Ending.ABANDONED:
            self._forget(lease)
            self._release(now, lease.handle)
            return False
        status = conclude(lease.ending, outcome.ended)
        self.counts.ended(status)
        if status is None:
            started = outcome.ended is not Ended.NEVER_STARTED
            self._forget(lease)
            if started:
                self.book.given_up.add(lease)
            self._say_returned([lease], started=started)
            return False
        self.book.finish(now, lease, Result(outcome.result_id, status, now, outcome.body))
        self._release(now, lease.handle)
        return True

    def _release(self, now: int, handle: Handle) -> None:
        """An attempt is dead: a newer one of the same step run may start."""
        lease = self.book.successor(handle)
        if lease is not None and lease.phase is Phase.ACCEPTED:
            self._start(now, [lease])

    def _start(self, now: int, leases: list[Lease]) -> None:
        late = [lease for lease in leases if lease.deadline <= now]
        if late:
            self._reject(late, "deadline_passed", "the lease ended before the attempt could start")
            leases = [lease for lease in leases if lease.deadline > now]
        for lease in leases:
            lease.entered = True
        if leases:
            self._out.append(do.Start(leases))

    def _reject(self, leases: list[Lease], reason: str, message: str) -> None:
        for lease in leases:
            self._forget(lease)
        for stream, some in self._by_stream(leases):
            self._out.append(do.Reject(stream, [(lease.key, lease.token, reason, message) for lease in some]))

    def _say_returned(self, leases: list[Lease], *, started: bool = False) -> None:
        for stream, some in self._by_stream(leases):
            self._out.append(do.SendReturned(stream, [(lease.key, lease.token, started) for lease in some]))

    def _leases_unstarted(self, now: int, unstarted: said.LeasesUnstarted) -> None:
        returned: list[Lease] = []
        for handle in unstarted.handles:
            lease = self.book.all.get(handle)
            if lease is None or lease.phase is Phase.FINISHED:
                continue
            if lease.ending in (Ending.CANCELLED, Ending.ABANDONED):
                self._end_unstarted(now, lease)
            else:
                self._forget(lease)
                returned.append(lease)
        self._say_returned(returned)

    def _end_unstarted(self, now: int, lease: Lease) -> None:
        outcome = Outcome(lease.handle, Ended.NEVER_STARTED, unstarted_result_id(lease), 0)
        if self._conclude(now, lease, outcome):
            self._send(now, [lease])

    def _leases_refused(self, now: int, refused: said.LeasesRefused) -> None:
        gone = [lease for handle in refused.handles if (lease := self.book.all.get(handle)) is not None]
        ending = [lease for lease in gone if lease.ending is not None]
        for lease in ending:
            self._end_unstarted(now, lease)
        plain = [lease for lease in gone if lease.ending is None]
        if plain:
            self._reject(plain, refused.reason, refused.message)

    # --- they are ended

    def _cancel_ordered(self, now: int, session: Session, cancel: said.CancelOrdered) -> None:
        for key, token, reason, grace in cancel.leases:
            lease = self.book.find(key, token)
            if lease is not None and lease.link == session.link:
                self._stop(now, lease, Ending.CANCELLED, reason, grace)

    def _stop(self, now: int, lease: Lease, ending: Ending, reason: str, grace: int) -> None:
        """Politely, with a kill after `grace`; 0 kills at once. Again is harmless; sooner counts."""
        if lease.phase is Phase.FINISHED:
            return
        if lease.ending is None or lease.ending is Ending.HANDED_BACK:
            lease.ending, lease.ending_reason = ending, reason
        if not lease.entered:
            self._end_unstarted(now, lease)
            return
        if grace <= 0:
            self._kill(lease)
            return
        if lease.kill_at is None and not lease.killed:
            self._out.append(do.Stop(lease.handle))
        lease.kill_at = sooner(lease.kill_at, now + grace)
        self._check_by(lease.kill_at)

    def _kill(self, lease: Lease) -> None:
        if not lease.killed:
            lease.killed = True
            lease.kill_at = None
            self._out.append(do.Kill(lease.handle))

    def _abandon(self, lease: Lease) -> None:
        """Nobody wants to hear of it. What runs stays known until it is dead."""
        if not lease.entered:
            self._forget(lease)
            return
        if lease.phase is Phase.FINISHED:
            self.book.given_up.add(lease)
            self._forget(lease)
            return
        self.book.disown(lease)
        self._kill(lease)

    def _check_leases(self, now: int) -> None:
        """Deadlines of leases, of attempts and of polite stops."""
        self._check_at = None
        late: list[Lease] = []
        for lease in list(self.book.all.values()):
            if lease.phase is Phase.FINISHED or lease.killed:
                continue
            overrun = lease.phase is Phase.RUNNING and lease.timeout is not None
            ends_at = lease.started_at + lease.timeout if overrun and lease.timeout is not None else None
            if lease.deadline <= now and not lease.entered:
                late.append(lease)
            elif lease.deadline <= now:
                self._stop(now, lease, Ending.LEASE_EXPIRED, "", 0)
            elif due(ends_at, now):
                self._stop(now, lease, Ending.TIMED_OUT, "", 0)
            elif due(lease.kill_at, now):
                self._kill(lease)
            else:
                for bound in (lease.deadline, ends_at, lease.kill_at):
                    self._check_by(bound)
        if late:
            self._reject(late, "deadline_passed", "the lease ended before the attempt could start")

    def _check_by(self, bound: int | None) -> None:
        if bound is not None:
            self._check_at = sooner(self._check_at, bound)

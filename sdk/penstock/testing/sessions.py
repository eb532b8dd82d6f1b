"""The coordinator's end of agents' streams: what is read on them, and what is gathered and written."""

from __future__ import annotations

from typing import TYPE_CHECKING

from penstock.testing import words
from penstock.testing.timeline import MILLISECOND
from penstock_agent.core.leases import Grant
from penstock_coordinator.core.fleet.connected import Connected
from penstock_coordinator.core.fleet.session import Verdict

if TYPE_CHECKING:
    from collections.abc import Sequence

    from penstock.testing.coordinator import Coordinator
    from penstock.testing.network import End, Link
    from penstock_coordinator.core.dispatch.capacity import Capacity
    from penstock_coordinator.core.fleet.leases import Holder, Lease, LeaseKey
    from penstock_coordinator.core.fleet.ownership import CoordinatorRow
    from penstock_coordinator.core.fleet.session import Held
    from penstock_coordinator.ports import RunId

ACK_DELAY = 20 * MILLISECOND


class Session(Connected):
    """One connected stream of an agent."""

    def __init__(self, coordinator: Coordinator, link: Link, end: End, holder: Holder, capacity: Capacity) -> None:
        super().__init__(holder, capacity)
        self._coordinator = coordinator
        self._link = link
        self._end = end
        self.read_at = coordinator.timeline.now
        """When the last word was read; true time."""
        self.basis_seq = 1
        self.closed = False
        self.links: frozenset[str] = frozenset()
        """Incarnations of members that the agent is linked with, as it says."""
        self._plain: list[words.CoordinatorWord] = []
        self._grants: list[Grant] = []
        self._cancels: list[tuple[LeaseKey, int, str, int]] = []
        self._returns: list[words.Ref] = []
        self._acks: list[tuple[LeaseKey, int, bytes, int]] = []
        self._writing = False
        self._acks_due = False

    def send(self, word: words.CoordinatorWord) -> None:
        """Goes after every grant that was gathered before it."""
        self._plain += self._granting()
        self._plain.append(word)
        self._write_soon()

    def grant(self, grant: Grant) -> None:
        self._grants.append(grant)
        self._write_soon()

    def judge(self, verdicts: Sequence[tuple[Held, Verdict]], ttl: int) -> None:
        if ttl:
            self._coordinator.invariants.leases_renewed(self._coordinator)
        said = [
            (held.key, held.token, int(verdict), ttl if verdict is Verdict.CONTINUE else 0)
            for held, verdict in verdicts
        ]
        self.send(words.Verdicts(said, self.basis_seq))

    def answer_heartbeat(self, revoked: Sequence[Held], ttl: int, echo: int) -> None:
        if ttl:
            self._coordinator.invariants.leases_renewed(self._coordinator)
        self.send(words.HeartbeatAck(self.basis_seq, ttl, [(each.key, each.token) for each in revoked], echo))

    def tell_peers(self, members: Sequence[CoordinatorRow]) -> None:
        self.send(words.Peers([(row.coordinator_id, row.epoch) for row in members]))

    def tell_moved(self, run_ids: Sequence[RunId]) -> None:
        self.send(words.Moved(list(run_ids)))

    def pause(self, reason: str) -> None:
        self.send(words.Pause(reason))

    def resume(self) -> None:
        self.send(words.Resume())

    def cancel(self, lease: Lease) -> None:
        assert lease.stop is not None
        self._cancels.append((lease.key, lease.token, lease.stop.reason, lease.stop.grace))
        self._write_soon()

    def call_back(self, lease: Lease) -> None:
        self._returns.append((lease.key, lease.token))
        self._write_soon()

    def acknowledge(self, key: LeaseKey, token: int, result_id: bytes, status: int) -> None:
        self._acks.append((key, token, result_id, status))
        if len(self._acks) == 1:
            self._coordinator.after(ACK_DELAY, self._write_acks)

    def _write_acks(self) -> None:
        self._acks_due = True
        self._write()

    def _write_soon(self) -> None:
        if not self._writing:
            self._writing = True
            self._coordinator.after(100, self._write)

    def _write(self) -> None:
        self._writing = False
        if not self._coordinator.may_speak:
            self._forget()
        for word in self._gathered():
            self._coordinator.invariants.coordinator_says(self._coordinator, self, word)
            self._link.to_agent(word)
        if self.closed:
            self._link.close(self._end)

    def _gathered(self) -> list[words.CoordinatorWord]:
        found, self._plain = self._plain, []
        found += self._granting()
        if self._cancels:
            cancels, self._cancels = self._cancels, []
            found.append(words.Cancels(cancels))
        if self._returns:
            returns, self._returns = self._returns, []
            found.append(words.Returns(returns))
        if self._acks and (self._acks_due or self.closed):
            self._acks_due = False
            acks, self._acks = self._acks, []
            found.append(words.Acks(acks))
        return found

    def _granting(self) -> list[words.CoordinatorWord]:
        if not self._grants:
            return []
        grants, self._grants = self._grants, []
        return [words.Grants(grants, self.basis_seq, self._coordinator.timing.lease_ttl)]

    def dismiss(self, reason: str) -> None:
        """At once, and nothing that was gathered is said any more: it may not be true any longer."""
        self._forget()
        if not self.closed:
            self._plain.append(words.Goaway(reason))
        self.closed = True
        self._write()

    def _forget(self) -> None:
        """All but where to go."""
        self._plain = [word for word in self._plain if isinstance(word, words.Goaway | words.Redirect)]
        self._grants, self._cancels, self._returns, self._acks = [], [], [], []

    def close(self, reason: str = "") -> None:
        if reason:
            self.send(words.Goaway(reason))
        self.closed = True
        self._write_soon()


class Stream:
    """One stream as the coordinator reads it, from its Hello to its end."""

    def __init__(self, coordinator: Coordinator) -> None:
        self._coordinator = coordinator
        self.link: Link | None = None
        self.end: End | None = None
        self.session: Session | None = None
        self._over = False

    def hear(self, message: tuple[int, words.AgentWord]) -> None:
        seq, word = message
        session = self.session
        if session is None:
            if isinstance(word, words.Hello) and not self._over:
                self._coordinator.fleet.open(self, word)
            return
        if session.closed and not self._coordinator.timeline.random.random() < 0.5:
            # What is read in the moment between the decision to close and the end of the reader.
            return
        session.holder.heard_at = self._coordinator.clock.monotonic()
        session.basis_seq = seq
        session.read_at = self._coordinator.timeline.now
        self._coordinator.fleet.hear(session, word)

    def ended(self) -> None:
        """Without a goodbye, if none was said."""
        self._over = True
        if self.session is not None and not self.session.said_goodbye:
            self._coordinator.fleet.stream_ended(self.session)

    def refuse(self) -> None:
        self._over = True
        if self.link is not None and self.end is not None:
            self.link.close(self.end)

    @property
    def over(self) -> bool:
        return self._over

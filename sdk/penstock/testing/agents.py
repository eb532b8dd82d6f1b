"""An agent of the simulation: a process with the real holder."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from penstock.testing import words
from penstock.testing.executions import Executor
from penstock.testing.network import End, Link
from penstock.testing.spool import SpoolModel
from penstock.testing.timeline import MILLISECOND, SECOND, Process
from penstock_agent.core import effects as do
from penstock_agent.core import inputs as said
from penstock_agent.core.holder import Holder
from penstock_agent.core.leases import Ended, Ending, Handle, Lease, Outcome, Phase, Restored
from penstock_agent.core.rounds import Rounds
from penstock_agent.core.ways import Ways

if TYPE_CHECKING:
    from penstock.testing.machines import Machine

FIRST_BACKOFF, MOST_BACKOFF = 100 * MILLISECOND, 5 * SECOND
WELCOME_WITHIN = 10 * SECOND
WELCOME_OF_SEVERAL_WITHIN = 4 * SECOND
RECONNECT_AFTER = {"not_the_leader": 500 * MILLISECOND}
RECONNECT_SOON = 100 * MILLISECOND
DISK_FLOOR = 1 << 20
GATHER = 1 * MILLISECOND


@dataclass(frozen=True, slots=True)
class AgentSpec:
    """An agent as it introduces itself."""

    name: str
    slots: int = 2
    queues: tuple[str, ...] = ("default",)
    clock_rate: float = 1.0
    """How fast its clock goes; more than a thousandth off is not what leases are made for."""
    labels: tuple[tuple[str, str], ...] = ()
    resources: tuple[tuple[str, float], ...] = ()


class AgentProcess(Process):
    def __init__(self, machine: Machine, boot_id: str) -> None:
        super().__init__(machine.timeline, machine.spec.name)
        self.machine = machine
        self.boot_id = boot_id
        self.spool = SpoolModel(self, machine.disk)
        now = machine.clock.monotonic()
        self.holder = Holder(machine.spec.slots, DISK_FLOOR, [_restored(each, now) for each in self.spool.load()])
        self.executor = Executor(
            self,
            machine.spec.slots,
            machine.behave,
            machine.invariants,
            self._ended,
            self._began,
            lambda handles: self.post(said.LeasesUnstarted(handles)),
            lambda lease: lease.deadline <= machine.clock.monotonic(),
            lambda key: key[1] in machine.poison,
            self._die_of_poison,
        )
        self.link: Link | None = None
        self._end: End | None = None
        self._stream = 0
        addresses = list(machine.weathers)
        self._rounds = Rounds(addresses, self.timeline.random.random() if len(addresses) > 1 else 0.0)
        self._ways = Ways()
        self._address = ""
        """Of the stream that is open, or was last."""
        self._is_sent = False
        """There, by somebody who has named it as the owner's."""
        self._heard = False
        """A word on it."""
        self._welcomed = False
        self._backoff = FIRST_BACKOFF
        self._opened_at = 0
        self._reconnect_after: int | None = None
        self._outbox: list[Any] = []
        self._flushing = False
        self._closing = False
        self._inputs: deque[said.Input] = deque()
        self._busy = False
        self._timer_at: int | None = None
        self._results = 0
        self.left = False
        self.thawed_at = self.timeline.now
        """Since then it has not stood still."""
        self.newest_epoch = 0
        """Of the coordinators that it has spoken with."""
        self.acknowledged_at = 0
        """When its last heartbeat was answered with a renewal."""

    # --- its life

    def begin(self) -> None:
        self.note("boots", self.boot_id, len(self.spool.live))
        self.machine.invariants.agent_boots(self)
        self.post(said.DiskMeasured(0 if self.machine.disk.full else DISK_FLOOR))
        self.after(int(self.timeline.random.random() * 50 * MILLISECOND), self._connect)

    def crash(self) -> None:
        self.note("crashes")
        self.alive = False
        self.executor.crash()
        self.spool.crash()
        if self.link is not None and self._end is not None:
            self.link.vanish(self._end)
        self.machine.invariants.agent_crashed(self)

    def _die_of_poison(self) -> None:
        self.machine.crash()
        self.timeline.after(SECOND, self.machine.boot)

    def leave(self) -> None:
        """Drained: the process ends by itself."""
        self.left = True
        self.note("leaves")
        self._say(words.Goodbye())
        self._closing = True
        self.after(200 * MILLISECOND, self._gone)

    def _gone(self) -> None:
        self.machine.invariants.agent_left(self)
        self.alive = False
        machine = self.machine
        machine.drained, machine.process = True, None
        self.timeline.after(SECOND if machine.replace_when_drained else 20 * SECOND, machine.replace)

    def drain(self, patience: int) -> None:
        """SIGTERM."""
        if not self.frozen:
            self.post(said.DrainRequested(patience, "the agent got SIGTERM"))

    def freeze_all(self, span: int) -> None:
        """The process stands still; what it has started goes on."""
        for execution in self.executor.running.values():
            execution.machine_paused = True
        self.freeze(span)
        self.thawed_at = max(self.thawed_at, self.timeline.now + span)

    # --- inputs, effects, timers

    def post(self, message: said.Input) -> None:
        self._inputs.append(message)
        if not self._busy:
            self._follow([])

    def _follow(self, effects: list[do.Effect]) -> None:
        self._busy = True
        self._perform(effects)
        while self._inputs:
            message = self._inputs.popleft()
            kept = self._kept()
            effects = self.holder.handle(self.machine.clock.monotonic(), message)
            if kept:
                self._watch_results(kept)
            self._perform(effects)
        self._busy = False
        self._set_timer()

    def _kept(self) -> list[Lease]:
        return list(self.holder.book.unacked.leases.values())

    def _watch_results(self, kept: list[Lease]) -> None:
        unacked = self.holder.book.unacked.leases
        for lease in kept:
            if lease.handle not in unacked:
                self.machine.invariants.result_forgotten(self, lease)

    def _set_timer(self) -> None:
        due = self.holder.next_deadline()
        if due is None or (self._timer_at is not None and self._timer_at <= due):
            return
        self._timer_at = due
        self.after(self.machine.clock.true_span(max(0, due - self.machine.clock.monotonic())), self._on_timer, due)

    def _on_timer(self, due: int) -> None:
        if self._timer_at != due:
            return
        self._timer_at = None
        kept = self._kept()
        effects = self.holder.handle_timer(self.machine.clock.monotonic(), self.timeline.random.random())
        if kept:
            self._watch_results(kept)
        self._follow(effects)

    def _perform(self, effects: list[do.Effect]) -> None:
        for effect in effects:
            if isinstance(effect, do.Start):
                self.executor.start(effect.leases)
            elif type(effect) in _SAID:
                if isinstance(effect, do.SendCredits):
                    # When it is written it may have learned more of how long its steps take.
                    self.machine.invariants.asks_for_work(self, effect.grant_limit)
                if self.link is not None:
                    self._say(effect)
            else:
                self._perform_rare(effect)

    def _perform_rare(self, effect: do.Effect) -> None:
        match effect:
            case do.Withdraw():
                self.executor.withdraw(effect.handles)
            case do.Stop():
                self.executor.stop(effect.handle, kill=False)
            case do.Kill():
                lease = self.holder.book.all.get(effect.handle)
                if lease is not None and lease.ending is Ending.LEASE_EXPIRED:
                    self.machine.invariants.lease_given_up(self, lease)
                self.executor.stop(effect.handle, kill=True)
            case do.Spool():
                for lease in effect.leases:
                    self.spool.add(_to_keep(lease))
            case do.Unspool():
                for result_id in effect.result_ids:
                    self.spool.remove(result_id)
            case do.UseAddress():
                self._rounds.name(effect.address)
            case do.CloseStream():
                self.note("closes", effect.reason)
                self._reconnect_after = effect.reconnect_after or None
                self._closing = True
                self._flush_soon()
            case do.SendGoodbye():
                self.leave()

    # --- executions

    def _began(self, handle: Handle) -> None:
        self.post(said.AttemptsStarted([handle]))

    def _ended(self, handle: Handle, ended: Ended, run_time: int, body: bytes | str) -> None:
        happens, self.machine.on_result = self.machine.on_result, None
        if happens is not None:
            happens()
            if not self.alive:
                return
        self._results += 1
        result_id = b"%b/%d" % (self.boot_id.encode(), self._results)
        self.post(said.AttemptsEnded([Outcome(handle, ended, result_id, run_time, body)]))

    # --- the stream

    def _connect(self) -> None:
        if self.left:
            return
        self._stream += 1
        self._welcomed = self._heard = False
        self.machine.invariants.connects(self)
        end = End(self, partial(self._hear, self._stream), self._stream_ended)
        self._is_sent = self._rounds.is_sent
        self._address = self._rounds.next()
        link = self.machine.connect(self, end, self._address, self._ways.unreachable(self._seconds()))
        if link is None:
            self._retry()
            return
        self.link, self._end = link, end
        self._closing = False
        self._opened_at = self.timeline.now
        self._outbox.clear()
        self.post(said.StreamOpened(self._stream))
        within = WELCOME_OF_SEVERAL_WITHIN if self._rounds.several else WELCOME_WITHIN
        self.after(within, self._check_welcome, self._stream)

    def _check_welcome(self, stream: int) -> None:
        session = self.holder.session
        if session is not None and session.stream == stream and not session.welcomed:
            self._close()

    def _seconds(self) -> float:
        return self.machine.clock.monotonic() / SECOND

    def _note_way(self) -> None:
        if self._heard:
            self._ways.reached(self._address)
        elif self._is_sent:
            self._ways.failed(self._address, self._seconds(), self.timeline.random.random())

    def _look_for_a_way_back(self, stream: int, owner: str) -> None:
        """While that stream is passed on."""
        if self._stream != stream or self.link is None or self._closing:
            return
        wait = int((self._ways.retry_at(owner) - self._seconds()) * SECOND)
        if wait > 0:
            self.after(self.machine.clock.true_span(wait), self._look_for_a_way_back, stream, owner)
        elif self.machine.serves(self.machine, owner):
            self.note("goes directly to", owner)
            self._rounds.name(owner)
            self._closing = True
            self._flush_soon()
        else:
            self._ways.failed(owner, self._seconds(), self.timeline.random.random())
            self.after(MILLISECOND, self._look_for_a_way_back, stream, owner)

    def _retry(self) -> None:
        self._note_way()
        if not self._rounds.over(good=self._welcomed):
            self.after(MILLISECOND, self._connect)
            return
        lasted = self.timeline.now - self._opened_at
        if lasted > MOST_BACKOFF and (self._welcomed or not self._rounds.several):
            self._backoff = FIRST_BACKOFF
        wait, self._reconnect_after = self._reconnect_after, None
        chance = self.timeline.random.random()
        if wait is None:
            wait = int(self._backoff * chance)
            self._backoff = min(self._backoff * 2, MOST_BACKOFF)
        else:
            wait = int(wait * (1 + chance))
        self.after(wait + MILLISECOND, self._connect)

    def _close(self) -> None:
        if self.link is not None and self._end is not None:
            self.link.close(self._end)
            self._stream_ended()

    def _stream_ended(self) -> None:
        if self.link is None:
            return
        self.link = self._end = None
        self._outbox.clear()
        self.post(said.StreamClosed(self._stream))
        if not self.left:
            self._retry()

    def _say(self, word: Any) -> None:
        """Gathered, and written a moment later, in order; what must be of the moment is made when it is written."""
        self._outbox.append(word)
        self._flush_soon()

    def _flush_soon(self) -> None:
        if not self._flushing:
            self._flushing = True
            self.after(int(self.timeline.random.random() * GATHER), self._flush)

    def _flush(self) -> None:
        self._flushing = False
        while self._outbox and self.link is not None:
            gathered, self._outbox = sorted(self._outbox, key=lambda word: _ORDER[type(word)]), []
            for word in gathered:
                self._write(word)
        if self._closing:
            self._closing = False
            self._close()

    def _write(self, effect: Any) -> None:
        link = self.link
        if link is None or self.holder.session is None:
            return
        word = self._word(effect)
        if word is None:
            return
        seq = self.holder.stamp(self.machine.clock.monotonic())
        link.to_coordinator((seq, word))
        if type(effect) is do.Accept:
            self.post(said.AcceptsWritten([lease.handle for lease in effect.leases], seq))

    def _word(self, effect: Any) -> words.AgentWord | None:
        match effect:
            case do.SendResults():
                held = [lease for lease in effect.leases if self.holder.book.holds(lease)]
                return words.Results([_result(lease) for lease in held]) if held else None
            case do.Accept():
                return words.Accepted([(lease.key, lease.token) for lease in effect.leases])
            case do.SendCredits():
                return words.Credits(effect.grant_limit)
            case do.SendHeartbeat():
                self.post(said.DiskMeasured(0 if self.machine.disk.full else DISK_FLOOR))
                session = self.holder.session
                return words.Heartbeat(self._held(), session.echo if session is not None else 0)
            case do.Reject():
                return words.Rejected(effect.leases)
            case do.SendReturned():
                return words.Returned(effect.leases)
            case do.SendDraining():
                return words.Draining()
            case do.SayHello():
                return self._hello()
            case _:
                assert isinstance(effect, words.Goodbye)
                return effect

    def _hello(self) -> words.Hello:
        spec = self.machine.spec
        return words.Hello(
            spec.name,
            self.boot_id,
            spec.slots,
            self.holder.highest_coordinator_epoch,
            frozenset(spec.queues),
            spec.labels,
            spec.resources,
            self._stream,
            self._held(),
            self.holder.book.given_up.named(),
            self.holder.book.given_up.complete,
        )

    def _held(self) -> list[words.HeldLease]:
        return [
            (held.key, held.token, held.phase is Phase.FINISHED, held.phase is Phase.ACCEPTED)
            for held in self.holder.snapshot(self.machine.clock.monotonic())
        ]

    def _hear(self, stream: int, word: words.CoordinatorWord) -> None:
        """The other end's words, in the holder's vocabulary."""
        if stream == self._stream:
            self._heard = True
        match word:
            case words.Grants():
                closed = self.holder.draining or self.holder.disk_full
                before = {grant.key for grant in word.grants if self.holder.book.find(grant.key, grant.token)}
                self.post(said.Granted(stream, word.grants, word.basis_seq, word.ttl))
                for grant in word.grants:
                    if closed and grant.key not in before and self.holder.book.find(grant.key, grant.token):
                        self.machine.invariants.takes_no_work(self, grant.key)
            case words.Acks():
                self.post(said.ResultsAcked(stream, [ack[:3] for ack in word.acks]))
            case words.HeartbeatAck():
                if word.ttl:
                    # Who stood still and may have been replaced answers, and renews nothing.
                    self.acknowledged_at = self.timeline.now
                self.post(said.HeartbeatAcked(stream, word.basis_seq, word.ttl, word.revoked, word.echo))
            case words.Welcome():
                self.post(
                    said.Welcomed(
                        stream,
                        word.session,
                        "c",
                        word.coordinator_epoch,
                        word.heartbeat_interval,
                        word.lease_ttl,
                        word.resend_interval,
                        word.basis_seq,
                    )
                )
                session = self.holder.session
                if session is not None and session.welcomed:
                    self._welcomed = True
                    self._ways.set_pace(word.heartbeat_interval / SECOND)
                    if self.link is not None and self.link.relayed_to:
                        self._look_for_a_way_back(stream, self.link.relayed_to)
                    self.machine.invariants.welcomed(self, word.coordinator_epoch)
                    self.newest_epoch = max(self.newest_epoch, word.coordinator_epoch)
            case words.Verdicts():
                verdicts = [(key, token, said.Verdict(verdict), ttl) for key, token, verdict, ttl in word.verdicts]
                self.post(said.Judged(stream, verdicts, word.basis_seq))
            case words.Cancels():
                self.post(said.CancelOrdered(stream, word.leases))
            case words.Returns():
                self.post(said.ReturnOrdered(stream, word.leases))
            case words.Pause():
                self.post(said.Paused(stream))
            case words.Resume():
                self.post(said.Resumed(stream))
            case words.Drain():
                self.post(said.DrainOrdered(stream, word.deadline, "requested"))
            case words.Goaway():
                after = RECONNECT_AFTER.get(word.reason, RECONNECT_SOON)
                self.post(said.GoawayOrdered(stream, word.reason, after))
            case words.Redirect():
                self.post(said.Redirected(stream, word.address))


_ORDER = {
    do.SayHello: 0,
    do.SendDraining: 0,
    do.Accept: 1,
    do.Reject: 2,
    do.SendReturned: 3,
    do.SendResults: 4,
    do.SendCredits: 5,
    do.SendHeartbeat: 6,
    words.Goodbye: 7,
}
"""What is gathered is written in this order: what a heartbeat tells is the newest."""
_SAID = _ORDER.keys() - {words.Goodbye}


def _result(lease: Lease) -> words.Result:
    result = lease.result
    assert result is not None
    output = result.body if isinstance(result.body, bytes) else b""
    error = result.body if isinstance(result.body, str) else ""
    return words.Result(lease.key, lease.token, result.result_id, result.status, output, error)


def _to_keep(lease: Lease) -> Restored:
    result = lease.result
    assert result is not None
    return Restored(
        lease.key, lease.token, lease.attempt, result.result_id, result.status, result.ended_at, result.body
    )


def _restored(kept: Restored, now: int) -> Restored:
    ended_at = min(kept.ended_at, now)
    return Restored(kept.key, kept.token, kept.attempt, kept.result_id, kept.status, ended_at, kept.body)

"""An agent of the simulation: a process with the real holder. Its streams are in `streams`."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING

from penstock.testing import words
from penstock.testing.executions import Executor
from penstock.testing.spool import SpoolModel
from penstock.testing.streams import RECONNECT_AFTER, RECONNECT_SOON, SAID, AgentStream, HomeStream, LinkStream
from penstock.testing.timeline import MILLISECOND, SECOND, Process
from penstock_agent.core import effects as do
from penstock_agent.core import inputs as said
from penstock_agent.core.holder import Holder
from penstock_agent.core.leases import Ended, Ending, Handle, Lease, Outcome, Restored
from penstock_agent.core.links import Peer

if TYPE_CHECKING:
    from penstock.testing.machines import Machine
    from penstock.testing.network import Link

DISK_FLOOR = 1 << 20


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
        self._streams = count(1)
        self._by_stream: dict[int, AgentStream] = {}
        self.home = HomeStream(self)
        self._links: dict[int, LinkStream] = {}
        self._inputs: deque[said.Input] = deque()
        self._busy = False
        self._timer_at: int | None = None
        self._results = 0
        self.left = False
        self.thawed_at = self.timeline.now
        """Since then it has not stood still."""
        self.offers: dict[int, list[tuple[int, int]]] = {}
        """By stream, when how many grants were asked for, counted from its beginning."""
        self.newest_epochs: dict[str, int] = {}
        """Of each member that it has spoken with; "": of heads."""
        self.acknowledged_at: dict[int, int] = {}
        """By link, when its last heartbeat was answered with a renewal."""

    # --- its life

    def begin(self) -> None:
        self.note("boots", self.boot_id, len(self.spool.live))
        self.machine.invariants.agent_boots(self)
        self.measure_disk()
        self.after(int(self.timeline.random.random() * 50 * MILLISECOND), self.home.connect)

    def crash(self) -> None:
        self.note("crashes")
        self.alive = False
        self.executor.crash()
        self.spool.crash()
        for stream in self._ways_out():
            stream.vanish()
        self.machine.invariants.agent_crashed(self)

    def _die_of_poison(self) -> None:
        self.machine.crash()
        self.timeline.after(SECOND, self.machine.boot)

    def leave(self) -> None:
        """Drained: the process ends by itself."""
        self.left = True
        self.note("leaves")
        for stream in self._ways_out():
            stream.say(words.Goodbye())
            stream.close_soon()
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

    def now(self) -> int:
        """On its own clock."""
        return self.machine.clock.monotonic()

    def measure_disk(self) -> None:
        self.post(said.DiskMeasured(0 if self.machine.disk.full else DISK_FLOOR))

    # --- streams

    def next_stream(self, way: AgentStream) -> int:
        """Its number: of all streams of the process one after the other."""
        self._by_stream = {number: each for number, each in self._by_stream.items() if each.stream == number}
        stream = next(self._streams)
        self._by_stream[stream] = way
        return stream

    def _ways_out(self) -> list[AgentStream]:
        return [self.home, *self._links.values()]

    def links(self) -> list[Link]:
        """What is open, home first."""
        return [each.link for each in self._ways_out() if each.link is not None]

    def _keep_links(self, wanted: list[tuple[int, Peer]]) -> None:
        numbers = {number for number, _ in wanted}
        for number in [number for number in self._links if number not in numbers]:
            self._links.pop(number).end()
        for number, peer in wanted:
            if number not in self._links:
                self._links[number] = link = LinkStream(self, number, peer)
                link.connect()

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
            elif isinstance(effect, do.Word) and type(effect) in SAID:
                if isinstance(effect, do.SendCredits):
                    # When it is written it may have learned more of how long its steps take.
                    self.machine.invariants.asks_for_work(self, effect.stream, effect.grant_limit)
                way = self._by_stream.get(effect.stream)
                if way is not None and way.stream == effect.stream:
                    way.say(effect)
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
                self.home.use_address(effect.address)
            case do.KeepLinks():
                self._keep_links(effect.links)
            case do.CloseStream():
                self.note("closes", effect.reason)
                way = self._by_stream.get(effect.stream)
                if way is not None and way.stream == effect.stream:
                    way.close_soon(effect.reconnect_after or None)
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

    # --- what is heard

    def hear(self, stream: int, way: AgentStream, word: words.CoordinatorWord) -> None:
        """A coordinator's words, in the holder's vocabulary."""
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
                    self.acknowledged_at[way.number] = self.timeline.now
                self.post(said.HeartbeatAcked(stream, word.basis_seq, word.ttl, word.revoked, word.echo))
            case words.Welcome():
                self.post(
                    said.Welcomed(
                        stream,
                        word.session,
                        word.coordinator,
                        word.coordinator_epoch,
                        word.heartbeat_interval,
                        word.lease_ttl,
                        word.resend_interval,
                        word.basis_seq,
                        word.head_epoch,
                    )
                )
            case words.Verdicts():
                verdicts = [(key, token, said.Verdict(verdict), ttl) for key, token, verdict, ttl in word.verdicts]
                self.post(said.Judged(stream, verdicts, word.basis_seq))
            case words.Cancels():
                self.post(said.CancelOrdered(stream, word.leases))
            case words.Returns():
                self.post(said.ReturnOrdered(stream, word.leases))
            case words.Pause():
                self.post(said.Paused(stream, word.reason))
            case words.Peers():
                self.post(said.PeersNamed(stream, [Peer(name, name, epoch) for name, epoch in word.members]))
            case words.Moved():
                self.post(said.RunsMoved(stream, word.run_ids))
            case words.Resume():
                self.post(said.Resumed(stream))
            case words.Drain():
                self.post(said.DrainOrdered(stream, word.deadline, "requested"))
            case words.Goaway():
                after = RECONNECT_AFTER.get(word.reason, RECONNECT_SOON)
                self.post(said.GoawayOrdered(stream, word.reason, after))
            case words.Redirect():
                self.post(said.Redirected(stream, word.address))


def _to_keep(lease: Lease) -> Restored:
    result = lease.result
    assert result is not None
    return Restored(
        lease.key, lease.token, lease.attempt, result.result_id, result.status, result.ended_at, result.body
    )


def _restored(kept: Restored, now: int) -> Restored:
    ended_at = min(kept.ended_at, now)
    return Restored(kept.key, kept.token, kept.attempt, kept.result_id, kept.status, ended_at, kept.body)

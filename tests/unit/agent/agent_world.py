"""Holder and pool together, in a world of model workers: what the shell does, without processes, sockets and time."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from penstock_agent.core import effects as do
from penstock_agent.core import inputs as said
from penstock_agent.core import pool as pools
from penstock_agent.core.holder import Holder
from penstock_agent.core.leases import Ended, Grant, Handle, Lease, LeaseKey, Outcome, Phase

SECOND = 1_000_000
TTL = 30 * SECOND
SLOTS = 2


@dataclass
class ModelWorker:
    """`queue` is its socket: what is in there has not begun."""

    kind: pools.Kind
    ready: bool = False
    queue: deque[Handle] = field(default_factory=deque)
    running: Handle | None = None
    unheard: list[Outcome] = field(default_factory=list)
    dismissed: bool = False
    signalled: bool = False
    doomed: bool = False
    """It was killed, and is not dead yet."""


class World:
    """Checks what must hold while it goes on. Assertions are the test."""

    def __init__(self) -> None:
        self.now = 1_000 * SECOND
        self.holder = Holder(SLOTS)
        self.pool = pools.Pool(SLOTS, 1, self._recall)
        self.workers: dict[pools.WorkerId, ModelWorker] = {}
        self.inputs: deque[said.Input] = deque()
        self.stream = 0
        self.connected = False
        self.tokens = 0
        self.grant_seq = self.grant_limit = self.accepted = 0
        self.to_write: list[Lease] = []
        self.written: set[Handle] = set()
        self.newest: dict[LeaseKey, int] = {}
        """The newest token that was accepted, by step run."""
        self.owed: set[tuple[LeaseKey, int]] = set()
        """Results that were made and neither acknowledged nor disowned."""
        self.goodbye = False
        self._busy = False
        self._kinds: dict[LeaseKey, str] = {}

    # --- what happens outside

    def post(self, message: said.Input) -> None:
        """What follows is done now, or after what is being done."""
        self.inputs.append(message)
        if not self._busy:
            self._follow([])

    def _follow(self, effects: list[do.Effect]) -> None:
        self._busy = True
        self._perform(effects)
        while self.inputs:
            self._perform(self.holder.handle(self.now, self.inputs.popleft()))
        self._busy = False

    def open(self) -> None:
        self.stream += 1
        self.connected = True
        self.grant_seq = self.grant_limit = self.accepted = 0
        self.to_write.clear()
        self.post(said.StreamOpened(self.stream))
        self.say()
        self.post(said.Welcomed(self.stream, self.stream, "c", 1, 5 * SECOND, TTL, 5 * SECOND, 1))

    def close(self) -> None:
        self.connected = False
        self.to_write.clear()
        self.post(said.StreamClosed(self.stream))

    def say(self) -> int:
        return self.holder.stamp(self.now, self.stream)

    def grant(self, keys: list[LeaseKey], kind: str, timeout: int | None, token: int | None = None) -> None:
        assert self.holder.home is not None
        grants = []
        for key in keys:
            self.tokens += 1
            self.grant_seq += 1
            self._kinds[key] = kind
            grants.append(
                Grant(self.grant_seq, key, self.tokens if token is None else token, 1, timeout, 10 * SECOND, kind)
            )
        self.post(said.Granted(self.stream, grants, self.holder.home.seq, TTL))

    def write(self) -> None:
        """The acceptances that were gathered are written."""
        leases, self.to_write = self.to_write, []
        handles = [lease.handle for lease in leases]
        self.written.update(handles)
        self.post(said.AcceptsWritten(handles, self.say()))

    def tick(self, until: int) -> None:
        """Time goes on; what is due on the way happens when it is due. What workers said is heard before."""
        for worker_id in list(self.workers):
            self._hear_worker(worker_id)
        for _ in range(1_000):
            bounds = [bound for bound in (self.holder.next_deadline(), self.pool.next_deadline()) if bound is not None]
            due = min(bounds, default=until + 1)
            if due > until:
                break
            self.now = max(self.now, due)
            self._do(self.pool.handle_timer(self.now))
            self._follow(self.holder.handle_timer(self.now, 0.5))
        else:
            raise AssertionError("the timers do not come to an end")
        self.now = max(self.now, until)

    # --- what workers do

    def come_up(self, worker_id: pools.WorkerId) -> None:
        self.workers[worker_id].ready = True
        self._do(self.pool.ready(self.now, worker_id))

    def begin(self, worker_id: pools.WorkerId) -> None:
        worker = self.workers[worker_id]
        handle = worker.queue.popleft()
        lease = self.holder.book.all[handle]
        if lease.deadline <= self.now:
            self._hear_worker(worker_id)
            self._do(self.pool.refused(self.now, worker_id, [handle]))
            return
        key = lease.key
        assert not any(self._key_of(other) == key for other in self.workers.values()), "two attempts of one step run"
        worker.running = handle

    def finish_unheard(self, worker_id: pools.WorkerId, ended: Ended, run_time: int) -> None:
        """The attempt ends, and the agent has not read it yet."""
        worker = self.workers[worker_id]
        assert worker.running is not None
        worker.unheard.append(Outcome(worker.running, ended, b"%d" % worker.running, run_time))
        worker.running = None

    def finish(self, worker_id: pools.WorkerId, ended: Ended, run_time: int) -> None:
        self.finish_unheard(worker_id, ended, run_time)
        self._hear_worker(worker_id)

    def _hear_worker(self, worker_id: pools.WorkerId) -> None:
        worker = self.workers[worker_id]
        outcomes, worker.unheard = worker.unheard, []
        if outcomes:
            done = [(outcome.handle, outcome.run_time) for outcome in outcomes]
            self._do(self.pool.finished(self.now, worker_id, done))
            self.post(said.AttemptsEnded(outcomes))

    def die(self, worker_id: pools.WorkerId) -> None:
        self._hear_worker(worker_id)
        self._do(self.pool.exited(self.now, worker_id))
        del self.workers[worker_id]

    def acknowledge(self, lease: Lease) -> None:
        assert lease.result is not None
        self.owed.discard((lease.key, lease.token))
        self.post(said.ResultsAcked(self.stream, [(lease.key, lease.token, lease.result.result_id)]))

    def _key_of(self, worker: ModelWorker) -> LeaseKey | None:
        return None if worker.running is None else self.holder.book.all[worker.running].key

    def _recall(self, worker_id: pools.WorkerId) -> list[Handle]:
        queue = self.workers[worker_id].queue
        handles = list(queue)
        queue.clear()
        return handles

    # --- what is decided

    def _do(self, decisions: list[pools.Decision]) -> None:
        for decision in decisions:
            match decision:
                case pools.Feed():
                    worker = self.workers[decision.worker]
                    assert worker.ready
                    assert not any((worker.doomed, worker.dismissed, worker.signalled))
                    worker.queue.extend(decision.handles)
                case pools.Begun():
                    self.post(said.AttemptsStarted(decision.handles))
                case pools.StartWorker():
                    self.workers[decision.worker] = ModelWorker(decision.kind)
                case pools.Signal():
                    worker = self.workers[decision.worker]
                    unheard = [outcome.handle for outcome in worker.unheard]
                    assert worker.running == decision.handle or decision.handle in unheard, "another attempt runs"
                    worker.signalled = True
                case pools.KillWorker():
                    self.workers[decision.worker].doomed = True
                case pools.DismissWorker():
                    worker = self.workers[decision.worker]
                    assert worker.running is None
                    assert not worker.queue
                    worker.dismissed = True
                case _:
                    self._report(decision)

    def _report(self, decision: pools.Decision) -> None:
        match decision:
            case pools.Unstarted():
                self.post(said.LeasesUnstarted(decision.handles))
            case pools.NeverStarted():
                self._end(decision.handles, Ended.NEVER_STARTED)
            case pools.Died():
                worker = self.workers[decision.worker]
                assert worker.running == decision.handle, "an attempt that never began is said to have died"
                stopped = worker.doomed or worker.signalled
                self._end([decision.handle], Ended.STOPPED if stopped else Ended.FAILED)
            case pools.Unstartable():
                self._end(decision.handles, Ended.FAILED)

    def _end(self, handles: list[Handle], ended: Ended) -> None:
        self.post(said.AttemptsEnded([Outcome(handle, ended, b"%d" % handle, 0) for handle in handles]))

    def _perform(self, effects: list[do.Effect]) -> None:
        for effect in effects:
            match effect:
                case do.Accept():
                    self.accepted += len(effect.leases)
                    assert self.accepted <= self.grant_limit, "more leases than credits"
                    for lease in effect.leases:
                        assert lease.token > self.newest.get(lease.key, 0), "an older token was accepted"
                        self.newest[lease.key] = lease.token
                        self.owed = {each for each in self.owed if each[0] != lease.key}
                    self.to_write += effect.leases
                case do.Start():
                    for lease in effect.leases:
                        assert lease.handle in self.written, "started before its acceptance was written"
                        assert lease.deadline > self.now, "started past its deadline"
                        assert self.newest[lease.key] == lease.token
                    self._do(self.pool.add(self.now, [(lease.handle, lease.work) for lease in effect.leases]))
                case do.Withdraw():
                    self._do(self.pool.withdraw(self.now, effect.handles))
                case do.Stop():
                    self._do(self.pool.stop(self.now, effect.handle, kill=False))
                case do.Kill():
                    self._do(self.pool.stop(self.now, effect.handle, kill=True))
                case _:
                    self._hear(effect)

    def _hear(self, effect: do.Effect) -> None:
        """What goes to the coordinator."""
        match effect:
            case do.SendResults():
                for lease in effect.leases:
                    assert self.newest.get(lease.key, lease.token) == lease.token, "an old token speaks"
                    assert self.holder.book.holds(lease)
            case do.SendCredits():
                assert effect.grant_limit > self.grant_limit
                self.grant_limit = effect.grant_limit
            case do.SendGoodbye():
                assert not self.holder.book.unfinished
                self.goodbye = True

    # --- what must hold after every step

    def check(self) -> None:
        busy = [worker for worker in self.pool.workers.values() if worker.busy]
        assert len(busy) <= SLOTS, "more busy workers than slots"
        assert sum(worker.running is not None for worker in self.workers.values()) <= SLOTS
        self._check_results()
        self._check_places()
        self._check_stops()

    def _check_stops(self) -> None:
        """What is to die is being killed, unless its end is known to the worker alone."""
        for lease in self.holder.book.all.values():
            if lease.killed and lease.phase is not Phase.FINISHED:
                worker_id = self.pool.worker_of(lease.handle)
                assert worker_id is not None
                worker = self.workers[worker_id]
                assert worker.doomed or worker.unheard, "an attempt that is to be killed lives on"
        for worker_id, known in self.pool.workers.items():
            if known.state is pools.WorkerState.LEAVING and not known.queue:
                assert self.workers[worker_id].doomed or self.workers[worker_id].dismissed, "a worker is left over"

    def _check_results(self) -> None:
        for lease in self.holder.book.unacked.leases.values():
            self.owed.add((lease.key, lease.token))
        kept = {(lease.key, lease.token) for lease in self.holder.book.unacked.leases.values()}
        assert self.owed == kept, "a result was forgotten"
        named = {(held.key, held.token) for held in self.holder.book.snapshot(self.now) if held.phase is Phase.FINISHED}
        assert kept == named

    def _check_places(self) -> None:
        """Each attempt that the executors were given, and that is not over, is in exactly one place there."""
        given = {
            lease.handle
            for lease in self.holder.book.all.values()
            if lease.entered and lease.phase is not Phase.FINISHED
        }
        queued = [handle for worker in self.pool.workers.values() for handle in worker.queue]
        placed = self.pool.waiting + queued
        assert len(placed) == len(set(placed))
        assert set(placed) == given
        fed = [handle for worker in self.workers.values() for handle in worker.queue]
        running = [worker.running for worker in self.workers.values() if worker.running is not None]
        unheard = [outcome.handle for worker in self.workers.values() for outcome in worker.unheard]
        assert sorted(fed + running + unheard) == sorted(queued)

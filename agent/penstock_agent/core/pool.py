"""Which worker process runs which attempt.

Pure: the shell starts, feeds and kills the processes that this decides about. A worker serves one kind of work (a code
bundle and an environment); it runs its attempts one after the other, and a busy worker occupies a slot. What has been
fed to a worker and has not begun can be taken back for certain (`recall`), so nothing that is short waits behind
something long, and nothing is lost or doubled when a worker dies.
"""

from __future__ import annotations

import enum
from collections import Counter, deque
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass, field
from typing import TypeAlias

import msgspec

from penstock_agent.core.book import sooner
from penstock_agent.core.leases import Handle
from penstock_agent.core.pace import Pace, depth

Kind: TypeAlias = Hashable
"""What a worker is for."""
WorkerId: TypeAlias = int

PATIENCE = 50_000
"""What is queued behind an attempt that runs for longer than this is taken back."""
HAND_BACK_AFTER = 1_000_000
"""A lease that has waited so long while every slot is busy goes back to the coordinator."""
IDLE_AFTER = 60_000_000
"""A worker without work lives on for so long."""
SLOW_START, HUNG_START = 1_000_000, 60_000_000
"""Who waits for longer than the one for a worker to start says so. After the other one it may be hung, and an idle
agent may have the attempt."""
MOST_STARTS = 3
"""So many workers of a kind that die before they are ready, and its leases are failed."""


class StartWorker(msgspec.Struct, frozen=True):
    worker: WorkerId
    kind: Kind


class Feed(msgspec.Struct, frozen=True):
    worker: WorkerId
    handles: list[Handle]


class Signal(msgspec.Struct, frozen=True):
    """SIGTERM for the attempt, and for what it started."""

    worker: WorkerId
    handle: Handle


class KillWorker(msgspec.Struct, frozen=True):
    """With everything that it started."""

    worker: WorkerId


class DismissWorker(msgspec.Struct, frozen=True):
    """It is idle and may go."""

    worker: WorkerId


class Begun(msgspec.Struct, frozen=True):
    handles: list[Handle]


class Unstarted(msgspec.Struct, frozen=True):
    """They go back to the coordinator."""

    handles: list[Handle]


class NeverStarted(msgspec.Struct, frozen=True):
    """They were to be stopped, and had not begun."""

    handles: list[Handle]


class Died(msgspec.Struct, frozen=True):
    """The attempt's worker died under it."""

    worker: WorkerId
    handle: Handle


class Unstartable(msgspec.Struct, frozen=True):
    """No worker of the kind could be started."""

    worker: WorkerId
    handles: list[Handle]


Recall: TypeAlias = Callable[[WorkerId], list[Handle]]
"""Takes back, at once and for certain, what a worker was fed and has not begun."""

Decision: TypeAlias = (
    StartWorker | Feed | Signal | KillWorker | DismissWorker | Begun | Unstarted | NeverStarted | Died | Unstartable
)


class WorkerState(enum.Enum):
    STARTING = "starting"
    READY = "ready"
    LEAVING = "leaving"
    """It gets no more work: it was signalled, killed or dismissed."""


@dataclass(slots=True, eq=False)
class Worker:
    id: WorkerId
    kind: Kind
    state: WorkerState = WorkerState.STARTING
    queue: deque[Handle] = field(default_factory=deque)
    """In the order that they were fed; the first one runs."""
    since: int = 0
    """When the first one began, or the worker became idle."""
    look_at: int = 0
    """When the queue behind the first one counts as held up."""
    full: bool = False
    """It took no more when it was last fed."""

    @property
    def busy(self) -> bool:
        return bool(self.queue) or self.state is WorkerState.STARTING


@dataclass(slots=True, eq=False)
class Waiting:
    handle: Handle
    kind: Kind
    since: int


class Pool:
    """`slots` workers are busy at most; `idle_limit` more may wait for work."""

    def __init__(self, slots: int, idle_limit: int, recall: Recall) -> None:
        self.slots = slots
        self._idle_limit = idle_limit
        self._recall = recall
        self.workers: dict[WorkerId, Worker] = {}
        self._waiting: dict[Handle, Waiting] = {}
        self._at: dict[Handle, Worker] = {}
        self._stops: dict[Handle, bool] = {}
        """Attempts to stop as soon as they are the last of their worker; True: by a kill."""
        self._pace: dict[Kind, Pace] = {}
        self._failed_starts: dict[Kind, int] = {}
        self._last_worker = 0
        self._out: list[Decision] = []
        self._begun: list[Handle] = []

    # --- what happens

    def add(self, now: int, jobs: Iterable[tuple[Handle, Kind]]) -> list[Decision]:
        for handle, kind in jobs:
            self._waiting[handle] = Waiting(handle, kind, now)
        return self._decide(now)

    def ready(self, now: int, worker_id: WorkerId) -> list[Decision]:
        """The process is up."""
        worker = self.workers[worker_id]
        if worker.state is WorkerState.STARTING:
            worker.state = WorkerState.READY
            worker.since = now
            self._failed_starts.pop(worker.kind, None)
        return self._decide(now)

    def finished(self, now: int, worker_id: WorkerId, done: list[tuple[Handle, int]]) -> list[Decision]:
        """Attempts of a worker ended, in order, with their run times."""
        worker = self.workers[worker_id]
        pace = self._pace.setdefault(worker.kind, Pace())
        for handle, run_time in done:
            pace.add(run_time)
            self._drop(worker, handle)
        self._advance(now, worker)
        return self._decide(now)

    def refused(self, now: int, worker_id: WorkerId, handles: list[Handle]) -> list[Decision]:
        """The worker took attempts, but did not begin them: their leases had ended."""
        worker = self.workers[worker_id]
        for handle in handles:
            self._drop(worker, handle)
        self._out.append(Unstarted(handles))
        self._advance(now, worker)
        return self._decide(now)

    def overfed(self, now: int, worker_id: WorkerId, handles: list[Handle]) -> list[Decision]:
        """The worker could not take these now."""
        worker = self.workers[worker_id]
        worker.full = True
        self._put_back(now, worker, handles)
        return self._decide(now)

    def exited(self, now: int, worker_id: WorkerId) -> list[Decision]:
        """The process is gone, and all that it had to say is heard."""
        worker = self.workers[worker_id]
        self._take_back(now, worker)
        del self.workers[worker_id]
        for handle in worker.queue:
            self._at.pop(handle, None)
            self._stops.pop(handle, None)
            self._out.append(Died(worker_id, handle))
        if worker.state is WorkerState.STARTING:
            self._start_failed(worker)
        return self._decide(now)

    def withdraw(self, now: int, handles: Iterable[Handle]) -> list[Decision]:
        """Give back those that have not begun."""
        wanted = set(handles)
        for worker in {id(worker): worker for handle in wanted if (worker := self._at.get(handle))}.values():
            self._take_back(now, worker)
        unstarted = [handle for handle in self._waiting if handle in wanted]
        for handle in unstarted:
            del self._waiting[handle]
        if unstarted:
            self._out.append(Unstarted(unstarted))
        return self._decide(now)

    def stop(self, now: int, handle: Handle, *, kill: bool) -> list[Decision]:
        """End the attempt, and its worker with it; what is queued behind it goes elsewhere."""
        worker = self._at.get(handle)
        if worker is not None:
            self._take_back(now, worker)
        if self._waiting.pop(handle, None) is not None:
            self._out.append(NeverStarted([handle]))
        elif worker is not None:
            worker.state = WorkerState.LEAVING
            self._stops[handle] = kill
            self._end_last(worker)
        return self._decide(now)

    def evict(self, now: int, unwanted: Callable[[Kind], bool]) -> list[Decision]:
        """Dismiss the idle workers of unwanted kinds: what they hold is needed."""
        for worker in self.workers.values():
            if self._is_idle(worker) and unwanted(worker.kind):
                self._dismiss(worker)
        return self._decide(now)

    def retire(self, now: int, worker_id: WorkerId) -> list[Decision]:
        """The worker ends what it runs, and gets no more."""
        worker = self.workers.get(worker_id)
        if worker is not None and worker.state is WorkerState.READY:
            self._take_back(now, worker)
            if worker.queue:
                worker.state = WorkerState.LEAVING
            else:
                self._dismiss(worker)
        return self._decide(now)

    def next_deadline(self) -> int | None:
        found: int | None = None
        for worker in self.workers.values():
            if len(worker.queue) > 1:
                found = sooner(found, worker.look_at)
            elif self._is_idle(worker):
                found = sooner(found, worker.since + IDLE_AFTER)
        if self._waiting and not self._has_prospects():
            found = sooner(found, next(iter(self._waiting.values())).since + HAND_BACK_AFTER)
        return found

    def handle_timer(self, now: int) -> list[Decision]:
        for worker in self.workers.values():
            if len(worker.queue) > 1 and worker.look_at <= now:
                self._pace.setdefault(worker.kind, Pace()).at_least(now - worker.since)
                worker.look_at = now + PATIENCE
                self._take_back(now, worker)
            elif self._is_idle(worker) and worker.since + IDLE_AFTER <= now:
                self._dismiss(worker)
        self._place(now)
        self._hand_back(now)
        return self._decide(now)

    # --- reading

    def worker_of(self, handle: Handle) -> WorkerId | None:
        worker = self._at.get(handle)
        return None if worker is None else worker.id

    def work_ahead(self, worker_id: WorkerId) -> float:
        """For how long a worker has attempts to run, as far as can be told; µs."""
        worker = self.workers.get(worker_id)
        pace = None if worker is None else self._pace.get(worker.kind)
        if worker is None or pace is None or pace.mean is None:
            return 0.0
        return len(worker.queue) * pace.mean

    @property
    def waiting(self) -> list[Handle]:
        return list(self._waiting)

    def starting(self, now: int) -> list[Handle]:
        """Those that wait for a worker which has been starting for a while: not for a slot."""
        slow = Counter(
            worker.kind
            for worker in self.workers.values()
            if worker.state is WorkerState.STARTING and worker.since + SLOW_START <= now < worker.since + HUNG_START
        )
        found = []
        for job in self._waiting.values() if slow else ():
            if slow[job.kind] > 0:
                slow[job.kind] -= 1
                found.append(job.handle)
        return found

    def kinds(self) -> set[Kind]:
        """Kinds that have a worker or wait for one."""
        return {worker.kind for worker in self.workers.values()} | {job.kind for job in self._waiting.values()}

    # --- placing

    def _decide(self, now: int) -> list[Decision]:
        if self._waiting:
            self._place(now)
        if self._begun:
            self._out.append(Begun(self._begun))
            self._begun = []
        out, self._out = self._out, []
        return out

    def _place(self, now: int) -> None:
        """Oldest first. Once a kind cannot be served, nothing younger is queued behind what runs: its slot comes."""
        feeds: dict[WorkerId, list[Handle]] = {}
        blocked: set[Kind] = set()
        starting: dict[Kind, int] = {}
        for each in self.workers.values():
            if each.state is WorkerState.STARTING:
                starting[each.kind] = starting.get(each.kind, 0) + 1
        for job in list(self._waiting.values()):
            if job.kind in blocked:
                continue
            worker = self._idle_worker(job.kind) or (None if blocked else self._queueing_worker(job.kind))
            if worker is not None:
                self._assign(now, worker, job, feeds)
            elif starting.get(job.kind):
                starting[job.kind] -= 1
            elif self._free_slots() > 0:
                self._start_worker(now, job.kind)
            else:
                blocked.add(job.kind)
        for worker_id, handles in feeds.items():
            self._out.append(Feed(worker_id, handles))

    def _assign(self, now: int, worker: Worker, job: Waiting, feeds: dict[WorkerId, list[Handle]]) -> None:
        del self._waiting[job.handle]
        self._at[job.handle] = worker
        worker.queue.append(job.handle)
        feeds.setdefault(worker.id, []).append(job.handle)
        if len(worker.queue) == 1:
            self._begin_first(now, worker)

    @property
    def busy(self) -> int:
        """Slots that are in use."""
        return sum(1 for worker in self.workers.values() if worker.busy)

    def _free_slots(self) -> int:
        return self.slots - self.busy

    def _idle_worker(self, kind: Kind) -> Worker | None:
        if self._free_slots() <= 0:
            return None
        return next((w for w in self.workers.values() if w.kind == kind and self._is_idle(w)), None)

    def _queueing_worker(self, kind: Kind) -> Worker | None:
        """The one with the shortest queue, if its queue may grow."""
        pace = self._pace.get(kind)
        limit = int(depth(pace.mean if pace else None))
        if limit <= 1 or self._free_slots() > 0:
            return None
        open_ones = [
            worker
            for worker in self.workers.values()
            if worker.kind == kind and worker.state is WorkerState.READY and worker.queue and not worker.full
        ]
        best = min(open_ones, key=lambda worker: len(worker.queue), default=None)
        return best if best is not None and len(best.queue) < limit else None

    def _start_worker(self, now: int, kind: Kind) -> None:
        self._last_worker += 1
        self.workers[self._last_worker] = Worker(self._last_worker, kind, since=now)
        self._out.append(StartWorker(self._last_worker, kind))
        self._evict()

    def _evict(self) -> None:
        """Workers that wait for work are kept up to a limit; the longest idle goes first."""
        idle = sorted((w for w in self.workers.values() if self._is_idle(w)), key=lambda worker: worker.since)
        for worker in idle[: max(len(idle) - self._idle_limit, 0)]:
            self._dismiss(worker)

    def _dismiss(self, worker: Worker) -> None:
        worker.state = WorkerState.LEAVING
        self._out.append(DismissWorker(worker.id))

    @staticmethod
    def _is_idle(worker: Worker) -> bool:
        return worker.state is WorkerState.READY and not worker.queue

    # --- the queues of workers

    def _begin_first(self, now: int, worker: Worker) -> None:
        worker.since = now
        worker.look_at = now + PATIENCE
        self._begun.append(worker.queue[0])

    def _drop(self, worker: Worker, handle: Handle) -> None:
        if self._at.pop(handle, None) is not None:
            self._stops.pop(handle, None)
            worker.queue.remove(handle)

    def _advance(self, now: int, worker: Worker) -> None:
        """An attempt of the worker is over."""
        worker.full = False
        worker.since = now
        if worker.queue:
            self._begin_first(now, worker)
            self._end_last(worker)
        elif worker.state is WorkerState.LEAVING:
            self._out.append(KillWorker(worker.id))

    def _end_last(self, worker: Worker) -> None:
        """Stop what is to be stopped, unless the worker has begun something later: then that has ended by itself."""
        if len(worker.queue) == 1 and worker.queue[0] in self._stops:
            kill = self._stops[worker.queue[0]]
            self._out.append(KillWorker(worker.id) if kill else Signal(worker.id, worker.queue[0]))

    def _take_back(self, now: int, worker: Worker) -> None:
        """What the worker has not begun waits again, before all others, in its order."""
        handles = self._recall(worker.id) if worker.queue else []
        self._put_back(now, worker, handles)

    def _put_back(self, now: int, worker: Worker, handles: list[Handle]) -> None:
        if not handles:
            return
        back: dict[Handle, Waiting] = {}
        for handle in handles:
            self._drop(worker, handle)
            back[handle] = Waiting(handle, worker.kind, now)
        self._waiting = back | self._waiting

    # --- what cannot be served

    def _has_prospects(self) -> bool:
        return self._free_slots() > 0 or any(w.state is WorkerState.STARTING for w in self.workers.values())

    def _hand_back(self, now: int) -> None:
        if self._has_prospects():
            return
        old = [job.handle for job in self._waiting.values() if job.since + HAND_BACK_AFTER <= now]
        for handle in old:
            del self._waiting[handle]
        if old:
            self._out.append(Unstarted(old))

    def _start_failed(self, worker: Worker) -> None:
        count = self._failed_starts[worker.kind] = self._failed_starts.get(worker.kind, 0) + 1
        if count < MOST_STARTS:
            return
        del self._failed_starts[worker.kind]
        handles = [job.handle for job in self._waiting.values() if job.kind == worker.kind]
        for handle in handles:
            del self._waiting[handle]
        if handles:
            self._out.append(Unstartable(worker.id, handles))

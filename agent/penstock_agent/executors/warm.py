"""Runs attempts in warm worker processes: carries out what the pool decides, and reports what becomes of them."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
from collections.abc import Callable, Coroutine, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from penstock_agent.containers.engine import WORKER_LABEL, NoEngine, remove_labelled
from penstock_agent.core import pool as pools
from penstock_agent.core.inputs import AttemptsEnded, AttemptsStarted, Input, LeasesUnstarted
from penstock_agent.core.leases import Ended, Handle, Outcome
from penstock_agent.environments.order import activated
from penstock_agent.executors.bare.library import BOOT, make_library
from penstock_agent.executors.channel import STDERR, STDOUT, Failure, Finished, LogLines, Ready, Refused, Task
from penstock_agent.executors.last_words import last_words
from penstock_agent.executors.output import OutputSink
from penstock_agent.executors.processes import kill_tree
from penstock_agent.executors.worker.capture import LONGEST_LINE
from penstock_agent.executors.worker.commands import signal_name
from penstock_agent.executors.worker_process import Equipment, WorkerProcess
from penstock_agent.own_log import OwnLog
from penstock_agent.resources import memory
from penstock_agent.resources.gpus import variables
from penstock_agent.resources.guard import MemoryGuard
from penstock_agent.resources.memory import KernelKills, Watched
from penstock_agent.resources.memory_groups import MemoryGroup, MemoryGroups
from penstock_agent.resources.words import OUT_OF_MEMORY, killed_at_limit, killed_by_kernel, over_limit

log = OwnLog(__name__)

RESULT_ID_BYTES = 16
LAST_LINES_BYTES = 4096
RELIEF_INTERVAL = 1.0
LISTENING_PAUSE = 2_000
"""µs. So long nobody hears what a worker says that has work for twice as long."""


class WorkerKind(msgspec.Struct, frozen=True, cache_hash=True):
    """Attempts of one kind can run in the same process, one after the other."""

    command: bool
    bundle_digest: str
    environment_digest: str
    env: tuple[tuple[str, str], ...]
    """Of functions: libraries read variables when they are imported, so these belong to the process."""
    memory_bytes: int = 0
    """Of functions: the limit of each attempt. What one leaves behind in the process counts for the next one."""
    devices: tuple[str, ...] = ()
    """Of functions: the graphics processors that libraries in the process see."""
    secrets: tuple[tuple[str, str, str], ...] = ()
    """A process that has seen a secret runs nothing but attempts that name it, too."""
    container: bool = False
    """The process asks an engine to run its attempts."""


@dataclass(slots=True)
class Job:
    handle: Handle
    kind: WorkerKind
    bundle_dir: str
    task: Callable[[], Task]
    """Made when it is sent: a deadline may have moved."""
    memory_bytes: int = 0
    """The attempt's limit; 0: none."""
    began_at: int = 0
    secrets: tuple[str, ...] = ()
    """Their values."""
    home: str = ""
    """Of the environment that it runs in; empty: that of the agent."""
    on_begin: Callable[[], None] | None = None
    """Called when it begins, and perhaps again when it has ended."""
    group: MemoryGroup | None = None
    """Of a command alone."""


@dataclass(frozen=True, slots=True)
class WarmLimits:
    slots: int
    idle_workers: int
    log_lines: int
    log_bytes: int
    memory_interval: float = 0.25
    """Seconds between two looks at the memory of attempts with a limit."""


class WarmExecutor:
    """`report` takes what becomes of attempts. All methods belong to the event loop's thread."""

    def __init__(
        self,
        limits: WarmLimits,
        folder: Path,
        boot_id: str,
        env: Mapping[str, str],
        output: OutputSink,
        clock: Callable[[], int],
        report: Callable[[Input], None],
    ) -> None:
        self.pool = pools.Pool(limits.slots, limits.idle_workers, self._recall)
        self._limits = limits
        self._folder = folder
        self.outgoing = folder / "outgoing"
        """By handle: what attempts leave for the artifact store. Who takes their results removes it."""
        self._boot_id = boot_id
        self._env = env
        self._output = output
        self._clock = clock
        self._report = report
        self._loop = asyncio.get_running_loop()
        self._jobs: dict[Handle, Job] = {}
        self._processes: dict[pools.WorkerId, WorkerProcess] = {}
        self._kills: dict[pools.WorkerId, asyncio.Task[None]] = {}
        self._burials: set[asyncio.Task[None]] = set()
        self._bundle_dirs: dict[WorkerKind, str] = {}
        self._homes: dict[str, str] = {}
        """By environment."""
        self._relief: asyncio.TimerHandle | None = None
        self._held_up: set[pools.WorkerId] = set()
        self._guard = MemoryGuard(limits.memory_interval, self._over_memory)
        self._kernel = KernelKills()
        self.groups: MemoryGroups | None = None
        """None: memory is looked at alone."""
        self.engine = ""
        """The program that runs containers."""
        self.on_end: Callable[[Handle], None] = lambda _: None
        """Told of each attempt that is over, or was never begun: what it had is free."""
        output.on_room = self._resume_logs

    @property
    def processes(self) -> int:
        """How many there are, with idle ones."""
        return len(self._processes)

    @property
    def running(self) -> int:
        """Attempts that run, and processes that start for one."""
        return self.pool.busy

    # --- orders

    def start(self, jobs: Iterable[Job]) -> None:
        placed: list[tuple[Handle, pools.Kind]] = []
        for job in jobs:
            if job.kind.devices:
                self._free_devices(job.kind)
            self._jobs[job.handle] = job
            self._bundle_dirs[job.kind] = job.bundle_dir
            if job.home:
                self._homes[job.kind.environment_digest] = job.home
            placed.append((job.handle, job.kind))
        self._do(self.pool.add(self._clock(), placed))

    def _free_devices(self, wanted: WorkerKind) -> None:
        """A process that once used a device may hold its memory for as long as it lives."""
        taken = set(wanted.devices)
        self._do(
            self.pool.evict(
                self._clock(),
                lambda kind: isinstance(kind, WorkerKind) and kind != wanted and not taken.isdisjoint(kind.devices),
            )
        )

    def withdraw(self, handles: Iterable[Handle]) -> None:
        self._do(self.pool.withdraw(self._clock(), handles))

    def stop(self, handle: Handle, *, kill: bool) -> None:
        self._do(self.pool.stop(self._clock(), handle, kill=kill))

    def next_deadline(self) -> int | None:
        return self.pool.next_deadline()

    def handle_timer(self) -> None:
        self._do(self.pool.handle_timer(self._clock()))

    def starting(self) -> list[Handle]:
        """Attempts for which a worker process is being started, and takes a while."""
        return self.pool.starting(self._clock())

    def bundles_in_use(self) -> set[str]:
        return {kind.bundle_digest for kind in self.pool.kinds() if isinstance(kind, WorkerKind)} | {
            job.kind.bundle_digest for job in self._jobs.values()
        }

    def environments_in_use(self) -> set[str]:
        kinds = {kind for kind in self.pool.kinds() if isinstance(kind, WorkerKind)}
        return {kind.environment_digest for kind in kinds} | {
            job.kind.environment_digest for job in self._jobs.values()
        }

    async def close(self) -> None:
        """Kill every worker, and wait until all are buried."""
        self._guard.close()
        for process in list(self._processes.values()):
            self._kill(process)
        if self._relief is not None:
            self._relief.cancel()
        while self._processes or self._burials:
            await self._one_buried()

    async def _one_buried(self) -> None:
        if self._burials:
            await asyncio.wait(self._burials, return_when=asyncio.FIRST_COMPLETED)
        await asyncio.sleep(0)

    # --- what the pool decides

    def _do(self, decisions: list[pools.Decision]) -> None:
        for decision in decisions:
            match decision:
                case pools.Feed():
                    self._feed(decision.worker, decision.handles)
                case pools.Begun():
                    self._begin(decision.handles)
                case pools.StartWorker():
                    self._start_worker(decision.worker, decision.kind)
                case pools.Signal():
                    self._processes[decision.worker].signal_stop(decision.handle)
                case pools.KillWorker():
                    self._kill(self._processes[decision.worker])
                case pools.DismissWorker():
                    self._processes[decision.worker].dismiss()
                case pools.Unstarted():
                    self._forget(decision.handles)
                    self._report(LeasesUnstarted(decision.handles))
                case pools.NeverStarted():
                    self._never_started(decision.handles)
                case pools.Died():
                    self._died(decision.worker, decision.handle)
                case pools.Unstartable():
                    self._unstartable(decision.worker, decision.handles)

    def _feed(self, worker_id: pools.WorkerId, handles: list[Handle]) -> None:
        process = self._processes.get(worker_id)
        if process is None:
            return
        left = process.feed(self._task(self._jobs[handle]) for handle in handles)
        if left:
            self._do(self.pool.overfed(self._clock(), worker_id, left))

    def _task(self, job: Job) -> Task:
        task = job.task()
        if job.memory_bytes and job.kind.command and not job.kind.container and self.groups is not None:
            if job.group is None:
                job.group = self.groups.make(job.memory_bytes)
            task.memory_group = "" if job.group is None else str(job.group.path)
        return task

    def _begin(self, handles: list[Handle]) -> None:
        now = self._clock()
        for handle in handles:
            job = self._jobs[handle]
            job.began_at = now
            if job.on_begin is not None:
                job.on_begin()
            if job.memory_bytes:
                self._watch(handle, job)
        self._report(AttemptsStarted(handles))

    def _watch(self, handle: Handle, job: Job) -> None:
        worker_id = self.pool.worker_of(handle)
        process = None if worker_id is None else self._processes.get(worker_id)
        if process is not None:
            group = job.group or process.group
            watched = Watched(process.pid, job.memory_bytes, not job.kind.command, job.kind.container, group)
            self._guard.watch(process.id, watched)

    def _over_memory(self, worker_id: int, limit: int, held: int) -> None:
        process = self._processes.get(worker_id)
        if process is not None and not process.killed:
            process.over_memory = (limit, held)
            self._kill(process)

    def _recall(self, worker_id: pools.WorkerId) -> list[Handle]:
        process = self._processes.get(worker_id)
        return [] if process is None else process.recall()

    def _start_worker(self, worker_id: pools.WorkerId, kind: pools.Kind) -> None:
        assert isinstance(kind, WorkerKind)
        own = {**variables(kind.devices), **dict(kind.env)}
        env = {**self._env, **own}
        bare: tuple[str, ...] = ()
        if kind.environment_digest and not kind.command:
            home = self._homes[kind.environment_digest]
            env = activated(self._env, own, home)
            bare = (f"{home}/bin/python", "-P", BOOT, make_library(self._folder / "library"))
        equipment = Equipment(
            folder=self._folder_of(worker_id),
            bundle_dir="" if kind.command else self._bundle_dirs[kind],
            outgoing_dir=self.outgoing,
            env=env,
            bare=bare,
            mark=f"{self._boot_id}:{worker_id}:",
            log_lines=self._limits.log_lines,
            log_bytes=self._limits.log_bytes,
            engine=self.engine if kind.container else "",
            group=self._group_of(kind),
        )
        try:
            process = WorkerProcess(worker_id, equipment)
        except OSError:
            log.exception("worker_not_started")
            self._loop.call_later(1.0, lambda: self._do(self.pool.exited(self._clock(), worker_id)))
            return
        self._processes[worker_id] = process
        if self._relief is None:
            self._relief = self._loop.call_later(RELIEF_INTERVAL, self._relieve)
        self._loop.add_reader(process.results.fileno(), self._read_results, process)
        self._loop.add_reader(process.logs.fileno(), self._read_logs, process)
        self._loop.add_reader(process.exited, self._on_exit, process)

    def _group_of(self, kind: WorkerKind) -> MemoryGroup | None:
        if not kind.memory_bytes or self.groups is None:
            return None
        return self.groups.make(kind.memory_bytes)

    # --- what workers say

    def _read_results(self, process: WorkerProcess) -> bool:
        """False: the worker has nothing more to say for now."""
        try:
            said = process.read_results()
        except (ValueError, msgspec.MsgspecError):
            log.exception("worker_not_understood", worker=process.id, effect="it is killed")
            said = None
            self._kill(process)
        if said is None:
            self._loop.remove_reader(process.results.fileno())
            return False
        finished = [each for each in said if isinstance(each, Finished) and each.handle in self._jobs]
        if finished:
            self._take_results(process, finished)
            if self.pool.work_ahead(process.id) >= 2 * LISTENING_PAUSE:
                self._pause_listening(process)
        refused = [each.handle for each in said if isinstance(each, Refused)]
        if refused:
            self._do(self.pool.refused(self._clock(), process.id, refused))
        if any(isinstance(each, Ready) for each in said):
            self._do(self.pool.ready(self._clock(), process.id))
        return bool(said)

    def _pause_listening(self, process: WorkerProcess) -> None:
        """A worker with a long queue of short steps says much at once, not a word at a time: each word would cost this
        process, and the coordinator, as much as the step did."""
        self._loop.remove_reader(process.results.fileno())
        self._loop.call_later(LISTENING_PAUSE / 1e6, self._listen_again, process)

    def _listen_again(self, process: WorkerProcess) -> None:
        if self._processes.get(process.id) is process:
            self._loop.add_reader(process.results.fileno(), self._read_results, process)

    def _take_results(self, process: WorkerProcess, finished: list[Finished]) -> None:
        chance = os.urandom(RESULT_ID_BYTES * len(finished))
        outcomes: list[Outcome] = []
        for number, each in enumerate(finished):
            job = self._jobs[each.handle]
            if job.on_begin is not None:
                # One that is short may have ended before it is said to have begun.
                job.on_begin()
            self._note_memory(process, each)
            result_id = chance[number * RESULT_ID_BYTES : (number + 1) * RESULT_ID_BYTES]
            ended = Ended.OK if each.failure is None else Ended.STOPPED if each.stopped else Ended.FAILED
            outcomes.append(Outcome(each.handle, ended, result_id, each.run_time, each))
        process.tail.clear()
        # First the next attempts, then the news: a worker does not wait for the bookkeeping.
        done = [(each.handle, each.run_time) for each in finished]
        decisions = self.pool.finished(self._clock(), process.id, done)
        self._forget(each.handle for each in finished)
        self._do(decisions)
        self._report(AttemptsEnded(outcomes))

    def _note_memory(self, process: WorkerProcess, finished: Finished) -> None:
        if finished.failure is not None and _was_killed(finished) and self._kernel.lately():
            finished.failure = Failure(OUT_OF_MEMORY, killed_by_kernel(finished.failure.message))
        job = self._jobs[finished.handle]
        if not job.memory_bytes:
            return
        if finished.failure is not None and job.group is not None and job.group.kills():
            finished.failure = Failure(OUT_OF_MEMORY, killed_at_limit(job.memory_bytes))
        finished.peak_memory_bytes = max(finished.peak_memory_bytes, self._guard.forget(process.id))
        if not job.kind.command and memory.resident(process.pid) > job.memory_bytes // 2:
            # What it keeps would be charged to the next attempt.
            self._do(self.pool.retire(self._clock(), process.id))

    def _read_logs(self, process: WorkerProcess) -> bool:
        if self._output.is_full:
            self._loop.remove_reader(process.logs.fileno())
            self._held_up.add(process.id)
            return False
        try:
            batches = process.read_logs()
        except (ValueError, msgspec.MsgspecError):
            batches = None
        if batches is None:
            self._loop.remove_reader(process.logs.fileno())
            return False
        for batch in batches:
            self._output.add(batch)
        return bool(batches)

    def _resume_logs(self) -> None:
        for worker_id in self._held_up:
            process = self._processes.get(worker_id)
            if process is not None:
                self._loop.add_reader(process.logs.fileno(), self._read_logs, process)
        self._held_up.clear()

    def _relieve(self) -> None:
        """Looks after workers whose output stands still though lines are taken."""
        self._relief = self._loop.call_later(RELIEF_INTERVAL, self._relieve) if self._processes else None
        self._kernel.note()
        if self._output.is_full:
            return
        for process in self._processes.values():
            thrown = process.relieve()
            if thrown:
                log.warning("worker_output_dropped", worker=process.id, bytes=thrown)

    # --- how workers end

    def _kill(self, process: WorkerProcess) -> None:
        if not process.killed:
            process.killed = True
            self._kills[process.id] = self._in_background(asyncio.to_thread(kill_tree, process.pid, process.mark))

    def _on_exit(self, process: WorkerProcess) -> None:
        self._loop.remove_reader(process.exited)
        self._in_background(self._bury(process))

    async def _bury(self, process: WorkerProcess) -> None:
        """First nothing of it runs any more, then its last words are heard, then its attempt counts as ended."""
        killing = self._kills.pop(process.id, None)
        if killing is not None:
            await asyncio.wait({killing})
        # Only now may the process be reaped: until then nobody else can have its number.
        await asyncio.to_thread(kill_tree, process.pid, process.mark)
        if process.engine:
            await _remove_containers(process)
        process.process.poll()
        for fd in (process.results.fileno(), process.logs.fileno()):
            self._loop.remove_reader(fd)
        while self._read_results(process):
            pass
        self._hear_last_words(process)
        self._do(self.pool.exited(self._clock(), process.id))
        del self._processes[process.id]
        if process.group is not None:
            process.group.remove()
        process.close()
        await asyncio.to_thread(shutil.rmtree, self._folder_of(process.id), ignore_errors=True)

    def _hear_last_words(self, process: WorkerProcess) -> None:
        with suppress(ValueError, msgspec.MsgspecError):
            while batches := process.read_logs():
                for batch in batches:
                    self._output.add(batch)
        worker = self.pool.workers[process.id]
        if not worker.queue:
            process.last_words()
            return
        job = self._jobs[worker.queue[0]]
        offset = self._clock() - job.began_at
        out, err = (data.decode(errors="replace").splitlines() for data in process.last_words(job.secrets))
        texts = [(STDOUT, text) for text in out] + [(STDERR, text) for text in err]
        process.tail.extend(err)
        first = process.last_number(job.handle) + 1
        lines = [(first + at, source, offset, text[:LONGEST_LINE]) for at, (source, text) in enumerate(texts)]
        if lines:
            self._output.add(LogLines(job.handle, lines))

    def _died(self, worker_id: pools.WorkerId, handle: Handle) -> None:
        job = self._jobs[handle]
        process = self._processes[worker_id]
        self._in_background(asyncio.to_thread(shutil.rmtree, self.outgoing / str(handle), ignore_errors=True))
        finished = Finished(handle, run_time=max(self._clock() - job.began_at, 0))
        finished.peak_memory_bytes = self._guard.forget(worker_id)
        group = job.group or process.group
        if group is not None and job.memory_bytes and group.kills():
            finished.peak_memory_bytes = max(finished.peak_memory_bytes, job.memory_bytes)
            finished.failure = Failure(OUT_OF_MEMORY, killed_at_limit(job.memory_bytes))
        elif process.over_memory is not None:
            finished.peak_memory_bytes = max(finished.peak_memory_bytes, process.over_memory[1])
            told = over_limit(*process.over_memory, self._limits.memory_interval)
            finished.failure = Failure(OUT_OF_MEMORY, told)
        elif not (process.killed or process.stopped):
            finished.failure = _crash(process, by_kernel=self._kernel.lately())
        ended = Ended.STOPPED if finished.failure is None else Ended.FAILED
        self._forget([handle])
        self._report(AttemptsEnded([Outcome(handle, ended, os.urandom(RESULT_ID_BYTES), finished.run_time, finished)]))

    def _unstartable(self, worker_id: pools.WorkerId, handles: list[Handle]) -> None:
        process = self._processes.get(worker_id)
        said = "" if process is None else "\n".join(process.tail) or process.last_words()[1].decode(errors="replace")
        failure = Failure(
            "Crash", f"no worker process could be started on this agent{last_words(said[-LAST_LINES_BYTES:])}"
        )
        outcomes = [
            Outcome(handle, Ended.FAILED, os.urandom(RESULT_ID_BYTES), 0, Finished(handle, failure=failure))
            for handle in handles
        ]
        self._forget(handles)
        self._report(AttemptsEnded(outcomes))

    def _never_started(self, handles: list[Handle]) -> None:
        self._forget(handles)
        outcomes = [Outcome(handle, Ended.NEVER_STARTED, os.urandom(RESULT_ID_BYTES), 0) for handle in handles]
        self._report(AttemptsEnded(outcomes))

    def _forget(self, handles: Iterable[Handle]) -> None:
        for handle in handles:
            job = self._jobs.pop(handle, None)
            if job is not None:
                if job.group is not None:
                    job.group.remove()
                self._output.attempt_ended(handle)
                self.on_end(handle)

    def _folder_of(self, worker_id: pools.WorkerId) -> Path:
        return self._folder / f"worker-{worker_id}"

    def _in_background(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = self._loop.create_task(work)
        self._burials.add(task)
        task.add_done_callback(self._burial_done)
        return task

    def _burial_done(self, task: asyncio.Task[None]) -> None:
        self._burials.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("worker_not_ended", exc_info=error)


async def _remove_containers(process: WorkerProcess) -> None:
    """Of a worker that is dead: what an engine runs is not below it, but for Podman's."""
    try:
        await asyncio.to_thread(remove_labelled, process.engine, WORKER_LABEL, process.mark)
    except NoEngine as error:
        log.warning("containers_not_removed", worker=process.id, reason=str(error))


def _crash(process: WorkerProcess, *, by_kernel: bool) -> Failure:
    code = process.process.returncode
    how = f"was killed by {signal_name(-code)}" if code is not None and code < 0 else f"exited with code {code}"
    said = last_words("\n".join(process.tail)[-LAST_LINES_BYTES:])
    told = f"the process that ran the step {how}{said}"
    if code == -signal.SIGKILL and by_kernel:
        return Failure(OUT_OF_MEMORY, killed_by_kernel(told))
    return Failure("Crash", told)


def _was_killed(finished: Finished) -> bool:
    """Itself, or what a shell ran."""
    return finished.killed_by == signal.SIGKILL or finished.exit_code == 128 + signal.SIGKILL

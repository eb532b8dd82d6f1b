"""The agent's end of one worker process: its sockets, its pipes, its end."""

from __future__ import annotations

import array
import fcntl
import os
import signal
import socket
import subprocess
import sys
import termios
from collections import deque
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import msgspec

from penstock_agent.core.leases import Handle
from penstock_agent.executors.channel import (
    LARGEST_PACKET,
    STDERR,
    FrameBuffer,
    FromWorker,
    LogLines,
    Setup,
    Task,
    read_packet,
    write_packet,
)
from penstock_agent.executors.processes import MARK
from penstock_agent.executors.worker import unsaid
from penstock_agent.executors.worker.capture import TAIL_LINES
from penstock_agent.executors.worker.stopping import HANDLE
from penstock_agent.resources.memory_groups import MemoryGroup

PIPE_BYTES = 256 * 1024
READ_BYTES = 256 * 1024
LAST_WORDS = 64 * 1024
"""Of what a dead worker left in its pipes, so much is kept."""

_result_decoder: msgspec.msgpack.Decoder[FromWorker] = msgspec.msgpack.Decoder(FromWorker)
_log_decoder = msgspec.msgpack.Decoder(LogLines)


@dataclass(frozen=True, slots=True)
class Equipment:
    """What a worker is started with."""

    folder: Path
    bundle_dir: str
    outgoing_dir: Path
    env: Mapping[str, str]
    mark: str
    log_lines: int
    log_bytes: int
    bare: tuple[str, ...] = ()
    """Of a worker in the Python of an environment: how that is started, before its setup."""
    engine: str = ""
    """Of a worker that runs containers: the program that removes them."""
    group: MemoryGroup | None = None
    """What it belongs to, with all that it starts."""


class WorkerProcess:
    """Starts the process at once. OSError: it cannot be started."""

    def __init__(self, worker_id: int, equipment: Equipment) -> None:
        self.id = worker_id
        self.mark, self.engine = equipment.mark, equipment.engine
        self.killed = self.stopped = False
        """By the agent."""
        self.over_memory: tuple[int, int] | None = None
        """(limit, bytes held) of the attempt that it was killed for."""
        self.tail: deque[str] = deque(maxlen=TAIL_LINES)
        """The newest lines on standard error of the newest attempt."""
        self._folder = equipment.folder
        self._folder.mkdir(parents=True, exist_ok=True)
        self._tasks, self._queue = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.results, results = socket.socketpair()
        self.logs, logs = socket.socketpair()
        control, self._control = os.pipe()
        self.out, out = _pipe()
        self.err, err = _pipe()
        for reader in (control, self.out, self.err):
            os.set_blocking(reader, False)
        for side in (self._tasks, self.results, self.logs):
            side.setblocking(False)
        self._unsaid = os.memfd_create("penstock-unsaid")
        os.ftruncate(self._unsaid, unsaid.SIZE)
        setup = Setup(
            tasks=self._queue.fileno(),
            results=results.fileno(),
            logs=logs.fileno(),
            control=control,
            out=self.out,
            err=self.err,
            unsaid=self._unsaid,
            work_dir=str(self._folder / "work"),
            bundle_dir=equipment.bundle_dir,
            outgoing_dir=str(equipment.outgoing_dir),
            log_lines=equipment.log_lines,
            log_bytes=equipment.log_bytes,
        )
        try:
            self.process = self._start(setup, equipment, out, err)
        finally:
            for fd in (control, out, err):
                os.close(fd)
            results.close()
            logs.close()
        self.group = equipment.group
        if self.group is not None:
            with suppress(OSError):
                self.group.add(self.process.pid)
        self.exited = os.pidfd_open(self.process.pid)
        self._stuck: frozenset[int] = frozenset()
        self._reads = 0
        self._numbered: tuple[Handle, int] = (0, 0)
        self._result_frames, self._log_frames = FrameBuffer(), FrameBuffer()

    def _start(self, setup: Setup, equipment: Equipment, out: int, err: int) -> subprocess.Popen[bytes]:
        program = equipment.bare or (sys.executable, "-P", "-m", "penstock_agent.executors.worker")
        return subprocess.Popen(
            [*program, msgspec.json.encode(setup).decode()],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            cwd=self._folder,
            env={**equipment.env, MARK: equipment.mark},
            pass_fds=(setup.tasks, setup.results, setup.logs, setup.control, setup.out, setup.err, setup.unsaid),
            start_new_session=True,
        )

    @property
    def pid(self) -> int:
        return self.process.pid

    # --- the queue

    def feed(self, tasks: Iterable[Task]) -> list[Handle]:
        """The handles of those that found no room; what follows one of them is not sent either."""
        left: list[Handle] = []
        for task in tasks:
            if left or not self._send(task):
                left.append(task.handle)
        return left

    def _send(self, task: Task) -> bool:
        packet, file = write_packet(task, self._folder)
        try:
            self._tasks.send(packet)
        except BlockingIOError:
            if file is not None:
                file.unlink()
            return False
        return True

    def recall(self) -> list[Handle]:
        """Everything in the queue: nothing of it has begun, and it will not."""
        handles: list[Handle] = []
        while packet := self._take_packet():
            handles.append(read_packet(packet).handle)
        return handles

    def _take_packet(self) -> bytes:
        try:
            return self._queue.recv(LARGEST_PACKET, socket.MSG_DONTWAIT)
        except (BlockingIOError, ConnectionResetError):
            return b""

    # --- what it says

    def read_results(self) -> list[FromWorker] | None:
        """What it has said since; None: it says no more. ValueError, msgspec.MsgspecError: it speaks nonsense."""
        data = _read(self.results)
        return None if data is None else [_result_decoder.decode(each) for each in self._result_frames.feed(data)]

    def read_logs(self) -> list[LogLines] | None:
        data = _read(self.logs)
        if data is None:
            return None
        batches = [_log_decoder.decode(each) for each in self._log_frames.feed(data)]
        if batches and batches[-1].lines:
            self._numbered = (batches[-1].handle, batches[-1].lines[-1][0])
        for batch in batches:
            self.tail.extend(text for _, source, _, text in batch.lines if source == STDERR)
        return batches

    def last_number(self, handle: Handle) -> int:
        """The number of the newest line of the newest attempt, if that is `handle`; else 0."""
        return self._numbered[1] if self._numbered[0] == handle else 0

    def last_words(self, secrets: tuple[str, ...] = ()) -> tuple[bytes, bytes]:
        """What a dead worker, and nobody else, had not passed on: the end of standard output and of standard error.
        What it did pass on was read before."""
        out, err = unsaid.left_in(self._unsaid, *self._numbered)
        said = out + _drain(self.out), err + _drain(self.err)
        if secrets:
            said = _masked(said[0], secrets), _masked(said[1], secrets)
        return said[0][-LAST_WORDS:], said[1][-LAST_WORDS:]

    def relieve(self) -> int:
        """Throws away what stands in a pipe that was nearly full already at the last call: so many bytes.

        Native code that prints without releasing the interpreter stops the thread that would read the pipe; then the
        step would wait for its own output for ever. That is so only where nothing is read and the whole process sleeps:
        a thread that reads slowly, that waits for the agent or for its turn on the processor, will read on.
        """
        reads = unsaid.reads_in(self._unsaid)
        goes_on = reads != self._reads or _waiting(self.logs.fileno()) > 0 or not _sleeps(self.pid)
        self._reads = reads
        if goes_on:
            self._stuck = frozenset()
            return 0
        thrown = 0
        for fd in (self.out, self.err):
            nearly_full = _waiting(fd) > PIPE_BYTES * 3 // 4
            if nearly_full and fd in self._stuck:
                with suppress(BlockingIOError):
                    thrown += len(os.read(fd, PIPE_BYTES))
            self._stuck = self._stuck | {fd} if nearly_full else self._stuck - {fd}
        return thrown

    # --- its end

    def signal_stop(self, handle: Handle) -> None:
        """SIGTERM for the attempt and what it started in its session."""
        self.stopped = True
        with suppress(BrokenPipeError):  # it is dead, and nobody has noticed yet
            os.write(self._control, HANDLE.pack(handle))
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGTERM)

    def dismiss(self) -> None:
        """It ends when its queue is empty."""
        self._tasks.close()

    def close(self) -> None:
        """When it is dead."""
        for side in (self._tasks, self._queue, self.results, self.logs):
            side.close()
        for fd in (self._control, self.out, self.err, self.exited, self._unsaid):
            os.close(fd)


def _masked(data: bytes, secrets: tuple[str, ...]) -> bytes:
    """What was cut at its beginning begins with the next line: a secret may have been cut through."""
    from penstock_agent.secrets.masking import Masker

    if len(data) >= LAST_WORDS:
        data = data.partition(b"\n")[2]
    return Masker(secrets).mask(data)


def _pipe() -> tuple[int, int]:
    reader, writer = os.pipe()
    with suppress(OSError):  # beyond the user's share of pipe memory the default has to do
        fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
    return reader, writer


def _sleeps(pid: int) -> bool:
    """Whether each thread waits for something else than a processor."""
    try:
        stats = [(thread / "stat").read_text() for thread in Path(f"/proc/{pid}/task").iterdir()]
    except OSError:
        return False
    return all(stat.rpartition(") ")[2].startswith("S") for stat in stats)


def _waiting(fd: int) -> int:
    count = array.array("i", [0])
    fcntl.ioctl(fd, termios.FIONREAD, count)
    return count[0]


def _read(side: socket.socket) -> bytes | None:
    try:
        return side.recv(READ_BYTES) or None
    except BlockingIOError:
        return b""
    except ConnectionResetError:
        return None


def _drain(fd: int) -> bytes:
    kept = b""
    with suppress(BlockingIOError):
        while data := os.read(fd, READ_BYTES):
            kept = (kept + data)[-LAST_WORDS:]
    return kept

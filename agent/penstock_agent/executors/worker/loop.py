"""The worker's life: take a task, run it, tell its end; until the agent closes the queue."""

from __future__ import annotations

import os
import socket
import sys
import time
from contextlib import suppress
from pathlib import Path

import msgspec

from penstock_agent.executors.channel import (
    LARGEST_PACKET,
    Failure,
    Finished,
    FromWorker,
    FunctionWork,
    Ready,
    Refused,
    Setup,
    Task,
    frame,
    read_packet,
)
from penstock_agent.executors.worker import children
from penstock_agent.executors.worker.capture import Capture
from penstock_agent.executors.worker.commands import CommandRunner
from penstock_agent.executors.worker.encoding import OutputEncoder
from penstock_agent.executors.worker.failures import StepStopped, failure_of
from penstock_agent.executors.worker.functions import FunctionRunner
from penstock_agent.executors.worker.stopping import StopSwitch
from penstock_agent.executors.worker.surroundings import Surroundings, empty_folder, restore_signals
from penstock_agent.executors.worker.unsaid import Unsaid


class Worker:
    def __init__(self, setup: Setup) -> None:
        self._tasks = socket.socket(fileno=setup.tasks)
        self._results = socket.socket(fileno=setup.results)
        self._encoder = msgspec.msgpack.Encoder()
        self._switch = StopSwitch(setup.control)
        logs = socket.socket(fileno=setup.logs)
        unsaid = Unsaid(setup.unsaid)
        self._capture = Capture(setup.out, setup.err, setup.control, logs, unsaid, setup.log_lines, setup.log_bytes)
        self._outputs = encoder = OutputEncoder(setup.outgoing_dir, setup.work_dir)
        surroundings = Surroundings(setup.work_dir)
        self._functions = FunctionRunner(setup.bundle_dir, surroundings, self._capture, self._switch, encoder)
        self._work_dir, self._outgoing_dir = setup.work_dir, setup.outgoing_dir
        self._containers: CommandRunner | None = None
        self._commands = CommandRunner(setup.work_dir, self._capture, self._switch, encoder)

    def run(self) -> None:
        self._switch.install()
        self._capture.start()
        self._say(Ready())
        while packet := self._tasks.recv(LARGEST_PACKET):
            self._take(packet)
        self._functions.traces.close()

    def _take(self, packet: bytes) -> None:
        task = read_packet(packet)
        if time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1000 >= task.deadline:
            self._say(Refused(task.handle))
            return
        if task.container is not None:
            runner: FunctionRunner | CommandRunner = self._container_runner()
        else:
            runner = self._functions if isinstance(task.work, FunctionWork) else self._commands
        run = self._run_with_secrets if task.secrets else self._run
        finished = run(runner, task)
        restore_signals(self._switch.handler)
        finished.log_lines = self._capture.lines + task.lines_before
        self._say(finished)
        runner.clean_up()

    def _container_runner(self) -> CommandRunner:
        """Nothing is imported for it where no step has a container."""
        if self._containers is None:
            from penstock_agent.executors.worker.containers import ContainerRunner

            self._containers = ContainerRunner(
                self._work_dir, self._capture, self._switch, self._outputs, self._outgoing_dir
            )
        return self._containers

    def _run(self, runner: FunctionRunner | CommandRunner, task: Task) -> Finished:
        try:
            return runner.run(task)
        except StepStopped as stop:
            return Finished(task.handle, failure=failure_of(stop, "Cancelled"), stopped=True)

    def _run_with_secrets(self, runner: FunctionRunner | CommandRunner, task: Task) -> Finished:
        """Nothing is imported for it where no step has secrets."""
        from penstock_agent.executors.worker import attempt_secrets
        from penstock_agent.secrets.masking import Masker

        masker = Masker(secret.value for secret in task.secrets)
        # Until the next attempt begins: threads that this one leaves behind may print, too.
        self._capture.masker = masker
        runner.hide = masker.text
        try:
            attempt_secrets.write_files(task, self._work_dir)
            finished = self._run(runner, task)
        except OSError as error:
            finished = Finished(task.handle, failure=Failure("Secret", f"the files of secrets cannot be made: {error}"))
        finally:
            attempt_secrets.remove_files(self._work_dir)
        return attempt_secrets.without_secrets(finished, task, masker)

    def _say(self, message: FromWorker) -> None:
        self._results.sendall(frame(self._encoder.encode(message)))


def _prepare(setup: Setup) -> None:
    """Before user code is seen: folder, import path, descriptors that children must not inherit."""
    for fd in (setup.tasks, setup.results, setup.logs, setup.control, setup.out, setup.err, setup.unsaid):
        os.set_inheritable(fd, False)
    empty_folder(setup.work_dir)
    os.chdir(setup.work_dir)
    if setup.bundle_dir:
        source = Path(setup.bundle_dir, "src")
        roots = [setup.bundle_dir, str(source)] if source.is_dir() else [setup.bundle_dir]
        sys.path[:0] = roots
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(encoding="utf-8", errors="backslashreplace", line_buffering=True)
    sys.argv = [""]


def main() -> None:
    setup = msgspec.json.decode(sys.argv[1], type=Setup)
    children.adopt_orphans()
    _prepare(setup)
    with suppress(BrokenPipeError, ConnectionResetError):
        Worker(setup).run()
    # Threads that a step left behind do not keep the process.
    sys.stdout.flush()
    os._exit(0)

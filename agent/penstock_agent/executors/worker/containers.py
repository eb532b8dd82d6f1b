"""Attempts in containers: a command, or a function with the image's own Python.

Folders are mounted where they are outside: all paths that an attempt is told mean the same on both sides. The engine
is asked in steps (pull, create, start, inspect, rm), so that what it says is never taken for what the command says.
"""

from __future__ import annotations

import os
import re
import shutil
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import msgspec

from penstock_agent.executors.bare.library import make_library
from penstock_agent.executors.channel import (
    LARGEST_FRAME,
    CommandWork,
    Failure,
    Finished,
    FunctionWork,
    Order,
    OutputSource,
    Task,
)
from penstock_agent.executors.last_words import last_words
from penstock_agent.executors.processes import MARK
from penstock_agent.executors.worker import children
from penstock_agent.executors.worker.attempt_secrets import FOLDER_VARIABLE, secrets_folder
from penstock_agent.executors.worker.capture import Capture
from penstock_agent.executors.worker.commands import (
    NOT_EXECUTABLE,
    NOT_FOUND,
    BadOutput,
    CommandRunner,
    argv_of,
    cpu_time,
    own_environment,
    read_regular,
)
from penstock_agent.executors.worker.container import Container, Ended, EngineCalls, EngineFailure, Mount
from penstock_agent.executors.worker.encoding import OutputEncoder
from penstock_agent.executors.worker.stopping import StopSwitch
from penstock_agent.resources.words import OUT_OF_MEMORY, spelled

REASON = "Container"
"""Of a failure that is the engine's, or that of the image."""
PYTHON = "python3"
_NOT_RUN = re.compile(r"catatonit.*failed to exec pid1.*")
"""The first process of Podman's containers was there, and that was all: it ends with exit code 1."""
BEGAN, RESULT = "began", "result"
"""Files that the function's process leaves in the attempt's folder."""
_BOOT = str(Path(__file__).parents[1] / "inside" / "boot.py")


class ContainerRunner(CommandRunner):
    def __init__(
        self, work_dir: str, capture: Capture, switch: StopSwitch, encoder: OutputEncoder, outgoing_dir: str
    ) -> None:
        super().__init__(work_dir, capture, switch, encoder)
        self._outgoing_dir = Path(outgoing_dir)
        self._engine = EngineCalls(self._set_pid)

    def _set_pid(self, pid: int | None) -> bool:
        """Of the engine's client that runs now: a stop is for it, and it passes the stop on. False: it came already."""
        self._pid = pid
        return not self._stopped

    def _run_in(self, folder: Path, task: Task) -> Finished:
        assert task.container is not None
        mark = os.environ.get(MARK, "")
        container = Container(self._engine, task.container, mark, task.handle)
        try:
            if isinstance(task.work, FunctionWork):
                return self._run_function(container, folder, task)
            return self._run_command(container, folder, task, task.work)
        except EngineFailure as error:
            return Finished(task.handle, failure=Failure(REASON, self.hide(str(error))))
        finally:
            container.remove()
            children.kill_all()
            self._capture.end()

    # --- commands

    def _run_command(self, container: Container, folder: Path, task: Task, work: CommandWork) -> Finished:
        refused = self._prepare(folder, task, work)
        if refused is not None:
            return refused
        argv, env = argv_of(work), own_environment(folder, task, work)
        mounts = _mounts(folder, task, secrets=env.get(FOLDER_VARIABLE))
        if work.bundle_dir:
            mounts.append(Mount(work.bundle_dir))
        self._pull(container)
        container.create(argv, env, mounts, str(folder / "work"), env_file=folder.with_name(f"{folder.name}.env"))
        ended = self._start(container)
        finished = self._finished(container, task, ended)
        if not ended.began:
            finished.failure = self._not_begun(container, argv[0], ended)
            return finished
        for name in ("metrics", "metadata"):
            _remove_link(folder / name)
        finished = self._judge(folder, task, work, finished, ended.code)
        if finished.failure is not None and ended.out_of_memory:
            finished.failure = _out_of_memory(task)
        return finished

    def _path(self, folder: Path, output: OutputSource) -> Path:
        """What is a link in the container may lead anywhere out of it."""
        path = Path(os.path.realpath(folder / output.file))
        if not path.is_relative_to(self._real(folder)):
            raise BadOutput(
                f"output {output.name!r}: {output.file!r} leads out of the working folder; write the file itself there"
            )
        return path

    def _real(self, folder: Path) -> Path:
        """Of the attempt's folder, which the container may have put a link in the place of."""
        return Path(os.path.realpath(self._work_dir)) / folder.relative_to(self._work_dir)

    def _not_begun(self, container: Container, program: str, ended: Ended) -> Failure:
        said = last_words(self._capture.last_error_lines())
        if ended.code in (NOT_EXECUTABLE, NOT_FOUND):
            problem = "was not found" if ended.code == NOT_FOUND else "cannot be run"
            return Failure("ExitCode", f"the program {program!r} {problem} in the image {container.image!r}{said}")
        return Failure(REASON, f"{container.program} could not start the container{said}")

    # --- functions

    def _run_function(self, container: Container, folder: Path, task: Task) -> Finished:
        (folder / "work").mkdir(parents=True)
        outgoing = self._outgoing_dir / str(task.handle)
        outgoing.mkdir(parents=True, exist_ok=True)
        assert task.container is not None
        library = Path(make_library(folder / "library"))
        packages = [Mount(str(link.resolve())) for link in library.glob("*/*")]
        secrets = secrets_folder(str(self._work_dir))
        mounts = [*_mounts(folder, task), Mount(str(outgoing), writable=True), *packages]
        if container.bundle_dir:
            mounts.append(Mount(container.bundle_dir))
        if any(secret.file for secret in task.secrets):
            mounts.append(Mount(str(secrets), str(secrets_folder(str(folder / "work")))))
        said = msgspec.structs.replace(task, container=None)
        order = msgspec.msgpack.encode(Order(said, str(folder), str(outgoing.parent), container.bundle_dir))
        env_file = folder.with_name(f"{folder.name}.env")
        self._pull(container)
        argv = [PYTHON, "-B", _BOOT, str(library)]
        container.create(argv, task.container.env, mounts, str(folder / "work"), env_file=env_file, stdin=True)
        ended = self._start(container, order)
        finished = self._read_result(container, folder, task, outgoing, ended)
        with suppress(OSError):
            outgoing.rmdir()
        if finished.failure is not None:
            shutil.rmtree(outgoing, ignore_errors=True)
        return finished

    def _read_result(self, container: Container, folder: Path, task: Task, outgoing: Path, ended: Ended) -> Finished:
        _remove_link(folder / RESULT)
        try:
            finished = msgspec.msgpack.decode(read_regular(folder / RESULT, LARGEST_FRAME), type=Finished)
        except FileNotFoundError:
            finished = self._finished(container, task, ended)
            finished.failure = self._no_result(container, folder, task, ended)
            return finished
        except (OSError, msgspec.MsgspecError) as error:
            return Finished(task.handle, failure=Failure("Crash", f"what the step left as its result is none: {error}"))
        if finished.handle != task.handle or not all(_lies_in(each.path, outgoing) for each in finished.artifacts):
            return Finished(task.handle, failure=Failure("Crash", "what the step left as its result is not its own"))
        used = self._finished(container, task, ended)
        finished.cpu_time = max(finished.cpu_time, used.cpu_time)
        return finished

    def _no_result(self, container: Container, folder: Path, task: Task, ended: Ended) -> Failure:
        said = last_words(self._capture.last_error_lines())
        if ended.out_of_memory:
            return _out_of_memory(task)
        if (folder / BEGAN).exists():
            return Failure("Crash", f"the process that ran the step ended with exit code {ended.code}{said}")
        if not ended.began and ended.code not in (NOT_EXECUTABLE, NOT_FOUND):
            return Failure(REASON, f"{container.program} could not start the container{said}")
        return Failure(
            REASON,
            f"the image {container.image!r} has no {PYTHON} of version 3.11 or newer on its PATH, which a step that is"
            f" a Python function needs; name another image, or make the step a command{said}",
        )

    # --- both

    def _pull(self, container: Container) -> None:
        if container.needs_pull():
            self._capture.add_system_line(f"the image {container.image} is being pulled")
            container.pull()

    def _start(self, container: Container, stdin: bytes | None = None) -> Ended:
        ended = container.start(stdin)
        self._capture.end()
        missing = _NOT_RUN.search(self._capture.last_error_lines()) if ended.code == 1 else None
        if missing is None:
            return ended
        return replace(ended, began=False, code=NOT_FOUND if "No such file" in missing[0] else NOT_EXECUTABLE)

    def _finished(self, container: Container, task: Task, ended: Ended) -> Finished:
        """What the container used is known where its processes are below this one."""
        container.remove()
        left_over = children.kill_all()
        return Finished(
            task.handle,
            cpu_time=sum(cpu_time(each) for each in left_over),
            peak_memory_bytes=max((each.ru_maxrss for each in left_over), default=0) * 1024,
            exit_code=ended.code,
        )


def _mounts(folder: Path, task: Task, secrets: str | None = None) -> list[Mount]:
    mounts = [Mount(str(folder), writable=True), *(Mount(path) for path in sorted(set(task.files.values())))]
    return [*mounts, Mount(secrets)] if secrets else mounts


def _lies_in(path: str, folder: Path) -> bool:
    real = Path(os.path.realpath(path))
    return real.is_relative_to(os.path.realpath(folder)) and real.is_file()


def _remove_link(path: Path) -> None:
    if path.is_symlink():
        path.unlink()


def _out_of_memory(task: Task) -> Failure:
    assert task.container is not None
    limit = task.container.memory_bytes
    asked = f"more than its resources.memory_bytes of {spelled(limit)}" if limit else "more memory than there is"
    return Failure(
        OUT_OF_MEMORY,
        f"the container needed {asked}, and the kernel killed in it; ask for more, or let retry.memory_factor do so",
    )

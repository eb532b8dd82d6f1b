"""A command as a step: its process, its folder, its outputs."""

from __future__ import annotations

import errno
import json
import math
import os
import shutil
import signal
import stat
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from resource import struct_rusage
from typing import TypeVar

from penstock_agent.executors.channel import CommandWork, Failure, Finished, OutputSource, Task
from penstock_agent.executors.last_words import last_words
from penstock_agent.executors.worker import children, incoming
from penstock_agent.executors.worker.capture import Capture
from penstock_agent.executors.worker.encoding import OutputEncoder, TooLarge
from penstock_agent.executors.worker.json_output import Unserialisable
from penstock_agent.executors.worker.misplaced_files import where_it_is
from penstock_agent.executors.worker.outgoing import BadArtifact
from penstock_agent.executors.worker.step_runtime import LONGEST_NAME, LONGEST_TEXT, MOST_REPORTS
from penstock_agent.executors.worker.stopping import StopSwitch
from penstock_agent.executors.worker.surroundings import as_text, identity, variable_name
from penstock_agent.executors.worker.traces import derived_traceparent

T = TypeVar("T")

LONGEST_VARIABLE = 64 * 1024
"""The kernel takes 128 KiB for one variable; larger inputs, and those with a NUL, go through a file."""
LARGEST_OUTPUT = 32 * 1024 * 1024
"""Of standard output or a file that is read as a value, where there is an artifact store."""
LARGEST_REPORT = 512 * 1024
NOT_FOUND, NOT_EXECUTABLE = 127, 126
"""The exit codes that shells use."""


class BadOutput(Exception):
    """A declared output cannot be had."""


class CommandRunner:
    """Runs one command at a time. The worker adopts whatever the command leaves behind, so nothing escapes."""

    def __init__(self, work_dir: str, capture: Capture, switch: StopSwitch, encoder: OutputEncoder) -> None:
        self._work_dir = Path(work_dir)
        self._capture = capture
        self._switch = switch
        self._encoder = encoder
        self._pid: int | None = None
        self._stopped = False
        self.hide: Callable[[str], str] = lambda text: text
        """Masks the secrets of the attempt in a text that is told of it."""

    def run(self, task: Task) -> Finished:
        folder = self._work_dir / f"attempt-{task.handle}"
        self._capture.begin(task.handle, _kept_bytes(task))
        self._encoder.begin(task, folder / "work")
        self._pid, self._stopped = None, False
        self._switch.arm(task.handle, self._stop)
        began = time.perf_counter_ns()
        try:
            finished = self._run_in(folder, task)
        finally:
            self._switch.disarm()
            shutil.rmtree(folder, ignore_errors=True)
        finished.run_time = (time.perf_counter_ns() - began) // 1000
        finished.stopped = self._stopped and finished.failure is not None
        if finished.failure is None:
            finished.artifacts += self._encoder.produced
        else:
            self._encoder.discard()
        return finished

    def clean_up(self) -> None:
        """`run` has done it."""

    def _stop(self) -> None:
        """Called by the signal handler."""
        self._stopped = True
        if self._pid is not None:
            with suppress(ProcessLookupError):
                os.killpg(self._pid, signal.SIGTERM)

    def _run_in(self, folder: Path, task: Task) -> Finished:
        work = task.work
        assert isinstance(work, CommandWork)
        refused = self._prepare(folder, task, work)
        if refused is not None:
            return refused
        argv = argv_of(work)
        try:
            process = subprocess.Popen(
                argv,
                cwd=folder / "work",
                env={**os.environ, **own_environment(folder, task, work)},
                stdin=subprocess.DEVNULL,
                start_new_session=True,
                preexec_fn=_joining(task.memory_group) if task.memory_group else None,
            )
        except OSError as error:
            return _not_started(task.handle, argv[0], error, where_it_is(work, folder / "work", str(error)))
        except subprocess.SubprocessError:
            failure = Failure("Crash", f"the command could not be put into its control group {task.memory_group}")
            return Finished(task.handle, failure=failure)
        self._pid = process.pid
        if self._stopped:
            self._stop()
        return self._conclude(folder, task, work, process)

    def _prepare(self, folder: Path, task: Task, work: CommandWork) -> Finished | None:
        """The attempt's folder as the command finds it; else why that cannot be."""
        (folder / "work").mkdir(parents=True)
        if work.bundle_dir:
            (folder / "work" / "bundle").symlink_to(work.bundle_dir)
        try:
            _put_inputs(folder / "work", task, work)
        except (OSError, incoming.BadInput) as error:
            return Finished(task.handle, failure=Failure("ArtifactStore", f"an input cannot be put in place: {error}"))
        return None

    def _conclude(self, folder: Path, task: Task, work: CommandWork, process: subprocess.Popen[bytes]) -> Finished:
        _, status, usage = os.wait4(process.pid, 0)
        self._pid = None
        code = process.returncode = os.waitstatus_to_exitcode(status)
        left_over = children.kill_all()
        self._capture.end()
        finished = Finished(
            task.handle,
            cpu_time=sum(cpu_time(each) for each in (usage, *left_over)),
            peak_memory_bytes=max(each.ru_maxrss for each in (usage, *left_over)) * 1024,
            exit_code=code if code >= 0 else None,
            killed_by=-code if code < 0 else 0,
        )
        return self._judge(folder, task, work, finished, code)

    def _judge(self, folder: Path, task: Task, work: CommandWork, finished: Finished, code: int) -> Finished:
        """What it reported, and its outputs or why it failed."""
        finished.metrics = _read_reports(folder / "metrics", _number)
        finished.metadata = _read_reports(folder / "metadata", lambda text: text[:LONGEST_TEXT])
        if code < 0 or code not in (work.success_exit_codes or [0]):
            finished.failure = self._failure(work, folder / "work", code)
        else:
            self._take_outputs(folder / "work", task, work, finished)
        return finished

    def _failure(self, work: CommandWork, folder: Path, code: int) -> Failure:
        lines = self._capture.last_error_lines()
        said = last_words(lines)
        if code < 0:
            return Failure("Crash", f"the command was killed by {signal_name(-code)}{said}")
        return Failure("ExitCode", f"the command ended with exit code {code}{where_it_is(work, folder, lines)}{said}")

    def _take_outputs(self, folder: Path, task: Task, work: CommandWork, finished: Finished) -> None:
        if not work.outputs:
            return
        try:
            values = {output.name: self._value(folder, output, _most_read(task)) for output in work.outputs}
            finished.output = self._encoder.encode(values)
        except (BadOutput, BadArtifact, Unserialisable) as error:
            finished.failure = Failure("OutputUnserialisable", str(error))
        except TooLarge as error:
            finished.failure = error.failure

    def _value(self, folder: Path, output: OutputSource, limit: int) -> object:
        if output.artifact:
            return self._kept(folder, output)
        source = "standard output" if output.stdout else f"the file {output.file!r}"
        data = self._capture.kept if output.stdout else _read_file(self._path(folder, output), output, limit)
        if len(data) > limit:
            raise BadOutput(
                f"output {output.name!r}: {source} has more than {limit:,} bytes; "
                f"write a file, and declare it as an artifact"
            )
        try:
            text = data.decode()
        except UnicodeDecodeError as error:
            raise BadOutput(f"output {output.name!r}: {source} is no UTF-8 ({error}); write text in UTF-8") from None
        if not output.json:
            return text.removesuffix("\n").removesuffix("\r")
        try:
            return json.loads(text, parse_constant=_refuse_constant)
        except (ValueError, RecursionError) as error:
            raise BadOutput(
                f"output {output.name!r}: {source} is no JSON ({error}): {self.hide(text)[:200]!r}; "
                f"print one JSON value and nothing else, or declare the output as text"
            ) from None

    def _path(self, folder: Path, output: OutputSource) -> Path:
        return folder / output.file

    def _kept(self, folder: Path, output: OutputSource) -> object:
        path = self._path(folder, output)
        if not path.exists():
            raise BadOutput(
                f"output {output.name!r}: there is no file or folder {output.file!r}; "
                f"the command writes it, relative to its working folder"
            )
        return self._encoder.keep(path, path.name)


def _joining(group: str) -> Callable[[], None]:
    """Before the command is what it is to be: nothing that it does is outside of its group."""

    def join() -> None:
        file = os.open(f"{group}/cgroup.procs", os.O_WRONLY)
        os.write(file, b"0")
        os.close(file)

    return join


def _kept_bytes(task: Task) -> int | None:
    """Of standard output."""
    wanted = isinstance(task.work, CommandWork) and any(output.stdout for output in task.work.outputs)
    return _most_read(task) if wanted else None


def _most_read(task: Task) -> int:
    """Of one output of a command."""
    return LARGEST_OUTPUT if task.inline_output_bytes else task.max_output_bytes


def _put_inputs(folder: Path, task: Task, work: CommandWork) -> None:
    """Raises OSError, `BadInput`."""
    for name, place in work.input_files.items():
        if name in task.inputs:
            target = folder / place
            if not Path(os.path.realpath(target)).is_relative_to(os.path.realpath(folder)):
                raise incoming.BadInput(f"{place!r} leads out of the working folder")
            incoming.put(task.inputs[name], task, target)


def signal_name(number: int) -> str:
    try:
        name = signal.Signals(number).name
    except ValueError:
        name = f"signal {number}"
    hint = " (not by the agent: perhaps the machine or its memory limit ran out of memory)" if number == 9 else ""
    return name + hint


def argv_of(work: CommandWork) -> list[str]:
    return ["/bin/sh", "-e", "-c", work.shell] if work.shell else list(work.argv)


def own_environment(folder: Path, task: Task, work: CommandWork) -> dict[str, str]:
    """Besides what the command finds where it runs."""
    env = {**work.env, **identity(task)}
    if task.unsampled:
        env["TRACEPARENT"] = derived_traceparent(task.run_id)
    for name, data in task.inputs.items():
        variable = f"PENSTOCK_INPUT_{variable_name(name)}"
        if name in work.input_files:
            env[variable] = str(folder / "work" / work.input_files[name])
            continue
        text = as_text(incoming.value_with_paths(data, task))
        if len(text.encode()) <= LONGEST_VARIABLE and "\0" not in text:
            env[variable] = text
        else:
            file = folder / f"input-{variable}"
            file.write_bytes(text.encode())
            env[f"{variable}_FILE"] = str(file)
    for output in work.outputs:
        if output.file:
            env[f"PENSTOCK_OUTPUT_{variable_name(output.name)}"] = str(folder / "work" / output.file)
    env["PENSTOCK_WORK_DIR"] = env["PWD"] = str(folder / "work")
    env["PENSTOCK_METRICS_FILE"] = str(folder / "metrics")
    env["PENSTOCK_METADATA_FILE"] = str(folder / "metadata")
    if task.secrets:
        from penstock_agent.executors.worker.attempt_secrets import secret_variables

        env |= secret_variables(task, str(folder.parent))
    return env


def _not_started(handle: int, program: str, error: OSError, hint: str) -> Finished:
    missing = isinstance(error, FileNotFoundError)
    problem = "was not found" if missing else f"cannot be run: {error.strerror}"
    remedy = "check its name and the agent's PATH" if missing else "check that it is an executable file"
    return Finished(
        handle,
        failure=Failure("ExitCode", f"the program {program!r} {problem}; {remedy}{hint}"),
        exit_code=NOT_FOUND if missing else NOT_EXECUTABLE,
    )


def cpu_time(usage: struct_rusage) -> int:
    return int((usage.ru_utime + usage.ru_stime) * 1e6)


def _read_file(path: Path, output: OutputSource, limit: int) -> bytes:
    try:
        return read_regular(path, limit + 1)
    except OSError as error:
        raise BadOutput(
            f"output {output.name!r}: the file {output.file!r} cannot be read ({error.strerror}); "
            f"the command writes it, relative to its working folder"
        ) from None


def read_regular(path: Path, limit: int) -> bytes:
    """At most so many bytes. Of a named pipe nothing is read: nobody would write, and reading would never end."""
    with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError(errno.EINVAL, "it is no regular file")
        return file.read(limit)


def _refuse_constant(name: str) -> object:
    raise ValueError(f"{name} is no JSON number")


def _read_reports(path: Path, convert: Callable[[str], T | None]) -> dict[str, T]:
    """Lines `name=value`; what has another form is left out."""
    reports: dict[str, T] = {}
    try:
        text = read_regular(path, LARGEST_REPORT).decode(errors="replace")
    except OSError:
        return reports
    for line in text.splitlines():
        name, equals, said = line.partition("=")
        value = convert(said.strip()) if equals else None
        known = name in reports or len(reports) < MOST_REPORTS
        if value is not None and known and 0 < len(name) <= LONGEST_NAME:
            reports[name] = value
    return reports


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None

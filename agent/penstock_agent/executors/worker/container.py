"""One container, from the pull of its image to its removal, by the command line of Docker or Podman."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import msgspec

from penstock_agent.containers.engine import WORKER_LABEL
from penstock_agent.executors.channel import ContainerWork
from penstock_agent.executors.last_words import last_words
from penstock_agent.executors.processes import MARK

LONGEST_ANSWER = 4096
_HEEDED = re.compile(
    r"PATH|HOME|USER|TMPDIR|GO.*|LD_.*|XDG_.*|DOCKER_.*|BUILDKIT_.*|PODMAN_.*|_?CONTAINERS?_.*|STORAGE_.*|BUILDAH_.*|"
    r"REGISTRY_.*|SSL_CERT_.*|DBUS_.*|NOTIFY_SOCKET|LISTEN_.*|(ALL|HTTPS?|NO)_PROXY",
    re.IGNORECASE,
)
"""Variables that the engine's client may heed itself: the attempt's must not become the client's."""


class EngineFailure(Exception):
    """The engine could not do it: its last words."""


@dataclass(frozen=True, slots=True)
class Mount:
    source: str
    target: str = ""
    """Empty: the same path."""
    writable: bool = False

    def __str__(self) -> str:
        said = f"type=bind,source={self.source},target={self.target or self.source}"
        return said if self.writable else f"{said},readonly"


@dataclass(frozen=True, slots=True)
class Ended:
    code: int
    began: bool
    """The program itself ran."""
    out_of_memory: bool


class _State(msgspec.Struct, rename="pascal"):
    status: str = ""
    exit_code: int = 0
    started_at: str = ""
    """Of the year 1: it never did."""
    oom_killed: bool = msgspec.field(default=False, name="OOMKilled")


class EngineCalls:
    """`tell` is told which process a stop would be for, and that there is none any more; it answers False if the
    attempt was stopped already."""

    def __init__(self, tell: Callable[[int | None], bool]) -> None:
        self._tell = tell

    def ask(
        self, argv: Sequence[str], env: Mapping[str, str] | None = None, *, whatever: bool = False
    ) -> tuple[int, str, str]:
        """(exit code, standard output, standard error). `whatever`: a stop does not stop it."""
        process = self._start(argv, env, subprocess.DEVNULL, subprocess.PIPE, whatever=whatever)
        out, err = process.communicate()
        self._tell(None)
        return process.returncode, out.decode(errors="replace"), err.decode(errors="replace")

    def attach(self, argv: Sequence[str], stdin: bytes | None) -> int:
        """With the standard output and error of this process."""
        process = self._start(
            argv, None, subprocess.DEVNULL if stdin is None else subprocess.PIPE, None, whatever=False
        )
        process.communicate(stdin)
        self._tell(None)
        return process.returncode

    def _start(
        self, argv: Sequence[str], env: Mapping[str, str] | None, stdin: int, output: int | None, *, whatever: bool
    ) -> subprocess.Popen[bytes]:
        try:
            process = subprocess.Popen(
                argv,
                stdin=stdin,
                stdout=output,
                stderr=output,
                env={**os.environ, **(env or {})},
                start_new_session=True,
            )
        except OSError as error:
            raise EngineFailure(f"{argv[0]} cannot be run: {error.strerror}") from None
        if not whatever and not self._tell(process.pid):
            process.terminate()
        return process


class Container:
    """`mark` is the worker's."""

    def __init__(self, calls: EngineCalls, work: ContainerWork, mark: str, handle: int) -> None:
        self._calls = calls
        self._work = work
        self._mark = mark
        self.name = f"penstock-{mark.replace(':', '-')}{handle}"
        self.image, self.program, self.bundle_dir = work.image, work.program, work.bundle_dir
        self._made = False

    def needs_pull(self) -> bool:
        pull = self._work.pull
        return pull == "always" or (pull == "missing" and not self._has_image())

    def _has_image(self) -> bool:
        return self._calls.ask([self.program, "image", "inspect", "--format", "{{.Id}}", self.image])[0] == 0

    def pull(self) -> None:
        """Raises `EngineFailure`."""
        code, _, said = self._calls.ask([self.program, "pull", "--quiet", self.image])
        if code != 0:
            raise EngineFailure(f"the image {self.image!r} cannot be pulled{_tail(said)}")

    def create(
        self,
        argv: Sequence[str],
        env: Mapping[str, str],
        mounts: Sequence[Mount],
        work_dir: str,
        *,
        env_file: Path,
        stdin: bool = False,
    ) -> None:
        """`env_file` is where it may keep variables while it asks. Raises `EngineFailure`."""
        passed, kept = _divided({**env, MARK: self._mark})
        options = ["--name", self.name, "--label", f"{WORKER_LABEL}={self._mark}", "--workdir", work_dir]
        options += [f"--mount={mount}" for mount in mounts]
        options += [f"--env={name}" for name in passed]
        if stdin:
            options.append("--interactive")
        if kept:
            options += ["--env-file", str(env_file)]
        command = [self.program, "create", "--pull=never", *self._work.options, *options]
        command += ["--entrypoint", argv[0], self.image, *argv[1:]]
        self._made = True
        with _env_file(env_file, kept):
            code, _, said = self._calls.ask(command, passed)
        if code != 0:
            raise EngineFailure(self._not_created(said))

    def _not_created(self, said: str) -> str:
        if self._work.pull == "never" and not self._has_image():
            return (
                f"the image {self.image!r} is not on this agent, and container.pull is never; pull it there, or say"
                f" pull: missing"
            )
        return f"{self.program} could not create the container{_tail(said)}"

    def start(self, stdin: bytes | None = None) -> Ended:
        """Returns when it has ended. What it prints is printed here. Raises `EngineFailure`."""
        attach = ["--attach"] if stdin is None else ["--attach", "--interactive"]
        code = self._calls.attach([self.program, "start", *attach, self.name], stdin)
        asked = [self.program, "inspect", "--format", "{{json .State}}", self.name]
        failed, answer, said = self._calls.ask(asked, whatever=True)
        if failed:
            raise EngineFailure(f"what became of the container is not known{_tail(said)}")
        try:
            state = msgspec.json.decode(answer, type=_State)
        except msgspec.MsgspecError as error:
            raise EngineFailure(f"{self.program} inspect is not understood: {error}") from None
        began = state.status not in ("created", "configured", "initialized") and not state.started_at.startswith("0001")
        return Ended(state.exit_code if began else code, began, state.oom_killed)

    def remove(self) -> None:
        """With everything in it, also if it still runs."""
        if self._made:
            self._made = False
            with suppress(EngineFailure):
                self._calls.ask([self.program, "rm", "--force", "--volumes", self.name], whatever=True)


def _divided(env: Mapping[str, str]) -> tuple[dict[str, str], dict[str, str]]:
    """(through the environment of the client, through a file). Raises `EngineFailure`."""
    kept = {name: value for name, value in env.items() if _HEEDED.fullmatch(name)}
    for name, value in kept.items():
        if "\n" in value or "\r" in value:
            raise EngineFailure(f"the variable {name} has several lines: in a container it cannot; rename it")
    return {name: value for name, value in env.items() if name not in kept}, kept


@contextmanager
def _env_file(path: Path, variables: Mapping[str, str]) -> Iterator[None]:
    """For its user's eyes, and no longer than it is needed."""
    if not variables:
        yield
        return
    with open(path, "x", opener=lambda path, flags: os.open(path, flags, 0o600)) as file:
        file.writelines(f"{name}={value}\n" for name, value in variables.items())
    try:
        yield
    finally:
        path.unlink()


def _tail(said: str) -> str:
    return last_words(said[-LONGEST_ANSWER:])

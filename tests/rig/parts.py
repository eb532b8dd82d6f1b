"""The parts of a whole Penstock, each a process of its own that can be killed, frozen and started again."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import psutil

from penstock.dev.ports import take_port
from penstock.dev.postgres import EmbeddedPostgres

READY_SECONDS = 120.0
STOP_SECONDS = 30.0
_POLL_SECONDS = 0.02


def until(condition: Callable[[], object], seconds: float, what: str = "it") -> None:
    """Return when something outside this process has come about; fail if it does not."""
    deadline = time.monotonic() + seconds
    pause = threading.Event()
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not come about within {seconds:g} s"
        pause.wait(_POLL_SECONDS)


@dataclass(frozen=True, slots=True)
class Exit:
    """The end of a process that nobody had asked to end."""

    name: str
    at: float
    """Seconds since 1970."""
    code: int


class Part:
    """One process, started again whenever it ends, until `stop`. What it says goes to a file."""

    def __init__(
        self, name: str, command: Sequence[str], log: Path, environment: Mapping[str, str] | None = None
    ) -> None:
        self.name = name
        self._command = list(command)
        self._environment = {**os.environ, "PYTHONUNBUFFERED": "1", **(environment or {})}
        self.log = log
        self._output: IO[bytes] | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._keeper: threading.Thread | None = None
        self._stopping = threading.Event()
        self._may_run = threading.Event()
        self._may_run.set()
        self._lock = threading.Lock()
        self._killed = False
        self.exits: list[Exit] = []
        """Of its own accord."""
        self.starts = 0

    @property
    def pid(self) -> int:
        """0 if it does not run now."""
        process = self._process
        return process.pid if process is not None and process.poll() is None else 0

    def start(self) -> None:
        self._output = self.log.open("ab")
        self._spawn()
        self._keeper = threading.Thread(target=self._keep, name=f"keep {self.name}", daemon=True)
        self._keeper.start()

    def _spawn(self) -> None:
        with self._lock:
            self._killed = False
            self.starts += 1
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=self._output,
                stderr=self._output,
                env=self._environment,
                start_new_session=True,
            )

    def _keep(self) -> None:
        while True:
            assert self._process is not None
            code = self._process.wait()
            if self._stopping.is_set():
                return
            if not self._killed:
                self.exits.append(Exit(self.name, time.time(), code))
                if self._stopping.wait(0.5):
                    return
            self._may_run.wait()
            if self._stopping.is_set():
                return
            self._spawn()

    def become(self, environment: Mapping[str, str]) -> None:
        """With these variables besides, from its next start on."""
        self._environment.update(environment)

    def kill(self) -> bool:
        """As -9. It is started again at once. False if there is nothing to kill."""
        with self._lock:
            if not self.pid:
                return False
            self._killed = True
            assert self._process is not None
            self._process.kill()
            return True

    @contextlib.contextmanager
    def down(self) -> Iterator[None]:
        """Killed, and not started again before the end of this."""
        self._may_run.clear()
        self.kill()
        try:
            yield
        finally:
            self._may_run.set()

    def stop(self) -> None:
        self._stopping.set()
        self._may_run.set()
        process = self._process
        if process is None:
            return
        thaw(process.pid)
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if self._keeper is not None:
            self._keeper.join()
        if self._output is not None:
            self._output.close()

    def children(self) -> list[int]:
        """Processes that it has started, with theirs."""
        with contextlib.suppress(psutil.NoSuchProcess):
            if self.pid:
                return [child.pid for child in psutil.Process(self.pid).children(recursive=True)]
        return []


def send(pid: int, number: signal.Signals) -> bool:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return False
    return True


def thaw(pid: int) -> bool:
    return send(pid, signal.SIGCONT)


def processes_of_server(server: EmbeddedPostgres) -> list[int]:
    """The first process of a PostgreSQL, and all of its children."""
    pid = server.server_pid
    if pid is None:
        return []
    try:
        return [pid, *(child.pid for child in psutil.Process(pid).children(recursive=True))]
    except psutil.NoSuchProcess:
        return []


# --- how each is started


class Coordinator(Part):
    """`python -m penstock_coordinator server` on ports of its own that stay the same. Others find it at `reached_at`,
    by default on this machine; it listens on `host`, by default there. `prefix` runs it somewhere else, as `Agent`."""

    def __init__(
        self,
        folder: Path,
        database_url: str,
        environment: Mapping[str, str] | None = None,
        host: str = "",
        *,
        name: str = "coordinator",
        reached_at: str = "127.0.0.1",
        prefix: Sequence[str] = (),
    ) -> None:
        self.port, self.http_port = take_port(0, ""), take_port(0, "")
        self.host = host or reached_at
        self.reached_at = reached_at
        self.data = folder / name
        super().__init__(
            name,
            [*prefix, sys.executable, "-m", "penstock_coordinator", "server"],
            folder / f"{name}.log",
            {
                "PENSTOCK_DATABASE_URL": database_url,
                "PENSTOCK_DATA_DIR": str(self.data),
                "PENSTOCK_LISTEN": f"{self.host}:{self.port}",
                "PENSTOCK_HTTP_LISTEN": f"{reached_at}:{self.http_port}",
                "PENSTOCK_LOG_FORMAT": "json",
                **(environment or {}),
            },
        )

    @property
    def address(self) -> str:
        return f"{self.reached_at}:{self.port}"

    def wait_ready(self, seconds: float = READY_SECONDS) -> None:
        until(self.is_ready, seconds, "a coordinator that is ready")

    def is_ready(self) -> bool:
        return self.readiness() == {}

    def readiness(self) -> dict[str, str] | None:
        """What is in the way of being ready; None if it cannot be asked."""
        try:
            with urllib.request.urlopen(f"http://{self.reached_at}:{self.http_port}/readyz", timeout=2.0):
                return {}
        except urllib.error.HTTPError as refusal:
            with contextlib.suppress(ValueError, OSError):
                found = json.loads(refusal.read())
                return found if isinstance(found, dict) else {"answer": str(found)}
            return {"answer": str(refusal.code)}
        except OSError:
            return None


class Agent(Part):
    """`python -m penstock_agent` with a data folder of its own. `prefix` runs it somewhere else: `ip netns exec x`.
    Steps see its name in CHAOS_AGENT."""

    def __init__(
        self,
        name: str,
        folder: Path,
        address: str,
        slots: int,
        *,
        environment: Mapping[str, str] | None = None,
        prefix: Sequence[str] = (),
    ) -> None:
        self.data = folder / name
        self.slots = slots
        command = [*prefix, sys.executable, "-m", "penstock_agent", "--address", address, "--id", name]
        command += ["--slots", str(slots), "--data-dir", str(self.data), "--drain-timeout", "1", "-l", f"agent={name}"]
        command += ["--log-format", "json"]
        super().__init__(name, command, folder / f"{name}.log", {"CHAOS_AGENT": name, **(environment or {})})

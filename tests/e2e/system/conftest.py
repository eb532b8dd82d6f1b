"""A whole Penstock, started as people start it: `penstock dev` in a process of its own."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter, deque
from typing import TYPE_CHECKING, Any, Self

import psutil
import pytest
from tests.clusters import prepared
from tests.sharing import shared

from penstock.client.sync import SyncClient
from penstock.dev.restarts import QUICK_SECONDS
from penstock.errors import PenstockError
from penstock.v1 import agent_admin_service_pb2 as admin

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

READY_SECONDS = 150.0
STOP_SECONDS = 100.0
"""Agents, coordinator and database have 20, 10 and 10 s to end by themselves; what takes longer is killed."""
PATIENT = {
    "PENSTOCK_LEASE_TTL": "150s",
    "PENSTOCK_COMMIT_PATIENCE": "30s",
    "PENSTOCK_CACHE_PATIENCE": "60s",
}
"""How long a busy machine may hold a process up, or take to start one again, is no matter of these tests: no step is
given up for it or run without the cache, and no call refused."""
MOST_QUICK_ENDS = 2
"""That a system may have seen when a test takes it, which kills a process twice at most: `penstock dev` bears five."""


class DevSystem:
    """One `penstock dev`, and what it says."""

    def __init__(self, folder: Path, *arguments: str, environment: dict[str, str] | None = None) -> None:
        self.data = folder / "data"
        self._command = [sys.executable, "-m", "penstock", "dev", "--data", str(self.data)]
        self._command += ["--port", "0", "--http-port", "0", *arguments]
        self._environment = {**os.environ, **PATIENT, **(environment or {})}
        self._process: subprocess.Popen[str] | None = None
        self._ready = threading.Event()
        self.said: deque[str] = deque(maxlen=1_000)
        self.quick_ends: Counter[str] = Counter()
        """Of each process, how often in a row it was killed when it was young: `penstock dev` gives one up for that."""

    def start(self) -> None:
        if not self.data.exists():
            prepared(self.data / "postgres")
        self._process = subprocess.Popen(
            self._command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            text=True,
            env=self._environment,
            start_new_session=True,
        )
        threading.Thread(target=self._listen, args=(self._process,), daemon=True).start()
        assert self._ready.wait(READY_SECONDS), "\n".join(self.said)
        assert self._process.poll() is None, "\n".join(self.said)

    def _listen(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            self.said.append(line.rstrip())
            if "is ready" in line:
                self._ready.set()
        self._ready.set()

    def stop(self) -> None:
        process = self._process
        if process is None:
            return
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise

    @property
    def state(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.data / "dev.json").read_text())
        return found

    @property
    def address(self) -> str:
        return str(self.state["address"])

    def pid(self, name: str) -> int:
        return int(self.state["pids"][name])

    def kill(self, name: str) -> None:
        """As -9, and wait until another process has its place."""
        killed = self.pid(name)
        lived = time.time() - psutil.Process(killed).create_time()
        self.quick_ends[name] = 0 if lived > 2 * QUICK_SECONDS else self.quick_ends[name] + 1
        os.kill(killed, signal.SIGKILL)
        until(lambda: self.state["pids"].get(name) not in (None, killed), 60.0)

    def is_whole(self) -> bool:
        """Its coordinator answers, and says that both agents are there."""
        with contextlib.suppress(PenstockError), self.client() as client:
            agents = list(client.list_agents())
            return len(agents) == 2 and all(agent.state == admin.AGENT_STATE_CONNECTED for agent in agents)
        return False

    def client(self) -> SyncClient:
        return SyncClient(self.address)

    def penstock(self, *arguments: str, timeout: float = 150.0) -> subprocess.CompletedProcess[str]:
        """The command line, against this system."""
        return subprocess.run(
            [sys.executable, "-m", "penstock", *arguments],
            capture_output=True,
            text=True,
            timeout=timeout,
            env={**os.environ, "PENSTOCK_ADDRESS": self.address},
            check=False,
        )


def until(condition: Callable[[], bool], seconds: float) -> None:
    """Return when something outside this process has come about; fail if it does not."""
    deadline = time.monotonic() + seconds
    pause = threading.Event()
    while not condition():
        assert time.monotonic() < deadline, "it did not come about in time"
        pause.wait(0.02)


@contextlib.contextmanager
def running(folder: Path, *arguments: str) -> Iterator[DevSystem]:
    made = DevSystem(folder, *arguments)
    made.start()
    try:
        yield made
    finally:
        made.stop()


SHARED = pytest.StashKey[DevSystem]()


@pytest.fixture(scope="module")
def system(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> DevSystem:
    """Shared by all tests of the folder that leave it as it was."""
    return shared(request, SHARED, lambda: running(tmp_path_factory.mktemp("dev"), "--agents", "2"))


class Mortals:
    """The system whose processes may be killed: another one before `penstock dev` would give a process up."""

    def __init__(self, folders: pytest.TempPathFactory) -> None:
        self._folders = folders
        self._system: DevSystem | None = None

    def take(self) -> DevSystem:
        system = self._system
        if system is not None and max(system.quick_ends.values(), default=0) > MOST_QUICK_ENDS:
            self.stop()
        if self._system is None:
            self._system = DevSystem(self._folders.mktemp("mortal"), "--agents", "2")
            self._system.start()
        until(self._system.is_whole, READY_SECONDS)
        return self._system

    def stop(self) -> None:
        system, self._system = self._system, None
        if system is not None:
            system.stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.stop()


MORTALS = pytest.StashKey[Mortals]()


@pytest.fixture(scope="module")
def mortals(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Mortals:
    return shared(request, MORTALS, lambda: Mortals(tmp_path_factory))


@pytest.fixture
def mortal_system(mortals: Mortals) -> DevSystem:
    """Shared by tests that kill its processes, which are started again: it is whole when a test begins."""
    return mortals.take()


@pytest.fixture
def own_system(tmp_path: Path) -> Iterator[Callable[..., DevSystem]]:
    """For tests that break it for good, or need one that is new or has settings."""
    started: list[DevSystem] = []

    def start(*arguments: str, environment: dict[str, str] | None = None) -> DevSystem:
        made = DevSystem(tmp_path / f"dev-{len(started)}", *arguments, environment=environment)
        started.append(made)
        made.start()
        return made

    yield start
    with contextlib.ExitStack() as stack:
        for made in started:
            stack.callback(made.stop)


@pytest.fixture
def client(system: DevSystem) -> Iterator[SyncClient]:
    with system.client() as made:
        yield made

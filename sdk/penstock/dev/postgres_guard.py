"""Runs one PostgreSQL server for `penstock.dev.postgres`, and sees to it that it never outlives its supervisor.

A process of its own, started by path with `python -I -S`: it may import nothing but the standard library. Its standard
input is a pipe from the supervisor: one byte asks for a stop (`f` fast, `i` immediate), its end means that the
supervisor is gone, which is a fast stop too. That is safer than a parent-death signal from the supervisor itself: such
a signal is bound to the thread that started the child, and supervisors have threads that end. The guard has one thread,
so between guard and server the signal is right.

usage: postgres_guard.py UID GID STOP_SECONDS PASSED_FDS -- COMMAND...
UID -1 means: as the guard's own user. It exits as the server does, 128 + n for a signal.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable

_PR_SET_PDEATHSIG = 1


def _death_signal() -> Callable[[], None] | None:
    """What the child runs before it becomes the server: nothing where the system has no such signal."""
    if not sys.platform.startswith("linux"):
        return None
    prctl = ctypes.CDLL(None, use_errno=True).prctl

    def ask() -> None:
        prctl(_PR_SET_PDEATHSIG, int(signal.SIGINT), 0, 0, 0)

    return ask


def _start(uid: int, gid: int, fds: tuple[int, ...], command: list[str]) -> subprocess.Popen[bytes]:
    own = uid < 0
    return subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        pass_fds=fds,
        start_new_session=True,
        preexec_fn=_death_signal(),
        user=None if own else uid,
        group=None if own else gid,
        extra_groups=None if own else (),
    )


def _signals() -> int:
    """A file descriptor that becomes readable when the server ends or somebody asks the guard to end."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    os.set_blocking(reader, False)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda _number, _frame: None)
    # What a script starts in the background inherits that it is ignored, and so would the server until it is set up.
    signal.signal(signal.SIGQUIT, signal.SIG_DFL)
    return reader


class _Guard:
    def __init__(self, server: subprocess.Popen[bytes], wakeups: int, stop_seconds: float) -> None:
        self._server = server
        self._wakeups = wakeups
        self._stop_seconds = stop_seconds
        self._listening = True
        self._quit_time: float | None = None

    def run(self) -> int:
        while (code := self._server.poll()) is None:
            self._wait()
        return code if code >= 0 else 128 - code

    def _wait(self) -> None:
        sources = [self._wakeups, *([0] if self._listening else [])]
        timeout = None if self._quit_time is None else max(0.0, self._quit_time - time.monotonic())
        readable, _, _ = select.select(sources, [], [], timeout)
        if self._wakeups in readable and set(os.read(self._wakeups, 512)) - {int(signal.SIGCHLD)}:
            self._stop(signal.SIGINT)
        if 0 in readable:
            self._obey(os.read(0, 1))
        if not readable and self._quit_time is not None:
            self._stop(signal.SIGQUIT)

    def _obey(self, order: bytes) -> None:
        self._listening = bool(order)
        self._stop(signal.SIGQUIT if order == b"i" else signal.SIGINT)

    def _stop(self, how: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            self._server.send_signal(how)
        patience = self._stop_seconds if how is signal.SIGINT else None
        self._quit_time = None if patience is None else time.monotonic() + patience


def main(arguments: list[str]) -> int:
    uid, gid, stop_seconds, fds = arguments[:4]
    command = arguments[arguments.index("--") + 1 :]
    wakeups = _signals()
    server = _start(int(uid), int(gid), tuple(int(fd) for fd in fds.split(",") if fd), command)
    return _Guard(server, wakeups, float(stop_seconds)).run()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

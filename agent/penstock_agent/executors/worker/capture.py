"""Standard output and standard error of the attempts, line by line.

Descriptors 1 and 2 of the worker, and of whatever it starts, are pipes that a thread of the worker reads. At the end
of an attempt the worker looks into the pipes (`FIONREAD`) and waits for the rest only if there is any, so an attempt
that prints nothing costs two system calls. Past its quota the output of an attempt is read and thrown away, in large
pieces.
"""

from __future__ import annotations

import array
import fcntl
import os
import select
import signal
import socket
import termios
import threading
import time
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import msgspec

from penstock_agent.executors.channel import STDERR, STDOUT, SYSTEM, LogLines, frame
from penstock_agent.executors.worker.unsaid import PIECE, Unsaid

if TYPE_CHECKING:
    from penstock_agent.secrets.masking import Masker

LONGEST_LINE = 16 * 1024
TAIL_LINES = 20
TAIL_BYTES = 8 * 1024
GATHER = 0.01
"""Seconds that lines gather before they are read, while they keep coming: else a step that prints line by line is held
up at each of them. Whoever waits for the rest does not wait for this."""
MANY_LINES = 200
"""When so many came at once they have gathered by themselves."""
MIXED = 1.0
"""So many seconds after a step has used both of its streams nothing gathers: which line came first would be lost."""
DISCARD_PAUSE = 0.001
"""While output is thrown away the pipe is left to fill, so that the step is not woken for every line."""


@dataclass(slots=True)
class _Source:
    fd: int
    number: int
    rest: bytearray = field(default_factory=bytearray)
    read_at: float = -MIXED
    """When something was found in it by the thread that reads."""


class Capture:
    """`lines` and `size` (bytes) are the quota of one attempt."""

    def __init__(
        self, out: int, err: int, control: int, logs: socket.socket, unsaid: Unsaid, lines: int, size: int
    ) -> None:
        self._unsaid = unsaid
        self._sources = (_Source(out, STDOUT), _Source(err, STDERR))
        self._control = control
        self._logs = logs
        self._most_lines, self._most_bytes = lines, size
        self._lock = threading.Lock()
        self._waiting = array.array("i", [0])
        self._encoder = msgspec.msgpack.Encoder()
        self._handle = 0
        self._began = 0.0
        self._number = 0
        self._bytes = 0
        self._discarding = False
        self._looked_at = 0.0
        self._pending: list[tuple[int, int, int, str]] = []
        self._tail: deque[str] = deque(maxlen=TAIL_LINES)
        self._kept: bytearray | None = None
        self._keep_limit = 0
        self.masker: Masker | None = None
        """Of the secrets of the attempt; None: it has none."""

    def start(self) -> None:
        threading.Thread(target=self._read_on, name="penstock-output", daemon=True).start()

    def begin(self, handle: int, keep_stdout: int | None = None) -> None:
        """What comes from now on is this attempt's; `keep_stdout` bytes of standard output are kept as they are."""
        self._handle, self._began = handle, time.monotonic()
        self._number = self._bytes = 0
        self._discarding = False
        self._tail.clear()
        self._kept = None if keep_stdout is None else bytearray()
        self._keep_limit = keep_stdout or 0

    def end(self) -> None:
        """Everything that the attempt has printed is on its way to the agent."""
        if self._is_silent():
            return
        with self._lock:
            for source in self._sources:
                while self._read(source):
                    pass
                self._cut_lines(source, last=True)
            self._say()

    def add_system_line(self, text: str) -> None:
        """A word of the agent's own between the lines of the attempt."""
        with self._lock:
            self._add(SYSTEM, text)
            self._ship()

    @property
    def lines(self) -> int:
        """The number of the last line since `begin`."""
        return self._number

    @property
    def kept(self) -> bytes:
        """Standard output since `begin`, at most `keep_stdout` + 1 bytes."""
        return bytes(self._kept or b"")

    def last_error_lines(self) -> str:
        return "\n".join(self._tail)[-TAIL_BYTES:]

    def _is_silent(self) -> bool:
        for source in self._sources:
            fcntl.ioctl(source.fd, termios.FIONREAD, self._waiting)
            if self._waiting[0] or source.rest:
                return False
        # The thread reads under the lock: once it is free, what was read is shipped.
        if not self._lock.acquire(blocking=False):
            return False
        self._lock.release()
        return not any(source.rest for source in self._sources)

    def _read_on(self) -> None:
        poll = select.poll()
        for source in self._sources:
            poll.register(source.fd, select.POLLIN)
        poll.register(self._control, 0)
        while True:
            ready = poll.poll()
            if any(fd == self._control and event & (select.POLLHUP | select.POLLERR) for fd, event in ready):
                _die()
            if self._discarding:
                time.sleep(DISCARD_PAUSE)
            with self._lock:
                before = self._number
                for source in self._sources:
                    if self._read(source):
                        source.read_at = time.monotonic()
                        self._cut_lines(source, last=False)
                gathers = self._gathers(self._number - before)
                self._say()
            if gathers:
                time.sleep(GATHER)

    def _gathers(self, lines: int) -> bool:
        now = time.monotonic()
        goes_on = now - self._looked_at < 2 * GATHER
        self._looked_at = now
        is_mixed = all(now - source.read_at < MIXED for source in self._sources)
        return goes_on and lines < MANY_LINES and not is_mixed and not self._discarding

    def _read(self, source: _Source) -> bool:
        try:
            data = self._unsaid.read(source.number - STDOUT, source.fd)
        except BlockingIOError:
            return False
        if source.number == STDOUT and self._kept is not None:
            self._kept += data[: self._keep_limit + 1 - len(self._kept)]
        if self._discarding:
            # In pieces that are cut anywhere no secret is found: then rather no last words.
            if source.number == STDERR and self.masker is None:
                self._tail.extend(
                    line.decode(errors="replace") for line in data[-TAIL_BYTES:].splitlines()[-TAIL_LINES:]
                )
            source.rest.clear()
            self._settle()
            return True
        source.rest += data
        if len(source.rest) >= PIECE:
            self._cut_lines(source, last=False)
            self._say()
        return True

    def _cut_lines(self, source: _Source, *, last: bool) -> None:
        masker = self.masker
        secret = masker is not None and masker.finds(source.rest)
        *lines, rest = source.rest.split(b"\n")
        while len(rest) > LONGEST_LINE and (cut := masker.cut(rest, LONGEST_LINE) if masker else LONGEST_LINE):
            lines.append(rest[:cut])
            rest = rest[cut:]
        if last and rest:
            lines.append(rest)
            rest = bytearray()
        source.rest = rest
        if secret and masker is not None:
            lines = [bytearray(masker.mask(line)) for line in lines]
        for line in lines:
            for start in range(0, len(line) or 1, LONGEST_LINE):
                self._add_printed(source, line[start : start + LONGEST_LINE])

    def _add_printed(self, source: _Source, line: bytearray) -> None:
        text = line.rstrip(b"\r").decode(errors="replace")
        if source.number == STDERR:
            self._tail.append(text[:TAIL_BYTES])
        if self._discarding:
            return
        self._bytes += len(line) + 1
        if self._number >= self._most_lines or self._bytes > self._most_bytes:
            self._discarding = True
            limits = f"{self._most_lines:,} lines or {self._most_bytes:,} bytes"
            self._add(SYSTEM, f"the attempt printed more than {limits}: the rest is cut off")
            return
        self._add(source.number, text)

    def _add(self, source: int, text: str) -> None:
        self._number += 1
        offset = int((time.monotonic() - self._began) * 1e6)
        self._pending.append((self._number, source, offset, text))
        if len(self._pending) >= 500:
            self._ship()

    def _say(self) -> None:
        """Passes on all that was read, but for lines that have no end yet."""
        self._unsaid.say(self._handle, self._number, self._rests())
        self._ship()
        self._settle()

    def _settle(self) -> None:
        self._unsaid.settle(self._rests())

    def _rests(self) -> tuple[int, int]:
        out, err = self._sources
        return len(out.rest), len(err.rest)

    def _ship(self) -> None:
        """Blocks while the agent takes no lines: so does the step that prints them."""
        if not self._pending:
            return
        lines, self._pending = self._pending, []
        with suppress(BrokenPipeError, ConnectionResetError):
            self._logs.sendall(frame(self._encoder.encode(LogLines(self._handle, lines))))


def _die() -> None:
    """The agent is gone: nobody would hear of this attempt."""
    os.killpg(0, signal.SIGKILL)

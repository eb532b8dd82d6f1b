"""The log file of a child process: the child writes it itself, so that no line waits for its supervisor."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

MAX_BYTES = 10 * 1024 * 1024


class ChildLog:
    """At most about twice `max_bytes` on disk: the file and the one before it."""

    def __init__(self, path: Path, max_bytes: int = MAX_BYTES) -> None:
        self.path = path
        self._max_bytes = max_bytes
        self._read = path.stat().st_size if path.exists() else 0

    def open(self) -> int:
        """A descriptor for the child's output. It always appends, so the file may be emptied under it."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        return os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)

    def rotate(self) -> None:
        """Copy the file away and empty it, if it has grown too long. Lines written in between are lost."""
        if not self.path.exists() or self.path.stat().st_size <= self._max_bytes:
            return
        shutil.copyfile(self.path, self.path.with_suffix(".log.1"))
        os.truncate(self.path, 0)

    def new_lines(self) -> list[str]:
        """Whole lines that came since the last call."""
        if not self.path.exists():
            return []
        with self.path.open("rb") as opened:
            self._read = min(self._read, os.fstat(opened.fileno()).st_size)
            opened.seek(self._read)
            block = opened.read(1024 * 1024)
        whole = block.rfind(b"\n") + 1
        self._read += whole
        return block[:whole].decode(errors="replace").splitlines()

    def last_lines(self, count: int) -> list[str]:
        if not self.path.exists():
            return []
        with self.path.open("rb") as opened:
            opened.seek(max(0, os.fstat(opened.fileno()).st_size - 64 * 1024))
            return opened.read().decode(errors="replace").splitlines()[-count:]

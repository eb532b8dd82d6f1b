"""The agent's data folder: of one agent at a time, and where its name is kept."""

from __future__ import annotations

import fcntl
import os
import re
import secrets
import shutil
import socket
from pathlib import Path

_LONGEST_NAME = 128
_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9_.-]")


class FolderInUse(Exception):
    """Another agent has it."""


class FolderUnusable(Exception):
    """It cannot be made or written, or what it keeps is damaged. The text has the remedy."""


class DataFolder:
    """Locked until `close`, or the end of the process. Raises `FolderInUse`, `FolderUnusable`, `OSError`."""

    def __init__(self, path: Path) -> None:
        self.path = path.expanduser().resolve()
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._lock = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise FolderUnusable(
                f"the data folder {self.path} cannot be used ({error.strerror}): let this user write there, or give"
                " another --data-dir"
            ) from None
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(self._lock, 32, 0).decode(errors="replace").strip() or "unknown"
            os.close(self._lock)
            raise FolderInUse(
                f"the data folder {self.path} belongs to an agent that runs (process {holder}); "
                f"give each agent its own --data-dir"
            ) from None
        os.ftruncate(self._lock, 0)
        os.pwrite(self._lock, f"{os.getpid()}\n".encode(), 0)
        # What a killed agent left; nothing of it is ever used again.
        shutil.rmtree(self.work, ignore_errors=True)
        self.work.mkdir()

    @property
    def work(self) -> Path:
        """For the folders of workers and attempts."""
        return self.path / "work"

    @property
    def bundles(self) -> Path:
        return self.path / "bundles"

    @property
    def artifacts(self) -> Path:
        """Those that were fetched, by digest."""
        return self.path / "artifacts"

    @property
    def incoming(self) -> Path:
        """By attempt: the artifacts that it reads."""
        return self.work / "incoming"

    @property
    def spool(self) -> Path:
        return self.path / "spool"

    def agent_id(self, given: str) -> str:
        """`given`, or else the one that was made up when the folder was new."""
        kept = self.path / "agent-id"
        if given:
            return given
        if not kept.exists():
            host = _NOT_IN_NAMES.sub("-", socket.gethostname())[:64].strip(".-") or "agent"
            fresh = kept.with_suffix(".new")
            fresh.write_text(f"{host}-{secrets.token_hex(4)}\n")
            fresh.replace(kept)
        name = _decoded(kept.read_bytes()).strip()
        if not 1 <= len(name) <= _LONGEST_NAME or not name.isprintable():  # what coordinators take
            raise FolderUnusable(f"{kept} holds no name of an agent: remove it for a new one, or give --id")
        return name

    def close(self) -> None:
        shutil.rmtree(self.work, ignore_errors=True)
        os.close(self._lock)


def _decoded(text: bytes) -> str:
    try:
        return text.decode()
    except UnicodeDecodeError:
        return ""

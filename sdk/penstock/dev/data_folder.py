"""The folder of a development cluster.

postgres/       the database
coordinator/    the coordinator's identity
agents/NAME/    what an agent keeps: results on their way, unpacked bundles
logs/NAME.log   what each process says; NAME.log.1 is older
dev.json        where everything is, while the cluster runs
lock            held by the cluster and each of its processes; free once the last of them is gone
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import fcntl
import json
import os
import time
from pathlib import Path
from typing import Any

from penstock.dev.errors import DataFolderBusyError, DevClusterError

_RELEASE_SECONDS = 15.0
_POLL_SECONDS = 0.02


class DataFolder:
    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path).absolute()
        self.state_file = self.path / "dev.json"
        self._lock: int | None = None

    @property
    def lock(self) -> int:
        """The descriptor that a process of the cluster must inherit."""
        if self._lock is None:
            raise DevClusterError("the data folder is not taken", remedy="start the cluster first")
        return self._lock

    def log_file(self, name: str) -> Path:
        return self.path / "logs" / f"{name}.log"

    def secrets_key(self) -> Path:
        """The file of the key that users' secrets are encrypted with; made when it is first asked for, readable by its
        owner alone."""
        path = self.path / "secrets.key"
        if not path.exists():
            fresh = path.with_suffix(".new")
            fresh.touch(mode=0o600)
            fresh.write_bytes(base64.b64encode(os.urandom(32)) + b"\n")
            fresh.replace(path)
        return path

    async def take(self) -> None:
        """Make the folder and lock it. Processes of a former cluster that still end are waited for.

        Raises `DataFolderBusyError` if a cluster runs here.
        """
        try:
            self._make()
            lock = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise DevClusterError(
                f"the data folder {self.path} cannot be used: {error.strerror}",
                remedy="give another one with --data, or start as the user who made it",
            ) from None
        try:
            await self._await_lock(lock)
        except BaseException:
            os.close(lock)
            raise
        self._lock = lock

    def release(self) -> None:
        lock, self._lock = self._lock, None
        if lock is not None:
            self.state_file.unlink(missing_ok=True)
            os.close(lock)

    def write_state(self, state: dict[str, Any]) -> None:
        """Readers see the former content or this, never a part."""
        fresh = self.state_file.with_suffix(".new")
        fresh.write_text(json.dumps(state, indent=2) + "\n")
        fresh.replace(self.state_file)

    def read_state(self) -> dict[str, Any]:
        """What `dev.json` says; nothing if no cluster runs."""
        try:
            state = json.loads(self.state_file.read_text())
        except (OSError, ValueError):
            return {}
        return state if isinstance(state, dict) else {}

    def _make(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.mkdir(mode=0o700, exist_ok=True)
        (self.path / "logs").mkdir(exist_ok=True)
        ignore = self.path / ".gitignore"
        if not ignore.exists():
            ignore.write_text("# Data of penstock dev: for no repository and no bundle.\n*\n")

    async def _await_lock(self, lock: int) -> None:
        give_up = time.monotonic() + _RELEASE_SECONDS
        while not _try_lock(lock):
            pid = int(self.read_state().get("pid", 0))
            if _exists(pid) or time.monotonic() > give_up:
                raise DataFolderBusyError(
                    f"penstock dev runs on {self.path} already" + (f", with process id {pid}" if pid else ""),
                    remedy="use that one, stop it first, or give another folder with --data",
                    pid=pid,
                )
            await asyncio.sleep(_POLL_SECONDS)


def _try_lock(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _exists(pid: int) -> bool:
    if pid <= 0:
        return False
    with contextlib.suppress(PermissionError):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return False
    return True

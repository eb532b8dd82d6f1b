"""The folder of environments: which are whole, who uses them, which go.

Agents of one machine may share it. For each environment there is a lock file: whoever uses the environment holds it
shared, whoever builds or removes it holds it alone. Locks end with the process that holds them, so that a killed agent
leaves nothing behind but a half built folder, which bears another name than a whole one.
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from penstock_agent.environments.order import Built

_NEW = ".new"
_GONE = ".gone"
_LOCK = ".lock"
_ABOUT = "penstock/about.json"


@dataclass(frozen=True, slots=True)
class _Kept:
    key: str
    used_at: float
    size: int


class Shelf:
    """All methods may block: they are short, but for `finish`, `discard` and `shrink`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def find(self, key: str) -> Built | None:
        """If it is whole. To be asked under its lock."""
        home = self.folder / key
        try:
            about = json.loads((home / _ABOUT).read_bytes())
        except (OSError, ValueError):
            return None
        # The interpreter that it was made for may be gone since.
        built = Built(str(home), tuple(about["version"]))
        return built if os.access(built.python, os.X_OK) else None

    def new_home(self, key: str) -> Path:
        """Where it is built, under its lock, held alone. No place is given twice: what a killed agent has started may
        still write to the former one."""
        self.discard(key)
        return self.folder / f"{key}.{secrets.token_hex(4)}{_NEW}"

    def finish(self, key: str, new: Path) -> None:
        """What was built at `new` is whole. Under its lock, held alone. OSError, ValueError: it is not."""
        (new / "penstock").mkdir(exist_ok=True)
        (new / _ABOUT).write_text(json.dumps({"version": _version_of(new), "bytes": _size(new)}))
        home = self.folder / key
        _remove(home)  # it was not whole
        new.rename(home)
        if self.find(key) is None:
            raise ValueError("it has no interpreter that can be run")

    def discard(self, key: str) -> None:
        """What was begun of it. Under its lock, held alone."""
        for begun in self.folder.glob(f"{key}.*{_NEW}"):
            _remove(begun)

    def shrink(self, most: int, most_bytes: int) -> list[str]:
        """Remove the least recently used ones that nobody uses, until so many are left; which."""
        kept = sorted(self._kept(), key=lambda each: each.used_at)
        count, size = len(kept), sum(each.size for each in kept)
        gone: list[str] = []
        for each in kept:
            if count <= most and size <= most_bytes:
                break
            if self._remove_unused(each.key):
                gone.append(each.key)
                count, size = count - 1, size - each.size
        return gone

    def sweep(self) -> None:
        """Remove what killed agents have left half built or half removed."""
        for entry in list(self.folder.iterdir()):
            if entry.name.endswith(_GONE):
                shutil.rmtree(entry, ignore_errors=True)
            elif entry.name.endswith(_NEW):
                key = entry.name.partition(".")[0]
                lock = self.lock(key, alone=True)
                if lock is not None:
                    self.discard(key)
                    lock.release()

    def lock(self, key: str, *, alone: bool) -> Lock | None:
        """None: somebody else has it."""
        path = self.folder / f"{key}{_LOCK}"
        while True:
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(fd, (fcntl.LOCK_EX if alone else fcntl.LOCK_SH) | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(fd)
                return None
            # It may have been removed between the two: then it locks nothing.
            with suppress(FileNotFoundError):
                if path.stat().st_ino == os.fstat(fd).st_ino:
                    os.utime(fd)
                    return Lock(fd, path)
            os.close(fd)

    def _kept(self) -> Iterator[_Kept]:
        for entry in self.folder.iterdir():
            if entry.suffix not in {_NEW, _GONE, _LOCK} and entry.is_dir():
                with suppress(OSError, ValueError):
                    about = json.loads((entry / _ABOUT).read_bytes())
                    used_at = entry.with_name(f"{entry.name}{_LOCK}").stat().st_mtime
                    yield _Kept(entry.name, used_at, about["bytes"])

    def _remove_unused(self, key: str) -> bool:
        lock = self.lock(key, alone=True)
        if lock is None:
            return False
        _remove(self.folder / key)
        lock.path.unlink(missing_ok=True)
        lock.release()
        return True


class Lock:
    def __init__(self, fd: int, path: Path) -> None:
        self._fd = fd
        self.path = path

    def release(self) -> None:
        """The environment counts as used until now."""
        os.utime(self._fd)
        os.close(self._fd)


def _version_of(home: Path) -> list[int]:
    for line in (home / "pyvenv.cfg").read_text().splitlines():
        name, _, value = line.partition("=")
        if name.strip() == "version_info":
            return [int(part) for part in value.strip().split(".") if part.isdigit()]
    raise ValueError("it does not say which Python it is of")


def _remove(path: Path) -> None:
    """Renamed first: half an environment never bears the name of a whole one."""
    if not path.exists():
        return
    doomed = path.with_name(f"{path.name}{_GONE}")
    shutil.rmtree(doomed, ignore_errors=True)
    path.rename(doomed)
    shutil.rmtree(doomed, ignore_errors=True)


def _size(folder: Path) -> int:
    total = 0
    for where, _, files in os.walk(folder):
        total += sum(Path(where, file).lstat().st_size for file in files)
    return total

"""Artifacts that are on this machine already: one file for each digest, the least recently used ones go first.

Attempts get hard links, so a file may go from here while an attempt still reads it. A file that somebody has written
to through such a link is noticed by its times and size, and is not given out again.
"""

from __future__ import annotations

import os
import re
import shutil
from collections import Counter, OrderedDict
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from penstock_agent.artifacts.failures import StoreFailure
from penstock_agent.own_log import OwnLog

log = OwnLog(__name__)

_NAME = re.compile(r"[0-9a-f]{64}")
_MACHINE = "machine"
READ_ONLY = 0o444


class ArtifactCache:
    """At most `most_bytes` in `most` files below `folder`; `free_bytes()` of the disk stay above `floor_bytes`.

    What was there before the machine was started anew is removed: what is not synced may be torn then.
    """

    def __init__(
        self,
        folder: Path,
        most_bytes: int,
        floor_bytes: int,
        free_bytes: Callable[[], int],
        machine_boot_id: str,
        most: int = 100_000,
    ) -> None:
        self._folder = folder
        self._most_bytes = most_bytes
        self._most = most
        self._floor_bytes = floor_bytes
        self._free_bytes = free_bytes
        self._seals: OrderedDict[str, tuple[int, int, int]] = OrderedDict()
        """The least recently used one first: size, time of the last change and inode."""
        self._pins: Counter[str] = Counter()
        self._bytes = 0
        folder.mkdir(parents=True, exist_ok=True)
        self._take_stock(machine_boot_id)

    @property
    def size(self) -> int:
        """In bytes."""
        return self._bytes

    def pin(self, digest: str) -> None:
        """It is not removed until `unpin`, as often as this was called."""
        self._pins[digest] += 1

    def unpin(self, digest: str) -> None:
        self._pins[digest] -= 1
        if self._pins[digest] <= 0:
            del self._pins[digest]
        self._shrink()

    def find(self, digest: str) -> Path | None:
        """Its file, if it is here and as it was put here."""
        seal = self._seals.get(digest)
        if seal is None:
            return None
        path = self._path(digest)
        with suppress(OSError):
            if _seal(path) == seal:
                self._seals.move_to_end(digest)
                return path
        log.warning("cached_artifact_changed", digest=digest, effect="it is fetched anew")
        self._remove(digest)
        return None

    def part(self, digest: str) -> Path:
        """Where a download of it grows."""
        return self._folder / f"{_hex(digest)}.part"

    def keep(self, digest: str) -> Path:
        """Its part is whole, and is its file from now on. OSError."""
        part, path = self.part(digest), self._path(digest)
        part.chmod(READ_ONLY)
        part.replace(path)
        self._seals[digest] = seal = _seal(path)
        self._bytes += seal[0]
        self._shrink()
        return path

    def make_room(self, size: int) -> None:
        """For a download. Raises `StoreFailure`: the disk has none."""
        while self._free_bytes() - size < self._floor_bytes:
            if not self._remove_oldest():
                raise StoreFailure(
                    f"no room for an artifact of {size:,} bytes: {self._free_bytes():,} bytes are free below "
                    f"{self._folder}, and {self._floor_bytes:,} stay free (PENSTOCK_AGENT_DISK_FLOOR_BYTES)"
                )

    def _shrink(self) -> None:
        while (self._bytes > self._most_bytes or len(self._seals) > self._most) and self._remove_oldest():
            pass

    def _remove_oldest(self) -> bool:
        oldest = next((digest for digest in self._seals if digest not in self._pins), None)
        if oldest is None:
            return False
        self._remove(oldest)
        return True

    def _remove(self, digest: str) -> None:
        self._bytes -= self._seals.pop(digest)[0]
        self._path(digest).unlink(missing_ok=True)

    def _path(self, digest: str) -> Path:
        return self._folder / _hex(digest)

    def _take_stock(self, machine_boot_id: str) -> None:
        machine = self._folder / _MACHINE
        same = machine.exists() and machine.read_text() == machine_boot_id
        found: list[tuple[float, str, Path]] = []
        for entry in self._folder.iterdir():
            if same and _NAME.fullmatch(entry.name) and entry.is_file():
                found.append((entry.stat().st_mtime, entry.name, entry))
            elif entry != machine:
                _discard(entry)
        machine.write_text(machine_boot_id)
        for _, name, path in sorted(found):
            # Nobody knows what became of it while no agent was there.
            if path.stat().st_nlink > 1 or path.stat().st_mode & 0o222:
                _discard(path)
                continue
            self._seals[f"sha256:{name}"] = seal = _seal(path)
            self._bytes += seal[0]
        self._shrink()


def _seal(path: Path) -> tuple[int, int, int]:
    status = os.stat(path, follow_symlinks=False)  # noqa: PTH116 - for each input that is an artifact
    return status.st_size, status.st_mtime_ns, status.st_ino


def _hex(digest: str) -> str:
    return digest.removeprefix("sha256:")


def _discard(entry: Path) -> None:
    if entry.is_dir() and not entry.is_symlink():
        shutil.rmtree(entry, ignore_errors=True)
    else:
        entry.unlink(missing_ok=True)

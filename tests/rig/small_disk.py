"""A small disk of a test's own, to be filled up."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Self


class SmallDisk:
    """A tmpfs at the folder, for as long as it is used. Needs root."""

    def __init__(self, folder: Path, size: int) -> None:
        self.folder = folder
        self._size = size
        self._filler = folder / "filler"

    def __enter__(self) -> Self:
        self.folder.mkdir(parents=True, exist_ok=True)
        options = f"size={self._size},mode=0755"
        subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(self.folder)], check=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # Lazily: whoever still has a file open keeps what he has, and the disk goes with the last of them.
        subprocess.run(["umount", "-l", str(self.folder)], check=True)

    @property
    def free_bytes(self) -> int:
        found = os.statvfs(self.folder)
        return found.f_bavail * found.f_frsize

    def fill(self, leave: int = 0) -> None:
        """Take all room but that."""
        with self._filler.open("ab") as filler:
            room = self.free_bytes - leave
            if room > 0:
                os.posix_fallocate(filler.fileno(), filler.tell(), room)

    def free(self) -> None:
        """Give it back."""
        self._filler.unlink(missing_ok=True)

"""A folder as one tar archive: the same content gives the same bytes, whatever its times and owners are."""

from __future__ import annotations

import os
import stat
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from penstock_agent.core.archive_paths import BadPath, check_link, plain_path

MOST_ENTRIES = 100_000


class Unpackable(Exception):
    """Names what cannot be put into the archive."""


def pack(folder: Path, target: IO[bytes]) -> None:
    """Files, folders and symbolic links that stay inside; sorted, without compression. Raises `Unpackable`, OSError."""
    with tarfile.open(fileobj=target, mode="w|", format=tarfile.PAX_FORMAT, bufsize=1 << 20) as archive:
        for number, (path, name) in enumerate(_entries(folder)):
            if number >= MOST_ENTRIES:
                raise Unpackable(f"the folder has more than {MOST_ENTRIES:,} entries; pack it into a file first")
            try:
                _add(archive, path, plain_path(name, "folder"))
            except BadPath as error:
                raise Unpackable(str(error)) from None


def _entries(folder: Path) -> Iterator[tuple[Path, str]]:
    for where, folders, files in os.walk(folder, onerror=_fail):
        folders.sort()
        below = Path(where).relative_to(folder)
        for name in sorted([*folders, *files]):
            yield Path(where, name), (below / name).as_posix()


def _fail(error: OSError) -> None:
    raise error


def _add(archive: tarfile.TarFile, path: Path, name: str) -> None:
    status = path.lstat()
    member = tarfile.TarInfo(name)
    member.mode = 0o755 if status.st_mode & 0o111 else 0o644
    if stat.S_ISDIR(status.st_mode):
        member.type, member.mode = tarfile.DIRTYPE, 0o755
        archive.addfile(member)
    elif stat.S_ISLNK(status.st_mode):
        member.type, member.mode, member.linkname = tarfile.SYMTYPE, 0o777, _checked_link(path, name)
        archive.addfile(member)
    elif stat.S_ISREG(status.st_mode):
        member.size = status.st_size
        with path.open("rb") as content:
            archive.addfile(member, content)
    else:
        raise Unpackable(f"{name!r} is neither a file nor a folder nor a symbolic link")


def _checked_link(path: Path, name: str) -> str:
    target = str(path.readlink())
    check_link(name, target, "folder")
    return target

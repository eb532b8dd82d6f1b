"""Unpacks a code bundle, or the folder of an artifact, that nobody vouches for.

Every member is checked here before it is made; the archive library is trusted with the format alone, and never makes
anything. Refused: paths that are absolute or climb, links that could lead out, hard links, devices, pipes, sparse
files, names that come twice, and more files or bytes than there may be. What comes out of the compressor is counted
while it comes, so that a bomb is noticed before it goes off. What is refused leaves nothing.
"""

from __future__ import annotations

import os
import shutil
import sys
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from penstock_agent.core.archive_paths import BadPath, check_link, folded, plain_path, quoted
from penstock_agent.runtime.tar_stream import BadArchive, TarStream, gunzipped

__all__ = ["BUNDLE", "BadArchive", "Bounds", "unpack", "unpack_folder"]

FOLDER_ENTRIES = 100_000
_MEMBER_OVERHEAD = 4 * 1024
"""Headers and padding, of each member."""
_PADDING = 1024 * 1024
"""Behind the last file: archives are filled up to whole records."""
_FOLDER, _FILE, _LINK = "folder", "file", "link"
_FILES = (tarfile.REGTYPE, tarfile.AREGTYPE)


@dataclass(frozen=True, slots=True)
class Bounds:
    """`what` is unpacked, as people call it. `alike`: names may differ by case or Unicode form alone, as far as the
    file system tells them apart."""

    what: str
    files: int
    bytes: int
    alike: bool = False
    files_setting: str = ""
    bytes_setting: str = ""


BUNDLE = Bounds(
    "bundle",
    50_000,
    512 * 1024 * 1024,
    files_setting=" of PENSTOCK_AGENT_MAX_BUNDLE_FILES",
    bytes_setting=" of PENSTOCK_AGENT_MAX_BUNDLE_UNPACKED_SIZE",
)


def unpack(archive: Path, target: Path, bounds: Bounds = BUNDLE) -> int:
    """Of gzip-compressed tar into `target`, a new folder: the number of bytes. Raises `BadArchive`, OSError; then there
    is no folder."""
    overhead = 2 * bounds.files * _MEMBER_OVERHEAD + _PADDING
    with archive.open("rb") as packed:
        return _unpack(TarStream(gunzipped(packed), bounds.bytes + overhead), target, bounds)


def unpack_folder(archive: Path, target: Path) -> int:
    """As `unpack`, without compression: no more can come out than the archive has bytes."""
    size = archive.stat().st_size
    with archive.open("rb") as packed:
        return _unpack(TarStream(packed, size), target, Bounds("folder", FOLDER_ENTRIES, sys.maxsize, alike=True))


def _unpack(stream: TarStream, target: Path, bounds: Bounds) -> int:
    target.mkdir()
    try:
        return _Unpacker(target, bounds).unpack(stream)
    except BaseException as error:
        shutil.rmtree(target, ignore_errors=True)
        if isinstance(error, BadPath):
            raise BadArchive(str(error)) from None
        raise


class _Unpacker:
    def __init__(self, target: Path, bounds: Bounds) -> None:
        self._target = target
        self._bounds = bounds
        self._kinds: dict[str, str] = {"": _FOLDER}
        """What is at each path so far; the empty one is `target` itself."""
        self._alike: dict[str, str] = {}
        """Each of these paths by what a file system may take it for."""
        self._bytes = 0

    def unpack(self, stream: TarStream) -> int:
        for member in stream.members():
            self._make(plain_path(member.name, self._bounds.what), member, stream)
            if len(self._kinds) > self._bounds.files + 1:
                raise BadArchive(
                    f"the archive holds more than the {self._bounds.files:,} files{self._bounds.files_setting}"
                )
        if not self._bounds.alike and _FILE not in self._kinds.values():
            raise BadArchive("the archive holds no file: pack it again")
        return self._bytes

    def _make(self, path: str, member: tarfile.TarInfo, stream: TarStream) -> None:
        if member.size < 0:
            raise BadArchive(f"{quoted(path)} has a negative size: pack it again")
        if member.isdir():
            self._make_folder(path)
        elif member.issym():
            check_link(path, member.linkname, self._bounds.what)
            place = self._claim(path, _LINK)
            with _told_apart(path):
                place.symlink_to(member.linkname)
        elif member.type in _FILES and not _is_sparse(member):
            self._make_file(path, member, stream)
        else:
            kind = "a hard link" if member.islnk() else "neither a file, a folder nor a symbolic link"
            raise BadArchive(f"{quoted(path)} is {kind}: leave it out")

    def _make_folder(self, path: str) -> None:
        """With its parents. None of them may be a link, so nothing is ever made outside."""
        kind = self._kinds.get(path)
        if kind == _FOLDER:
            return
        if kind is not None:
            raise BadArchive(f"{quoted(path)} comes twice: pack it once")
        self._make_parent(path)
        self._add(path, _FOLDER)
        with _told_apart(path):
            (self._target / path).mkdir(mode=0o755)

    def _make_parent(self, path: str) -> None:
        parent = path.rpartition("/")[0]
        if self._kinds.get(parent, _FOLDER) != _FOLDER:
            raise BadArchive(f"{quoted(path)} lies below {quoted(parent)}, which is no folder")
        self._make_folder(parent)

    def _claim(self, path: str, kind: str) -> Path:
        if path in self._kinds:
            raise BadArchive(f"{quoted(path) if path else 'the folder itself'} comes twice: pack it once")
        self._make_parent(path)
        self._add(path, kind)
        return self._target / path

    def _add(self, path: str, kind: str) -> None:
        other = path if self._bounds.alike else self._alike.setdefault(folded(path), path)
        if other != path:
            raise BadArchive(f"{quoted(path)} and {quoted(other)} are one file on some machines: rename one of them")
        self._kinds[path] = kind

    def _make_file(self, path: str, member: tarfile.TarInfo, stream: TarStream) -> None:
        self._bytes += member.size
        if self._bytes > self._bounds.bytes:
            most = f"{self._bounds.bytes:,} bytes{self._bounds.bytes_setting}"
            raise BadArchive(f"the files of the archive have more than the {most}")
        file = self._claim(path, _FILE)
        mode = 0o755 if member.mode & 0o111 else 0o644
        with _told_apart(path):
            fd = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
        with os.fdopen(fd, "wb") as out:
            stream.copy(member, out)


@contextmanager
def _told_apart(path: str) -> Iterator[None]:
    """What is new by its name is so for the file system, too."""
    try:
        yield
    except (FileExistsError, NotADirectoryError):
        raise BadArchive(f"{quoted(path)} comes twice on this machine's file system: rename one of them") from None


def _is_sparse(member: tarfile.TarInfo) -> bool:
    return member.sparse is not None or any(name.startswith("GNU.sparse.") for name in member.pax_headers)

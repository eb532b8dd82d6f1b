"""Unpacks a code bundle, or the folder of an artifact, that nobody vouches for.

Every member is checked here before it is made; the archive library is trusted with the format alone. Refused: paths
that are absolute or climb, links that could lead out, hard links, devices, pipes, sparse files, names that come twice,
and more files or bytes than there may be. The bytes that come out of the compressor are counted while they come,
so that a bomb is noticed before it goes off.
"""

from __future__ import annotations

import gzip
import os
import tarfile
import zlib
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, cast

MOST_HEADER_BYTES = 1024 * 1024
"""Between the contents of two files."""
LONGEST_PATH = 1024
_PIECE = 256 * 1024


@dataclass(frozen=True, slots=True)
class Bounds:
    """`what` is unpacked, as people call it."""

    what: str
    files: int
    bytes: int


BUNDLE = Bounds("bundle", 50_000, 512 * 1024 * 1024)
FOLDER_FILES = 100_000


class BadArchive(Exception):
    """Names the member, and what is wrong with it."""


def unpack(archive: Path, target: Path) -> int:
    """Into `target`, a new folder: the number of bytes. Raises `BadArchive`; the folder may then be half full."""
    target.mkdir()
    try:
        with gzip.open(archive, "rb") as unpacked:
            source = _Metered(cast("IO[bytes]", unpacked))
            with tarfile.open(fileobj=cast("IO[bytes]", source), mode="r|", bufsize=64 * 1024) as members:
                return _Unpacker(target, source, BUNDLE).unpack(members)
    except (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile, UnicodeError) as error:
        raise BadArchive(f"no gzip-compressed tar archive: {error}") from error


def unpack_folder(archive: Path, target: Path) -> int:
    """As `unpack`, without compression: no more can come out than the archive has bytes."""
    target.mkdir()
    bounds = Bounds("folder", FOLDER_FILES, archive.stat().st_size)
    try:
        with archive.open("rb") as packed:
            source = _Metered(packed)
            with tarfile.open(fileobj=cast("IO[bytes]", source), mode="r|", bufsize=64 * 1024) as members:
                return _Unpacker(target, source, bounds).unpack(members)
    except (tarfile.TarError, EOFError, UnicodeError) as error:
        raise BadArchive(f"no tar archive: {error}") from error


class _Metered:
    """A stream that gives no more bytes than were allowed."""

    def __init__(self, source: IO[bytes]) -> None:
        self._source = source
        self._left = MOST_HEADER_BYTES

    def read(self, size: int) -> bytes:
        data = self._source.read(size)
        self._left -= len(data)
        if self._left < 0:
            raise BadArchive("the archive has more bytes between its files than any archive needs")
        return data

    def allow(self, size: int) -> None:
        """The next file has so many bytes."""
        self._left = MOST_HEADER_BYTES + size


class _Unpacker:
    def __init__(self, target: Path, source: _Metered, bounds: Bounds) -> None:
        self._target = target
        self._source = source
        self._bounds = bounds
        self._kinds: dict[PurePosixPath, str] = {PurePosixPath(): "folder"}
        self._bytes = 0

    def unpack(self, members: tarfile.TarFile) -> int:
        for member in members:
            path = _checked_path(member.name, self._bounds.what)
            if len(self._kinds) > self._bounds.files:
                raise BadArchive(f"more than {self._bounds.files:,} files")
            if member.isdir():
                self._make_folder(path)
            elif member.issym():
                self._make_link(path, member.linkname)
            elif member.isreg() and not member.issparse():
                self._make_file(path, member, members)
            else:
                raise BadArchive(f"{member.name!r} is neither a file nor a folder nor a symbolic link")
        return self._bytes

    def _make_folder(self, path: PurePosixPath) -> None:
        """With its parents. None of them may be a link, so nothing is ever made outside."""
        for folder in [*reversed(path.parents), path]:
            kind = self._kinds.get(folder)
            if kind is None:
                (self._target / folder).mkdir(mode=0o755)
                self._kinds[folder] = "folder"
            elif kind != "folder":
                raise BadArchive(f"{str(path)!r} lies below {str(folder)!r}, which is a {kind}")

    def _claim(self, path: PurePosixPath, kind: str) -> Path:
        if path in self._kinds:
            raise BadArchive(f"{str(path)!r} is there twice")
        self._make_folder(path.parent)
        self._kinds[path] = kind
        return self._target / path

    def _make_link(self, path: PurePosixPath, target: str) -> None:
        _check_link(path, target, self._bounds.what)
        self._claim(path, "link").symlink_to(target)

    def _make_file(self, path: PurePosixPath, member: tarfile.TarInfo, members: tarfile.TarFile) -> None:
        self._bytes += member.size
        if member.size < 0 or self._bytes > self._bounds.bytes:
            raise BadArchive(f"more than {self._bounds.bytes:,} bytes")
        self._source.allow(member.size)
        file = self._claim(path, "file")
        content = members.extractfile(member)
        assert content is not None
        mode = 0o755 if member.mode & 0o111 else 0o644
        fd = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
        with os.fdopen(fd, "wb") as out:
            while data := content.read(_PIECE):
                out.write(data)


def _checked_path(name: str, what: str) -> PurePosixPath:
    path = PurePosixPath(name)
    if not name or "\0" in name or len(name) > LONGEST_PATH:
        raise BadArchive(f"{name[:100]!r} is no name of a file")
    if path.is_absolute() or ".." in path.parts:
        raise BadArchive(f"{name!r} leads out of the {what}")
    return path


def _check_link(path: PurePosixPath, target: str, what: str) -> None:
    """Steps up come first, and not above the bundle: from there on a link can lead to places in the bundle alone."""
    parts = PurePosixPath(target).parts
    ups = next((at for at, part in enumerate(parts) if part != ".."), len(parts))
    climbs = ".." in parts[ups:] or ups > len(path.parent.parts)
    if not target or "\0" in target or target.startswith("/") or climbs or len(target) > LONGEST_PATH:
        raise BadArchive(f"the link {str(path)!r} leads out of the {what}")

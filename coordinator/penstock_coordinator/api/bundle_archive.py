"""Whether a stranger's archive may be unpacked: looked at member by member, without writing or keeping anything.

The archive is read once from its beginning to its end. Everything is counted while it is unpacked, never believed: a
few kilobytes can claim to be, or really become, terabytes.
"""

from __future__ import annotations

import io
import tarfile
import unicodedata
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO, cast

from penstock_coordinator.api.gunzip import BadGzip, Gunzip
from penstock_coordinator.core.plan.naming import quoted

if TYPE_CHECKING:
    from collections.abc import Iterable

MAX_PATH_BYTES = 1_024
MAX_NAME_BYTES = 255
MAX_HEADER_BYTES = 64 << 10
"""Of all headers of one member: only names and times are in them."""
MAX_MEMBER_OVERHEAD = 4 << 10
"""Headers and padding, of each member."""
_CHUNK = 64 << 10
_FOLDER = "folder"
_FILES = (tarfile.REGTYPE, tarfile.AREGTYPE)


@dataclass(frozen=True, slots=True)
class ArchiveLimits:
    packed_bytes: int = 64 << 20
    unpacked_bytes: int = 256 << 20
    files: int = 20_000


DEFAULT_ARCHIVE_LIMITS = ArchiveLimits()


class HostileArchive(Exception):
    """It must not be unpacked. The text says why and what to do."""


class TooLarge(Exception):
    """It passes a limit. The text names it."""


def check_archive(packed: bytes, limits: ArchiveLimits) -> None:
    """Raises `HostileArchive` or `TooLarge`. Takes time: not for the event loop."""
    checker = _Checker(limits)
    try:
        reader = _ForwardReader(io.BufferedReader(Gunzip(packed), _CHUNK), _stream_limit(limits))
        with tarfile.open(fileobj=cast("BinaryIO", reader), mode="r:") as archive:
            checker.check_all(archive, reader)
        reader.end()
    except (HostileArchive, TooLarge):
        raise
    except BadGzip as error:
        raise HostileArchive(f"the bytes are no whole gzip stream ({error}): pack it again") from None
    except Exception as error:  # a parser of strangers' bytes fails in more ways than it documents
        raise HostileArchive(
            f"the content is no tar archive that can be read ({type(error).__name__}): pack it again"
        ) from None


def _stream_limit(limits: ArchiveLimits) -> int:
    return limits.unpacked_bytes + 2 * limits.files * MAX_MEMBER_OVERHEAD + (1 << 20)


class _ForwardReader:
    """What tarfile needs of a file, over a stream that is only read forwards and never kept. Counts what it unpacks."""

    def __init__(self, stream: io.BufferedReader, limit: int) -> None:
        self._stream = stream
        self._limit = limit
        self._position = 0
        self._header_bytes = 0
        self._last = b""

    def begin_member(self) -> None:
        """What is read from here on are headers of the next member; files are only passed over."""
        self._header_bytes = 0

    def tell(self) -> int:
        return self._position

    def seek(self, position: int, whence: int = io.SEEK_SET) -> int:
        if whence != io.SEEK_SET or position < self._position:
            raise HostileArchive("the archive points backwards: pack it again")
        while self._position < position:
            if not self._take(min(_CHUNK, position - self._position)):
                raise HostileArchive("the archive ends in the middle of a file: pack it again")
        return position

    def read(self, size: int = -1) -> bytes:
        self._header_bytes += size
        if size < 0 or self._header_bytes > MAX_HEADER_BYTES:
            raise HostileArchive(f"a member of the archive has headers of more than {MAX_HEADER_BYTES:,} bytes")
        self._last = self._take(size)
        return self._last

    def end(self) -> None:
        """The last thing read must be the mark of the end, and only zeros may follow. Parsers that see anything else
        stop without a word, each at another place. At the end of the gzip stream its checksum is looked at."""
        rest = self._last
        while rest:
            if rest.strip(b"\0"):
                raise HostileArchive("the archive goes on after its end: pack it again")
            rest = self._take(_CHUNK)
        if self._last != bytes(tarfile.BLOCKSIZE):
            raise HostileArchive("the archive has no mark of its end: pack it again")

    def _take(self, size: int) -> bytes:
        data = self._stream.read(size)
        self._position += len(data)
        if self._position > self._limit:
            raise TooLarge(f"the archive unpacks to more than {self._limit:,} bytes")
        return data


class _Checker:
    def __init__(self, limits: ArchiveLimits) -> None:
        self._limits = limits
        self._kinds: dict[str, str] = {}
        """What is at each path so far: a folder, a file or a link."""
        self._alike: dict[str, str] = {}
        """Each of these paths by what a file system may take it for."""
        self._bytes = 0
        self._files = 0

    def check_all(self, archive: tarfile.TarFile, reader: _ForwardReader) -> None:
        members: Iterable[tarfile.TarInfo] = iter(archive.next, None)
        for member in members:
            self._check(member)
            reader.begin_member()
            # tarfile keeps every member that it has seen.
            archive.members = []  # type: ignore[attr-defined]  # not in its stub
        if not self._files:
            raise HostileArchive("the archive holds no file: pack it again")

    def _check(self, member: tarfile.TarInfo) -> None:
        path = _plain_path(member.name)
        if member.size < 0:
            raise HostileArchive(f"{quoted(path)} has a negative size: pack it again")
        if member.isdir():
            self._place(path, _FOLDER)
        elif member.type in _FILES and not _is_sparse(member):
            self._place(path, "file")
        elif member.issym():
            _check_link(path, member.linkname)
            self._place(path, "link")
        else:
            kind = "a hard link" if member.islnk() else "neither a file, a folder nor a symbolic link"
            raise HostileArchive(f"{quoted(path)} is {kind}: leave it out")
        self._count(member)

    def _count(self, member: tarfile.TarInfo) -> None:
        self._files += not member.isdir()
        self._bytes += member.size
        if self._files > self._limits.files or len(self._kinds) > 2 * self._limits.files:
            raise TooLarge(f"the archive holds more than the {self._limits.files:,} files of PENSTOCK_MAX_BUNDLE_FILES")
        if self._bytes > self._limits.unpacked_bytes:
            most = f"{self._limits.unpacked_bytes:,} bytes of PENSTOCK_MAX_BUNDLE_UNPACKED_SIZE"
            raise TooLarge(f"the files of the archive have more than the {most}")

    def _place(self, path: str, kind: str) -> None:
        """Nothing may come twice, or lie below what is no folder: who unpacks it could be led elsewhere."""
        if path == "." and kind == _FOLDER:
            return
        there = _FOLDER if path == "." else self._kinds.get(path)
        if there is not None and (there, kind) != (_FOLDER, _FOLDER):
            raise HostileArchive(f"{quoted(path)} comes twice: pack it once")
        parts = path.split("/")
        for end in range(1, len(parts)):
            parent = "/".join(parts[:end])
            if self._kinds.setdefault(parent, _FOLDER) != _FOLDER:
                raise HostileArchive(f"{quoted(path)} lies below {quoted(parent)}, which is no folder")
            self._tell_apart(parent)
        self._kinds[path] = kind
        self._tell_apart(path)

    def _tell_apart(self, path: str) -> None:
        other = self._alike.setdefault(_folded(path), path)
        if other != path:
            raise HostileArchive(
                f"{quoted(path)} and {quoted(other)} are one file on some machines: rename one of them"
            )


def _is_sparse(member: tarfile.TarInfo) -> bool:
    return member.sparse is not None or any(name.startswith("GNU.sparse.") for name in member.pax_headers)


def _folded(path: str) -> str:
    """The same for paths that some file system takes for one."""
    return path.lower() if path.isascii() else unicodedata.normalize("NFC", unicodedata.normalize("NFC", path).lower())


def _plain_path(name: str) -> str:
    """The path without "./" at its beginning and "/" at its end."""
    if len(name.encode("utf-8", "surrogateescape")) > MAX_PATH_BYTES:
        raise HostileArchive(f"{quoted(name)} has more than {MAX_PATH_BYTES:,} bytes: shorten it")
    if not name:
        raise HostileArchive("a member of the archive has no name: pack it again")
    if name.startswith("/"):
        raise HostileArchive(f"{quoted(name)} is an absolute path: pack relative ones")
    plain = name.removeprefix("./").rstrip("/") or "."
    if plain == ".":
        return plain
    for part in plain.split("/"):
        _check_part(name, part)
    return plain


def _check_part(name: str, part: str) -> None:
    if part == "..":
        raise HostileArchive(f"{quoted(name)} leads out of the bundle: pack what is inside")
    if part in ("", "."):
        raise HostileArchive(f"{quoted(name)} is no plain path: pack it again")
    if not part.isprintable() or "\\" in part:
        raise HostileArchive(f"{quoted(name)} holds a character that no file name should: rename the file")
    if len(part.encode("utf-8", "surrogateescape")) > MAX_NAME_BYTES:
        raise HostileArchive(f"{quoted(name)} has a part of more than {MAX_NAME_BYTES} bytes: shorten it")


def _check_link(path: str, target: str) -> None:
    """A symbolic link may lead anywhere inside. Its own folder is a real one: nothing may lie below a link."""
    if not target or target.startswith("/") or not target.isprintable() or "\\" in target:
        raise HostileArchive(
            f"the link {quoted(path)} does not lead to a relative path, so it leads out of the bundle: leave it out"
        )
    if len(target.encode("utf-8", "surrogateescape")) > MAX_PATH_BYTES:
        raise HostileArchive(f"the link {quoted(path)} leads to more than {MAX_PATH_BYTES:,} bytes: leave it out")
    # After a name, ".." would lead to the parent of wherever that name leads: if it is a link, maybe out.
    parts = [part for part in target.split("/") if part not in ("", ".")]
    ups = next((number for number, part in enumerate(parts) if part != ".."), len(parts))
    if ups > path.count("/") or ".." in parts[ups:]:
        raise HostileArchive(f"the link {quoted(path)} leads out of the bundle: pack the file in its place")

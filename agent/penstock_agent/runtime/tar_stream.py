"""A tar archive, compressed or not, read once from its beginning to its end.

The archive library is trusted with the form of headers alone. What it passes over without a word is refused here: bytes
behind the end or none at all, members that point backwards, headers without end.
"""

from __future__ import annotations

import io
import tarfile
import zlib
from collections.abc import Callable, Iterator
from typing import IO, TypeVar, cast

T = TypeVar("T")

MOST_HEADER_BYTES = 64 * 1024
"""Of all headers of one member: only names and times are in them."""
MOST_STREAMS = 10_000
"""That one gzip file consists of, one behind the other."""
_PIECE = 256 * 1024
_GZIP = 31
"""Tells zlib to expect a header and a checksum of gzip."""


class BadArchive(Exception):
    """Names the member, and what is wrong with it."""


def gunzipped(packed: IO[bytes]) -> IO[bytes]:
    return io.BufferedReader(_Gunzip(packed), _PIECE)


class _Gunzip(io.RawIOBase):
    """What is in a gzip file. Its checksums are looked at, and nothing may follow."""

    def __init__(self, packed: IO[bytes]) -> None:
        self._packed = packed
        self._stream = zlib.decompressobj(_GZIP)
        self._streams = 1
        self._rest = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]  # its stub knows Buffer, which is of 3.12
        data = self._take(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def _take(self, size: int) -> bytes:
        while True:
            try:
                data = self._stream.decompress(self._rest, size)
            except zlib.error as error:
                raise BadArchive(f"the bytes are no whole gzip stream ({error}): pack it again") from None
            self._rest = b"" if self._stream.eof else self._stream.unconsumed_tail
            if data or (not self._rest and not self._more()):
                return data

    def _more(self) -> bool:
        """Whether there is more to unpack."""
        ended = self._stream.eof
        self._rest = (self._stream.unused_data if ended else b"") or self._packed.read(_PIECE)
        if not self._rest:
            if not ended:
                raise BadArchive("the bytes are no whole gzip stream (cut off): pack it again")
            return False
        if ended:
            self._stream = zlib.decompressobj(_GZIP)
            self._streams += 1
            if self._streams > MOST_STREAMS:
                raise BadArchive(
                    f"the bytes are no whole gzip stream (more than {MOST_STREAMS:,} of them): pack it again"
                )
        return True


class TarStream:
    """Goes through the members of an archive. Raises `BadArchive`, also after `most_bytes`, and OSError of `source`."""

    def __init__(self, source: IO[bytes], most_bytes: int) -> None:
        self._source = source
        self._most_bytes = most_bytes
        self._position = 0
        self._header_bytes = 0
        self._last = b""

    def members(self) -> Iterator[tarfile.TarInfo]:
        """Before the next one, `copy` may be called; or its content is passed over. To the end: then it was whole."""
        archive = self._parsed(lambda: tarfile.TarFile(fileobj=cast("IO[bytes]", self)))
        while (member := self._parsed(archive.next)) is not None:
            self._header_bytes = 0
            # The library keeps every member that it has seen.
            archive.members = []  # type: ignore[attr-defined]  # not in its stub
            yield member
        self._end()

    def copy(self, member: tarfile.TarInfo, target: IO[bytes]) -> None:
        """The content of the member that came last."""
        if self._position != member.offset_data:
            raise BadArchive("the archive points elsewhere than it says: pack it again")
        left = member.size
        while left:
            data = self._take(min(_PIECE, left))
            if not data:
                raise BadArchive("the archive ends in the middle of a file: pack it again")
            target.write(data)
            left -= len(data)

    # --- what the library calls

    def tell(self) -> int:
        return self._position

    def seek(self, position: int, whence: int = io.SEEK_SET) -> int:
        if whence != io.SEEK_SET or position < self._position:
            raise BadArchive("the archive points backwards: pack it again")
        while self._position < position:
            if not self._take(min(_PIECE, position - self._position)):
                raise BadArchive("the archive ends in the middle of a file: pack it again")
        return position

    def read(self, size: int = -1) -> bytes:
        """Of headers."""
        self._header_bytes += size
        if size < 0 or self._header_bytes > MOST_HEADER_BYTES:
            raise BadArchive(f"a member of the archive has headers of more than {MOST_HEADER_BYTES:,} bytes")
        self._last = self._take(size)
        return self._last

    # ---

    def _take(self, size: int) -> bytes:
        data = self._source.read(size)
        self._position += len(data)
        if self._position > self._most_bytes:
            raise BadArchive(f"the archive unpacks to more than {self._most_bytes:,} bytes")
        return data

    def _parsed(self, parse: Callable[[], T]) -> T:
        try:
            return parse()
        except (BadArchive, OSError):
            raise
        except Exception as error:  # a parser of strangers' bytes fails in more ways than it documents
            raise BadArchive(
                f"the content is no tar archive that can be read ({type(error).__name__}): pack it again"
            ) from None

    def _end(self) -> None:
        """The last thing read must be the mark of the end, and only zeros may follow."""
        last = rest = self._last
        while rest:
            if rest.strip(b"\0"):
                raise BadArchive("the archive goes on after its end: pack it again")
            rest = self._take(_PIECE)
        if last != bytes(tarfile.BLOCKSIZE):
            raise BadArchive("the archive has no mark of its end: pack it again")

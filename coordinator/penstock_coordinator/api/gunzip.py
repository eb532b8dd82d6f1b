"""What is in a gzip file, piece by piece. Checksums are looked at, and nothing may follow.

The module of the standard library takes seconds for a few megabytes of empty streams, or of zeros behind the last one.
"""

from __future__ import annotations

import io
import zlib

MOST_STREAMS = 10_000
"""One behind the other."""
_PIECE = 256 << 10
_GZIP = 31
"""Tells zlib to expect a header and a checksum of gzip."""


class BadGzip(Exception):
    """It is none, is not whole, or goes on after its end."""


class Gunzip(io.RawIOBase):
    def __init__(self, packed: bytes) -> None:
        self._packed = io.BytesIO(packed)
        self._stream = zlib.decompressobj(_GZIP)
        self._streams = 1
        self._rest = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]  # its stub knows Buffer, which is of 3.12
        """Raises `BadGzip`."""
        data = self._take(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def _take(self, size: int) -> bytes:
        while True:
            try:
                data = self._stream.decompress(self._rest, size)
            except zlib.error as error:
                raise BadGzip(str(error)) from None
            self._rest = b"" if self._stream.eof else self._stream.unconsumed_tail
            if data or (not self._rest and not self._more()):
                return data

    def _more(self) -> bool:
        """Whether there is more to unpack."""
        ended = self._stream.eof
        self._rest = (self._stream.unused_data if ended else b"") or self._packed.read(_PIECE)
        if not self._rest:
            if not ended:
                raise BadGzip("cut off")
            return False
        if ended:
            self._stream = zlib.decompressobj(_GZIP)
            self._streams += 1
            if self._streams > MOST_STREAMS:
                raise BadGzip(f"more than {MOST_STREAMS:,} of them")
        return True

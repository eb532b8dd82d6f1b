"""What a worker has taken out of its pipes and has not passed on yet.

It is read straight into memory that the agent has too: a worker that dies between the two, by a crash or by `_exit`,
takes nothing along, neither its last lines nor a line that had no end yet.
"""

from __future__ import annotations

import mmap
import os
import struct

PIECE = 256 * 1024
"""The most that one read takes."""
_ROOM = 2 * PIECE
"""Of one pipe: a line without an end, and a piece."""
_HEAD = struct.Struct("<QQQQ")
"""Once the line of this number of this handle is heard, nothing but so many last bytes of each pipe are unsaid."""
_READS = struct.Struct("<Q")
"""How often the pipes were read."""
_START = _HEAD.size + _READS.size
SIZE = _START + 2 * _ROOM


class Unsaid:
    """The worker's side. The pipes are 0 and 1."""

    def __init__(self, fd: int) -> None:
        self._memory = mmap.mmap(fd, SIZE)
        view = memoryview(self._memory)
        self._pipes = (view[_START : _START + _ROOM], view[_START + _ROOM :])
        self._used = [0, 0]
        self._reads = 0

    def read(self, pipe: int, fd: int) -> bytes:
        """Raises BlockingIOError if there is nothing. `settle` comes before a pipe was read for more than a piece."""
        start = self._used[pipe]
        room = self._pipes[pipe][start : start + PIECE]
        count = os.readv(fd, [room])
        self._used[pipe] = start + count
        self._reads += 1
        _READS.pack_into(self._memory, _HEAD.size, self._reads)
        return bytes(room[:count])

    def say(self, handle: int, number: int, rests: tuple[int, int]) -> None:
        """What was read is about to be passed on, but for the rests; its last line is `number`."""
        _HEAD.pack_into(self._memory, 0, handle, number, *rests)

    def settle(self, rests: tuple[int, int]) -> None:
        """It was passed on, or is not wanted: the rests alone are kept."""
        for pipe, (region, rest) in enumerate(zip(self._pipes, rests, strict=True)):
            used = self._used[pipe]
            if used != rest:
                kept = bytes(region[used - rest : used])
                region[:used] = kept + bytes(used - rest)
                self._used[pipe] = rest
        _HEAD.pack_into(self._memory, 0, 0, 0, 0, 0)


def reads_in(fd: int) -> int:
    """Grows while the worker reads its pipes."""
    reads: int
    (reads,) = _READS.unpack(os.pread(fd, _READS.size, _HEAD.size))
    return reads


def left_in(fd: int, handle: int, heard: int) -> tuple[bytes, bytes]:
    """What a dead worker left of each pipe; `heard` is the number of the newest line of that attempt that came.

    Where it died in the middle of more lines than go at once, some of them may be told twice.
    """
    memory = os.pread(fd, SIZE, 0)
    of, number, *rests = _HEAD.unpack_from(memory)
    said = number and of == handle and heard >= number
    pipes = memory[_START : _START + _ROOM], memory[_START + _ROOM :]
    out, err = (
        data[len(data) - rest :] if said else data
        for data, rest in zip((pipe.rstrip(b"\0") for pipe in pipes), rests, strict=True)
    )
    return out, err

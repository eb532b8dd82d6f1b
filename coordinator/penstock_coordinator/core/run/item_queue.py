"""Items of one map that wait for something, in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator


class ItemQueue:
    """First in, first out, in ranges. What waits is told by a byte per item, its mark, which others keep: an item whose
    mark is another one is passed over. So nothing is ever taken out of the middle."""

    __slots__ = ("_ranges",)

    def __init__(self) -> None:
        self._ranges: deque[list[int]] = deque()

    def add(self, first: int, stop: int) -> None:
        """Put the items at the end."""
        ranges = self._ranges
        if ranges and ranges[-1][1] == first:
            ranges[-1][1] = stop
        elif first < stop:
            ranges.append([first, stop])

    def walk(self, marks: bytearray, mark: int) -> Iterator[int]:
        """Those that have the mark, in order. The queue must not change meanwhile."""
        for first, stop in self._ranges:
            at = marks.find(mark, first, stop)
            while at >= 0:
                yield at
                at = marks.find(mark, at + 1, stop)

    def trim(self, marks: bytearray, mark: int) -> bool:
        """Forget what has not the mark at the head. Whether any is left."""
        ranges = self._ranges
        while ranges:
            entry = ranges[0]
            at = marks.find(mark, entry[0], entry[1])
            if at >= 0:
                entry[0] = at
                return True
            ranges.popleft()
        return False

    def pop(self, marks: bytearray, mark: int) -> int:
        """Take the first that has the mark; -1 if none has."""
        if not self.trim(marks, mark):
            return -1
        entry = self._ranges[0]
        entry[0] += 1
        return entry[0] - 1

    def clear(self) -> None:
        self._ranges.clear()
